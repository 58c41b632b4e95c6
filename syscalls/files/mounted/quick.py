"""The short way (../quick.py) where the pod's tree is mounted: for every call with a path."""

from __future__ import annotations

from ...actions import SyscallError
from ...context import Args, Context
from ...task import Task
from ..quick import Check, first_argument, opens
from .find import is_magic
from .paths import CALLS, PathCall


def second_argument(context: Context, task: Task, args: Args) -> bool:
    """readlinkat(2) of a known path for reading; relative ones, while nobody has a pod directory."""
    try:
        path = task.read_string(args[1])
    except SyscallError:
        return False
    return path in context.local_reads or _is_relative(context, path)


def second_or_descriptor(context: Context, task: Task, args: Args) -> bool:
    """fstatat(2), statx(2): as `second_argument`; of a descriptor always, since attributes are the kernel's."""
    try:
        path = task.read_string(args[1])
    except SyscallError:
        return False
    return path in context.local_reads or not path or _is_relative(context, path)


def change_of_directory(context: Context, task: Task, args: Args) -> bool:
    """chdir(2) to a known path, unless that is a magic link."""
    try:
        path = task.read_string(args[0])
    except SyscallError:
        return False
    return path in context.local_reads and not is_magic(path)


def unused(context: Context, task: Task, args: Args) -> bool:
    """fchdir(2), getcwd(2), fsetxattr(2), while no tracee can have a pod directory."""
    return context.mount is not None and not context.mount.is_used


def access(context: Context, task: Task, args: Args) -> bool:
    """access(2) of a path known for what is asked."""
    return _known(context, task, args[0], bool(args[1] & 2))


def access_at(context: Context, task: Task, args: Args) -> bool:
    """faccessat(2), faccessat2(2): as `access`."""
    return _known(context, task, args[1], bool(args[2] & 2))


def created(context: Context, task: Task, args: Args) -> bool:
    """creat(2) of a path known for writing."""
    return _known(context, task, args[0], True)


def _known(context: Context, task: Task, address: int, write: bool) -> bool:
    try:
        path = task.read_string(address)
    except SyscallError:
        return False
    return path in (context.local_writes if write else context.local_reads)


def _is_relative(context: Context, path: bytes) -> bool:
    return path in context.plain_paths and context.mount is not None and not context.mount.is_used


def _check(call: PathCall) -> Check:
    if len(call.paths) == 1:
        at, write = call.paths[0].at, call.paths[0].write
        return lambda context, task, args: _known(context, task, args[at], write)
    wanted = [(path.at, path.write) for path in call.paths]
    return lambda context, task, args: all(_known(context, task, args[at], write) for at, write in wanted)


CHECKS: dict[str, Check] = {call.name: _check(call) for call in CALLS} | {
    "open": opens(0, 1),
    "openat": opens(1, 2),
    "creat": created,
    "stat": first_argument,
    "lstat": first_argument,
    "readlink": first_argument,
    "execve": first_argument,
    "execveat": lambda context, task, args: _known(context, task, args[1], False),
    "newfstatat": second_or_descriptor,
    "statx": second_or_descriptor,
    "readlinkat": second_argument,
    "access": access,
    "faccessat": access_at,
    "faccessat2": access_at,
    "chdir": change_of_directory,
    "fchdir": unused,
    "fsetxattr": unused,
    "getcwd": unused,
}
"""Syscall name -> check, for those that have one."""
