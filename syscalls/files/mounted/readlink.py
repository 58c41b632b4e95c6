"""readlink(2), readlinkat(2) where the pod's tree is mounted.

Links of the pod are shown with their own targets: those in the mount are rewritten so that they stay inside. Links in /proc
show pod paths natively, but for /proc/self/exe of a program that was started by way of its loader (execve.py).
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator

from ....agent.wire.messages import LinkTarget, ReadLink
from ...abi.flags import AT_FDCWD, to_int32
from ...actions import Action, Continue, Decision, Handling, Outcome, Reason, Return, Route, SyscallError
from ...context import Args, Context
from ...task import Task
from ..place import BAD_ARGUMENT, LOCAL_OBJECT, PATH_MAX, Place, asked, normalise
from .attributes import attributes_of
from .find import DELETED, PROGRAM, REMOTE_OBJECT, find, opened_path, program_behind
from .running import Target, run_at


def readlink(context: Context, task: Task, args: Args) -> Handling:
    """readlink(2): 1 stop; remote 1 round trip, and none for what is known to be no link."""
    return (yield from _readlink(context, task, AT_FDCWD, args[0], args[1], args[2], 0))


def readlinkat(context: Context, task: Task, args: Args) -> Handling:
    """readlinkat(2): as readlink(2). An empty path means the link that `dirfd` is (O_PATH|O_NOFOLLOW)."""
    return (yield from _readlink(context, task, args[0], args[1], args[2], args[3], 1))


def _readlink(
    context: Context, task: Task, dirfd: int, address: int, buffer: int, size_register: int, path_argument: int
) -> Handling:
    try:
        path = task.read_string(address, PATH_MAX)
    except SyscallError:
        return BAD_ARGUMENT
    size_bytes = to_int32(size_register)
    if not path and path_argument:
        return (yield from _opened(context, task, dirfd, buffer, size_bytes))
    program = _program(task, path)
    if program is not None:
        return _returned(program[1], buffer, size_bytes, program[0])
    place = find(context, task, dirfd, address, follow=False)
    if isinstance(place, Continue):
        return place
    if place.decision.route is Route.LOCAL:
        return (yield from run_at(context, task, [Target(path_argument, place, False)]))
    _check_size(size_bytes, place.decision)
    target = yield from _target(context, place)
    return _returned(target, buffer, size_bytes, place.decision)


def _opened(context: Context, task: Task, dirfd: int, buffer: int, size_bytes: int) -> Handling:
    path = opened_path(context, task, dirfd)
    if path is None:
        return LOCAL_OBJECT
    if not path or path.endswith(DELETED):
        return REMOTE_OBJECT
    decision = Decision(Route.REMOTE, Reason.REMOTE_OBJECT, path)
    _check_size(size_bytes, decision)
    try:
        reply = yield from asked(ReadLink(path), LinkTarget, decision)
    except SyscallError as error:
        # An empty path names no link.
        raise SyscallError(errno.ENOENT if error.errno == errno.EINVAL else error.errno, decision) from None
    return _returned(reply.target, buffer, size_bytes, decision)


def _program(task: Task, path: bytes) -> tuple[Decision, bytes] | None:
    if not path.startswith(b"/proc/"):
        return None
    match = PROGRAM.match(normalise(path)[0])
    program = program_behind(task, match) if match is not None else b""
    return (Decision(Route.REMOTE, Reason.REMOTE_OBJECT, program), program) if program else None


def _target(context: Context, place: Place) -> Generator[Action, Outcome, bytes]:
    # A slash behind a link follows it, and what it leads to is no link.
    attributes = yield from attributes_of(context, place, False)
    if not stat.S_ISLNK(attributes.mode):
        raise SyscallError(errno.EINVAL, place.decision)
    return (yield from asked(ReadLink(place.decision.path), LinkTarget, place.decision)).target


def _check_size(size_bytes: int, decision: Decision) -> None:
    if size_bytes <= 0:
        raise SyscallError(errno.EINVAL, decision)


def _returned(target: bytes, buffer: int, size_bytes: int, decision: Decision) -> Return:
    _check_size(size_bytes, decision)
    shown = target[:size_bytes]
    return Return(len(shown), decision, ((buffer, shown),))
