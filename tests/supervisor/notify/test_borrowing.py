"""What becomes of calls that only the thread itself can make."""

from __future__ import annotations

import errno

import pytest
from mirrord_trace.syscalls.actions import Continue, Handling, Keep, Scratch, run
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from notified import supervise
from rig import DECISION, apart

pytestmark = pytest.mark.usefixtures("both_loops")

_IN_A_TRACED_CHILD = """
if os.fork() == 0:
    libc.ptrace(0, 0, 0, 0)
    {}
    os._exit(0)
status = 0x57f
while os.WIFSTOPPED(status):
    status = os.wait()[1]
    libc.ptrace(7, os.getpid() + 1, 0, 0)
"""


def _led(context: Context, task: Task, args: Args) -> Handling:
    """openat(2) and chdir(2) of a path that is not there: of another."""
    at = 0 if args[0] >> 32 and args[0] >> 32 != 0xFFFFFFFF else 1
    if task.read_string(args[at]) != b"/nowhere":
        return Continue(DECISION)
    yield from run({at: Scratch(b"/proc/self\0")})
    return Keep(DECISION)


@apart
def test_a_descriptor_of_o_path_is_one() -> None:
    text = """
fd = os.open('/nowhere', os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
say(os.readlink('/proc/self/fd/%d' % fd), bool(fcntl.fcntl(fd, 3) & os.O_PATH), os.get_inheritable(fd))
"""
    assert supervise("import fcntl" + text, {"openat": _led}).lines() == ["/proc/self True False"]


@apart
def test_while_another_traces_the_thread() -> None:
    opened = "fd = os.open('/nowhere', os.O_PATH); say(os.listdir(fd) != [])"
    run = supervise(_IN_A_TRACED_CHILD.format(opened), {"openat": _led})
    assert run.lines() == ["True"]
    assert run.notices == ["O_PATH descriptors of the pod's files are readable ones for a process that a debugger traces"]


@apart
def test_a_directory_while_another_traces_the_thread() -> None:
    moved = "say(libc.chdir(b'/nowhere'), ctypes.get_errno())"
    run = supervise(_IN_A_TRACED_CHILD.format(moved), {"chdir": _led})
    assert run.lines() == [f"-1 {errno.EACCES}"]
    assert "EACCES" in run.notices[0]
