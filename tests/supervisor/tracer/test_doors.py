"""Doors into the mounted tree for other users."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from mirrord_trace.supervisor.tracer.doors import Doors, User, open_door
from mirrord_trace.syscalls.mount import Mount
from mirrord_trace.syscalls.task import Task
from rig import apart

OWN = (os.geteuid(), os.getegid())
NOBODY = (65534, 65534)


def _task(tgid: int, user: User) -> Task:
    return cast(Task, SimpleNamespace(tid=tgid, tgid=tgid, credentials=lambda: user))


class Starter:
    """Stands for `open_door`."""

    def __init__(self, *pids: int) -> None:
        self._pids = list(pids)
        self.users: list[User] = []

    def __call__(self, root_fd: int, user: User) -> int:
        """The next pid."""
        self.users.append(user)
        return self._pids.pop(0)


def test_a_door_is_opened_once_a_user_and_remembered_for_the_process() -> None:
    start = Starter(70, 80)
    doors = Doors(Mount(b"/proc/1/fd/9", 0, lambda: 0), 9, start)
    one, two = _task(1, NOBODY), _task(2, NOBODY)
    assert doors.prefix(one) == b"/proc/1/fd/9"
    assert doors.other(one) == b"/proc/70/fd/3"
    assert doors.prefix(one) == b"/proc/70/fd/3"
    assert doors.other(one) == b""
    assert doors.prefix(two) == b"/proc/1/fd/9"
    assert doors.other(two) == b"/proc/70/fd/3"
    assert doors.other(_task(2, (33, 33))) == b"/proc/80/fd/3"
    assert start.users == [NOBODY, (33, 33)]


def test_our_own_user_needs_none() -> None:
    doors = Doors(Mount(b"/proc/1/fd/9", 0, lambda: 0), 9, Starter(70))
    assert doors.other(_task(1, OWN)) == b""
    doors.other(_task(1, NOBODY))
    assert doors.other(_task(1, OWN)) == b"/proc/1/fd/9"
    assert doors.prefix(_task(1, OWN)) == b"/proc/1/fd/9"


def test_where_no_door_can_be_opened() -> None:
    doors = Doors(Mount(b"/proc/1/fd/9", 0, lambda: 0), 9, Starter(0))
    assert doors.other(_task(1, NOBODY)) == b""
    assert doors.prefix(_task(1, NOBODY)) == b"/proc/1/fd/9"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A directory that only a descriptor leads to, for anybody but root."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "x").write_text("through the door")
    inner.chmod(0o755)
    tmp_path.chmod(0o700)
    fd = os.open(inner, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user: this needs root")
def test_another_user_can_go_through(root: int) -> None:
    mount = Mount(b"/proc/%d/fd/%d" % (os.getpid(), root), 0, lambda: 0)
    doors = Doors(mount, root)
    path = doors.other(_task(1, NOBODY)) + b"/x"
    program = "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); print(open(sys.argv[1]).read())"
    command = [sys.executable, "-I", "-S", "-c", program]
    assert subprocess.run([*command, path], capture_output=True, text=True, check=True).stdout == "through the door\n"
    assert subprocess.run([*command, mount.prefix + b"/x"], capture_output=True, check=False).returncode
    pid = int(path.split(b"/")[2])
    doors.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@apart
def test_an_ordinary_user_can_open_none() -> None:
    if os.getuid() == 0:
        os.setresuid(65533, 65533, 65533)
    assert open_door(os.open("/", os.O_PATH), NOBODY) == 0
