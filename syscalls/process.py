"""Calls about the process and its machine: uname(2), clone(2), ptrace(2)."""

from __future__ import annotations

import errno
from collections.abc import Mapping

from .abi.utsname import NODENAME_AT, pack_field
from .actions import Continue, Decision, Handling, Keep, Reason, Return, Route, Scratch, SyscallError, run
from .context import Args, Context
from .task import Task
from .views import NEW_VIEWS, OWN, View, is_own


def uname(context: Context, task: Task, args: Args) -> Handling:
    """uname(2): nodename becomes the pod's hostname, all else stays this machine's.

    2 stops; 1 if the hostname is local.
    """
    decision = context.policy.hostname()
    if decision.route is not Route.REMOTE:
        return Continue(decision)
    if is_own(context, task, View.NAME):
        return OWN
    result = yield from run()
    if result < 0:
        return Keep(decision)
    return Return(result, decision, ((args[0] + NODENAME_AT, pack_field(context.pod.hostname)),))


CLONE_UNTRACED = 0x00800000
_CLONE_ARGS_LIMIT = 256
_SUPERVISED = Decision(Route.LOCAL, Reason.NOT_OURS)
_UNTOUCHED = Continue(_SUPERVISED)


def clone(context: Context, task: Task, args: Args) -> Handling:
    """clone(2) with CLONE_UNTRACED, without that flag: an untraced child would get ENOSYS for every call of the table.

    Stops only with the flag, or with one that makes a namespace (views.py). 2 stops, or 1.
    """
    flags = args[0]
    _note_views(context, flags)
    if not flags & CLONE_UNTRACED:
        return _UNTOUCHED
    yield from run({0: flags & ~CLONE_UNTRACED})
    return Keep(_SUPERVISED)


def clone3(context: Context, task: Task, args: Args) -> Handling:
    """clone3(2): as clone(2). Its flags are in memory, so it always stops; 1 stop without the flag."""
    size = args[1]
    if not 8 <= size <= _CLONE_ARGS_LIMIT:
        return _UNTOUCHED
    try:
        content = task.read(args[0], size)
    except SyscallError:
        return _UNTOUCHED
    flags = int.from_bytes(content[:8], "little")
    _note_views(context, flags)
    if not flags & CLONE_UNTRACED:
        return _UNTOUCHED
    yield from run({0: Scratch((flags & ~CLONE_UNTRACED).to_bytes(8, "little") + content[8:])})
    return Keep(_SUPERVISED)


def _note_views(context: Context, flags: int) -> None:
    if any(flags & view for view in NEW_VIEWS):
        context.has_views = True


KEPT = ("clone", "clone3", "ptrace", "chroot", "pivot_root", "unshare", "setns", "mount", "move_mount")
"""The calls that come to their handlers in skipped processes, too (supervisor/tracer/skipping.py): nobody may get away from
the tracer, since the filter goes along, a debugger that cannot work is told as anywhere, and what a process executes is in
the namespaces (views.py) that it has made."""


def kept(numbers: Mapping[str, int]) -> frozenset[int]:
    """The numbers of those."""
    return frozenset(numbers[name] for name in KEPT if name in numbers)


TRACING_BEGINS = (0, 16, 0x4206)
"""PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE."""


def ptrace(context: Context, task: Task, args: Args) -> Handling:
    """ptrace(2) that begins to trace: the kernel's EPERM of a process that is supervised comes with a line for the user.

    2 stops; other requests do not stop.
    """
    result = yield from run()
    if result == -errno.EPERM:
        context.notice(
            "ptrace",
            f"process {task.tgid} may not trace (EPERM): a process has one tracer, and of supervised ones that is "
            "mirrord-trace; debuggers and strace need --engine notify, LeakSanitizer that or ASAN_OPTIONS=detect_leaks=0",
        )
    return Keep(_SUPERVISED)
