"""Doors into the mounted tree for other users."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from mirrord_trace.supervisor.tracer.doors import Doors, User, open_door
from mirrord_trace.supervisor.tracer.tracee import credentials_of
from mirrord_trace.syscalls.mount import Mount
from mirrord_trace.syscalls.task import Credentials, Task
from rig import apart

OWN = credentials_of(os.getpid())
NOBODY = OWN._replace(uid=65534, gid=65534, permitted=0)
BOXED = OWN._replace(user_namespace=1)
WEAK = OWN._replace(permitted=0)


def _task(tgid: int, credentials: Credentials) -> Task:
    return cast(Task, SimpleNamespace(tid=tgid, tgid=tgid, credentials=lambda: credentials))


def _user(credentials: Credentials) -> User:
    return User(credentials.uid, credentials.gid, credentials.user_namespace)


class Starter:
    """Stands for `open_door`."""

    def __init__(self, *pids: int) -> None:
        self._pids = list(pids)
        self.users: list[User] = []

    def __call__(self, root_fd: int, user: User, tid: int) -> int:
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
    assert doors.other(_task(2, BOXED)) == b"/proc/80/fd/3"
    assert start.users == [_user(NOBODY), _user(BOXED)]


@pytest.mark.skipif(os.getuid() != 0, reason="capabilities to be without: this needs root")
def test_who_has_fewer_capabilities_needs_one() -> None:
    doors = Doors(Mount(b"/proc/1/fd/9", 0, lambda: 0), 9, Starter(70))
    assert doors.other(_task(1, WEAK)) == b"/proc/70/fd/3"
    assert doors.other(_task(1, WEAK)) == b""


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


# The first three lines are for root, the last two for everybody.
_BECOME = {
    "user": "os.setgroups([]); os.setgid(65534); os.setuid(65534)",
    "weak": "libc.capset(struct.pack('Ii', 0x20080522, 0), bytes(24))",
    "weak user": "os.setgid(65534); libc.prctl(8, 1, 0, 0, 0); os.setuid(65534)",
    "namespace": "libc.unshare(0x10000000)",
    "mapped": "uid = os.getuid(); libc.unshare(0x10000000); open('/proc/self/uid_map', 'w').write(f'7 {uid} 1')",
}


@pytest.mark.parametrize("how", _BECOME)
def test_whoever_one_is_there_is_a_way(root: int, how: str) -> None:
    if os.getuid() != 0 and how in ("user", "weak", "weak user"):
        pytest.skip("becoming another user: this needs root")
    program = "import ctypes, os, struct, sys; libc = ctypes.CDLL(None)\n" + _BECOME[how] + (
        "\nprint(flush=True)\nfor line in sys.stdin:\n"
        "    try: print(open(line.rstrip() + '/x').read(), flush=True)\n"
        "    except OSError as error: print(error.errno, flush=True)"
    )
    mount = Mount(b"/proc/%d/fd/%d" % (os.getpid(), root), 0, lambda: 0)
    doors = Doors(mount, root)
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
        process.stdin.write(mount.prefix.decode() + "\n")
        process.stdin.flush()
        assert int(process.stdout.readline()) == errno.EACCES
        path = doors.other(_task(process.pid, credentials_of(process.pid)))
        process.stdin.write(path.decode() + "\n")
        process.stdin.close()
        assert process.stdout.readline() == "through the door\n"
    pid = int(path.split(b"/")[2])
    doors.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@apart
def test_an_ordinary_user_can_open_none() -> None:
    if os.getuid() == 0:
        os.setresuid(65533, 65533, 65533)
    assert open_door(os.open("/", os.O_PATH), _user(NOBODY), os.getpid()) == 0
