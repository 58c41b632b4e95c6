"""A tracee gets an open file of ours, by its path or, where it may not look there, as a copy."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from mirrord_trace.supervisor.tracer.give import copy_into_memfd, descriptor_path
from mirrord_trace.syscalls.actions import Given, Handling, Keep, give_file
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.table import Handler
from mirrord_trace.syscalls.task import Task
from rig import CALL, DECISION, Child, Supervised, apart, supervise, syscall

pytestmark = pytest.mark.usefixtures("both_loops")

_CONTENT = b"content of the pod's file\n" * 1000
_SHOW = """
def show(fd):
    say(fd >= 0, os.lseek(fd, 0, os.SEEK_CUR), os.fstat(fd).st_size, os.pread(fd, 7, 0).decode(), os.get_inheritable(fd))
"""


def _file() -> int:
    fd = os.memfd_create("given")
    os.write(fd, _CONTENT)
    return fd


def _giving(given: list[Given], fds: list[int], flags: int = 0) -> Handler:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        fds.append(_file())
        given.append((yield from give_file(fds[-1], flags)))
        assert task.file_key(given[-1].result) == given[-1].key or given[-1].result < 0
        return Keep(DECISION)

    return handler


def _all_closed(fds: list[int]) -> bool:
    return not any(_is_memfd(fd) for fd in fds)


def _is_memfd(fd: int) -> bool:
    try:
        return "given" in os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return False


def test_the_path_names_our_own_descriptor() -> None:
    assert descriptor_path(7) == b"/proc/%d/fd/7\0" % os.getpid()


@apart
@pytest.mark.parametrize("flags", [0, os.O_CLOEXEC])
def test_it_opens_a_description_of_its_own(flags: int) -> None:
    given: list[Given] = []
    fds: list[int] = []
    done = supervise(_SHOW + "show(call()); show(call())", {CALL: _giving(given, fds, flags)})
    assert done.lines() == [f"True 0 {len(_CONTENT)} content {not flags}"] * 2
    assert _all_closed(fds)
    assert given[0].key != given[1].key


@apart
@pytest.mark.parametrize("flags", [0, os.O_CLOEXEC])
def test_in_a_chroot_it_gets_a_copy(flags: int, tmp_path: Path) -> None:
    given: list[Given] = []
    fds: list[int] = []
    program = f"""
if os.getuid(): libc.unshare(0x10000000)
try: os.chroot({str(tmp_path)!r})
except OSError: say('cannot chroot'); sys.exit()
show(call())
"""
    done = supervise(_SHOW + program, {CALL: _giving(given, fds, flags)})
    if done.lines() == ["cannot chroot"]:
        return
    assert done.lines() == [f"True 0 {len(_CONTENT)} content {not flags}"]
    assert _all_closed(fds)


@apart
def test_as_another_user_it_gets_a_copy() -> None:
    if os.getuid() != 0:
        return  # only root can become somebody else
    given: list[Given] = []
    fds: list[int] = []
    program = "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534); show(call())"
    done = supervise(_SHOW + program, {CALL: _giving(given, fds)})
    assert done.lines() == [f"True 0 {len(_CONTENT)} content True"]
    assert _all_closed(fds)


@apart
def test_without_a_free_descriptor_it_is_emfile() -> None:
    given: list[Given] = []
    fds: list[int] = []
    program = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
try:
    while True: os.dup(0)
except OSError: pass
say(call())
"""
    done = supervise(program, {CALL: _giving(given, fds)})
    assert done.lines() == [str(-errno.EMFILE)]
    assert given == [Given(-errno.EMFILE, given[0].key)]
    assert _all_closed(fds)


def _killing(when: str) -> Callable[[Supervised], None]:
    def prepare(run: Supervised) -> None:
        original = run.driver.has_run if when == "opened" else run.driver.rewind

        def kill(*arguments: object) -> None:
            tracee = next(iter(run.tree.tracees.values()))
            os.kill(tracee.tid, signal.SIGKILL)
            os.waitid(os.P_PID, tracee.tid, os.WEXITED | os.WNOWAIT)
            original(*arguments)  # type: ignore[arg-type]

        setattr(run.driver, original.__name__, kill)

    return prepare


@apart
def test_killed_on_the_way_our_descriptor_is_closed() -> None:
    given: list[Given] = []
    fds: list[int] = []
    done = supervise("call()", {CALL: _giving(given, fds)}, prepare=_killing("mapped"))
    assert done.end is not None
    assert done.end.signal == signal.SIGKILL
    assert given == []
    assert fds
    assert _all_closed(fds)


@apart
def test_a_copy_is_whole_and_leaves_the_offset_alone() -> None:
    def body() -> int:
        fd = os.memfd_create("empty")
        os.dup2(fd, 40)
        return syscall(CALL)

    child = Child(body)
    child.next()
    source = os.memfd_create("large")
    os.truncate(source, 3 << 20)
    os.pwrite(source, b"end", (3 << 20) - 3)
    key = copy_into_memfd(child.tracee(), 40, source)
    copy = child.tracee().duplicate(40)
    status = os.fstat(copy)
    assert key == (status.st_dev, status.st_ino)
    assert status.st_size == 3 << 20
    assert os.pread(copy, 3, (3 << 20) - 3) == b"end"
    assert os.lseek(copy, 0, os.SEEK_CUR) == 0
    child.kill()
