"""access(2), faccessat(2), faccessat2(2) where the pod's tree is mounted: what the pod's container may do.

Whether a file is there comes from its attributes, which may be known; what may be done with it only the pod can tell.
"""

from __future__ import annotations

import errno
import os

from ....agent.wire.messages import Access, Done
from ...abi.flags import AT_EACCESS, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW
from ...actions import Continue, Handling, Reason, Return, Route, SyscallError
from ...context import Args, Context
from ...task import Task
from ..place import Place, asked
from .attributes import attributes_of
from .find import find
from .running import Target, run_at

_FLAGS = AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH
_MODES = os.R_OK | os.W_OK | os.X_OK


def access(context: Context, task: Task, args: Args) -> Handling:
    """access(2): 1 stop; remote 1 round trip, or none for F_OK of a known path."""
    return (yield from _access(context, task, AT_FDCWD, args[0], args[1], 0, 0))


def faccessat(context: Context, task: Task, args: Args) -> Handling:
    """faccessat(2), the call without flags: as access(2)."""
    return (yield from _access(context, task, args[0], args[1], args[2], 0, 1))


def faccessat2(context: Context, task: Task, args: Args) -> Handling:
    """faccessat2(2): as access(2). AT_EACCESS makes no difference in the pod."""
    return (yield from _access(context, task, args[0], args[1], args[2], args[3], 1))


def _access(context: Context, task: Task, dirfd: int, address: int, mode: int, flags: int, path_argument: int) -> Handling:
    follow = not flags & AT_SYMLINK_NOFOLLOW
    write = bool(mode & os.W_OK)
    place = find(context, task, dirfd, address, write=write, follow=follow, empty=bool(flags & AT_EMPTY_PATH))
    if isinstance(place, Continue):
        return place
    if place.decision.route is Route.LOCAL:
        return (yield from run_at(context, task, [Target(path_argument, place)]))
    if mode & 0xFFFF_FFFF & ~_MODES or flags & 0xFFFF_FFFF & ~_FLAGS:
        raise SyscallError(errno.EINVAL, place.decision)
    return (yield from _remote_access(context, place, mode & _MODES, follow))


def _remote_access(context: Context, place: Place, mode: int, follow: bool) -> Handling:
    if place.directory or not mode:
        yield from attributes_of(context, place, follow)
    if place.decision.reason is Reason.POD_HOSTNAME:
        if mode & (os.W_OK | os.X_OK):
            raise SyscallError(errno.EACCES, place.decision)
    elif mode:
        yield from asked(Access(place.decision.path, mode, follow or place.directory), Done, place.decision)
    return Return(0, place.decision)
