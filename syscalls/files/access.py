"""access(2), faccessat(2), faccessat2(2): what the pod's container may do, not what a stand-in allows.

Asking for write access is decided as opening for writing is: where writes stay local, so does the question.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from typing import NamedTuple

from ...agent.wire.messages import Access, Done
from ..abi.flags import AT_EACCESS, AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW
from ..actions import Action, Continue, Handling, Outcome, Reason, Return, Route, SyscallError
from ..context import Args, Context
from ..task import Task
from .place import Place, asked, find, run_elsewhere
from .stat import attributes_of

_FLAGS = AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH
_MODES = os.R_OK | os.W_OK | os.X_OK


class Tier(NamedTuple):
    """What the check of a path takes from where the pod's files are: copied, here, or mounted.

    `find`: as `place.find`. `elsewhere`: has the kernel run the call on a LOCAL place, which is that argument of it.
    `look`: raises if what is at a REMOTE place will not do for this mode; False if nothing is left to be asked.
    """

    find: Callable[..., Continue | Place]
    elsewhere: Callable[[Context, Task, Place, int], Handling]
    look: Callable[[Context, Place, int, bool], Generator[Action, Outcome, bool]]


def access(context: Context, task: Task, args: Args) -> Handling:
    """access(2): local 1 stop; remote 1 stop, 1 round trip."""
    return (yield from check(_COPIED, context, task, AT_FDCWD, args[0], args[1], 0, 0))


def faccessat(context: Context, task: Task, args: Args) -> Handling:
    """faccessat(2), the call without flags: local 1 stop; remote 1 stop, 1 round trip."""
    return (yield from check(_COPIED, context, task, args[0], args[1], args[2], 0, 1))


def faccessat2(context: Context, task: Task, args: Args) -> Handling:
    """faccessat2(2): local 1 stop; remote 1 stop, 1 round trip. AT_EACCESS makes no difference in the pod."""
    return (yield from check(_COPIED, context, task, args[0], args[1], args[2], args[3], 1))


def check(
    tier: Tier, context: Context, task: Task, dirfd: int, address: int, mode: int, flags: int, path_argument: int
) -> Handling:
    """faccessat2(2) of a path, in either tier."""
    follow = not flags & AT_SYMLINK_NOFOLLOW
    write = bool(mode & os.W_OK)
    place = tier.find(context, task, dirfd, address, write=write, follow=follow, empty=bool(flags & AT_EMPTY_PATH))
    if isinstance(place, Continue):
        return place
    if place.decision.route is Route.LOCAL:
        return (yield from tier.elsewhere(context, task, place, path_argument))
    if mode & 0xFFFF_FFFF & ~_MODES or flags & 0xFFFF_FFFF & ~_FLAGS:
        raise SyscallError(errno.EINVAL, place.decision)
    mode &= _MODES
    is_open_question = yield from tier.look(context, place, mode, follow)
    if place.decision.reason is Reason.POD_HOSTNAME:
        if mode & (os.W_OK | os.X_OK):
            raise SyscallError(errno.EACCES, place.decision)
    elif is_open_question:
        yield from asked(Access(place.decision.path, mode, follow or place.directory), Done, place.decision)
    return Return(0, place.decision)


def _look(context: Context, place: Place, mode: int, follow: bool) -> Generator[Action, Outcome, bool]:
    del context, mode, follow
    if place.directory:
        yield from attributes_of(place, True)
    return True


_COPIED = Tier(find, lambda context, task, place, argument: run_elsewhere(place, argument), _look)
