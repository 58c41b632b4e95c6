"""The short way for calls on paths that are known to be local, which is nearly every stop of most programs.

A check looks at the path and says whether the kernel may run the call untouched; no handler is begun. It knows only
what handlers have decided before (`Context.local_reads`, `local_writes`): on anything else it says no, and the handler
decides. Whatever a check lets through, the handler would have let through as well.
"""

from __future__ import annotations

from collections.abc import Callable

from ..abi.flags import O_PATH, WRITING
from ..actions import SyscallError
from ..context import Args, Context
from ..task import Task

Check = Callable[[Context, Task, Args], bool]
"""True: let the kernel run it."""


def opens(path_argument: int, flags_argument: int) -> Check:
    """open(2), openat(2) of a path known for what it is opened for."""

    def check(context: Context, task: Task, args: Args) -> bool:
        try:
            path = task.read_string(args[path_argument])
        except SyscallError:
            return False
        flags = args[flags_argument]
        return path in (context.local_writes if flags & WRITING and not flags & O_PATH else context.local_reads)

    return check


def first_argument(context: Context, task: Task, args: Args) -> bool:
    """stat(2), lstat(2), readlink(2) of a known path."""
    try:
        return task.read_string(args[0]) in context.local_reads
    except SyscallError:
        return False


def second_argument(context: Context, task: Task, args: Args) -> bool:
    """fstatat(2), statx(2), readlinkat(2) of a known path; of a descriptor, while none can be the pod's."""
    try:
        path = task.read_string(args[1])
    except SyscallError:
        return False
    return path in context.local_reads or not (path or context.objects)


def descriptor(context: Context, task: Task, args: Args) -> bool:
    """fstat(2), getdents64(2) and others on a descriptor, while none can be the pod's."""
    return not context.objects


CHECKS: dict[str, Check] = {
    "open": opens(0, 1),
    "openat": opens(1, 2),
    "stat": first_argument,
    "lstat": first_argument,
    "readlink": first_argument,
    "newfstatat": second_argument,
    "statx": second_argument,
    "readlinkat": second_argument,
    "fstat": descriptor,
    "getdents": descriptor,
    "getdents64": descriptor,
    "fchdir": descriptor,
}
"""Syscall name -> check, for those that have one."""
