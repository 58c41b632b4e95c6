"""readlink(2), readlinkat(2): links of the pod, and the names of pod files behind /proc/self/fd/N."""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator

from ...agent.wire.messages import LinkTarget, ReadLink
from ..abi.flags import AT_FDCWD, to_int32
from ..actions import Action, Continue, Handling, Outcome, Reason, Return, Route, SyscallError
from ..context import Args, Context
from ..task import Task
from .place import BAD_ARGUMENT, Place, asked, find, run_elsewhere
from .stat import attributes_of


def readlink(context: Context, task: Task, args: Args) -> Handling:
    """readlink(2): local or /proc/self/fd/N 1 stop; remote 1 stop, 1 round trip."""
    place = find(context, task, AT_FDCWD, args[0])
    if isinstance(place, Continue):
        return place
    return (yield from _readlink(place, args[1], args[2], 0))


def readlinkat(context: Context, task: Task, args: Args) -> Handling:
    """readlinkat(2): as readlink(2). An empty path means the link that `dirfd` is (O_PATH|O_NOFOLLOW)."""
    if not args[1]:
        return BAD_ARGUMENT  # NULL is no empty path here
    place = find(context, task, args[0], args[1], empty=True)
    if isinstance(place, Continue):
        return place
    return (yield from _readlink(place, args[2], args[3], 1))


def _readlink(place: Place, address: int, size_register: int, path_argument: int) -> Handling:
    if place.decision.route is Route.LOCAL:
        return (yield from run_elsewhere(place, path_argument))
    size_bytes = to_int32(size_register)
    if size_bytes <= 0:
        raise SyscallError(errno.EINVAL, place.decision)
    target = (yield from _target(place))[:size_bytes]
    return Return(len(target), place.decision, ((address, target),))


def _target(place: Place) -> Generator[Action, Outcome, bytes]:
    if place.directory:
        # A slash behind a link follows it, and what it leads to is no link.
        yield from attributes_of(place, True)
        raise SyscallError(errno.EINVAL, place.decision)
    if place.remote is not None:
        if place.proc_fd >= 0:
            # The name that the tracee knows it by: opening it leads to the same file again.
            return place.remote.name
        if not stat.S_ISLNK(place.remote.stat.mode):
            by_name = place.decision.reason is Reason.POD_HOSTNAME
            raise SyscallError(errno.EINVAL if by_name else errno.ENOENT, place.decision)
    reply = yield from asked(ReadLink(place.decision.path), LinkTarget, place.decision)
    return reply.target
