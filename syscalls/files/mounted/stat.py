"""stat(2), lstat(2), newfstatat(2), statx(2) by path where the pod's tree is mounted.

On a descriptor they are native. With AT_STATX_FORCE_SYNC the kernel asks the relay then, but cannot tell it why: so the relay
is told before that to ask the pod.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Generator

from ...abi import stat as stat_layout
from ...abi import statx as statx_layout
from ...abi.flags import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_STATX_FORCE_SYNC,
    AT_STATX_SYNC_TYPE,
    AT_SYMLINK_NOFOLLOW,
)
from ...actions import Action, Continue, Decision, Handling, Outcome, Reason, Return, Route, SyscallError
from ...context import Args, Context
from ...task import Task
from ..place import Place
from .attributes import attributes_of
from .find import REMOTE_OBJECT, find, opened_path
from .running import Target, run_at

_STATAT_FLAGS = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH


def stat(context: Context, task: Task, args: Args) -> Handling:
    """stat(2): 1 stop; remote at most 1 round trip."""
    return (yield from _stat(context, task, AT_FDCWD, args[0], args[1], 0, 0))


def lstat(context: Context, task: Task, args: Args) -> Handling:
    """lstat(2): 1 stop; remote at most 1 round trip."""
    return (yield from _stat(context, task, AT_FDCWD, args[0], args[1], AT_SYMLINK_NOFOLLOW, 0))


def newfstatat(context: Context, task: Task, args: Args) -> Handling:
    """fstatat(2): 1 stop; remote at most 1 round trip. EINVAL for unknown flags."""
    return (yield from _stat(context, task, args[0], args[1], args[2], args[3] & 0xFFFF_FFFF, 1))


def statx(context: Context, task: Task, args: Args) -> Handling:
    """statx(2): 1 stop; remote at most 1 round trip, always 1 with AT_STATX_FORCE_SYNC. EINVAL for unknown flags or masks.

    On a descriptor: the kernel's, and with AT_STATX_FORCE_SYNC 1 round trip.
    """
    flags = args[2] & 0xFFFF_FFFF
    follow = not flags & AT_SYMLINK_NOFOLLOW
    fresh = flags & AT_STATX_SYNC_TYPE == AT_STATX_FORCE_SYNC
    place = find(context, task, args[0], args[1], follow=follow, empty=bool(flags & AT_EMPTY_PATH))
    if isinstance(place, Continue):
        if fresh and place is REMOTE_OBJECT:
            yield from _refresh(context, opened_path(context, task, args[0]))
        return place
    if place.decision.route is Route.LOCAL:
        return (yield from run_at(context, task, [Target(1, place)]))
    if not statx_layout.arguments_valid(flags, args[3] & 0xFFFF_FFFF):
        raise SyscallError(errno.EINVAL, place.decision)
    attributes = yield from attributes_of(context, place, follow, fresh)
    return Return(0, place.decision, ((args[4], statx_layout.pack(attributes)),))


# What is open may have another name by now, or none: the relay sees to that. All that matters here is that it has asked.
def _refresh(context: Context, path: bytes | None) -> Generator[Action, Outcome, None]:
    if path:
        with contextlib.suppress(SyscallError):
            decision = Decision(Route.REMOTE, Reason.REMOTE_OBJECT, path)
            yield from attributes_of(context, Place(path, decision), follow=False, fresh=True)


def _stat(context: Context, task: Task, dirfd: int, address: int, buffer: int, flags: int, path_argument: int) -> Handling:
    follow = not flags & AT_SYMLINK_NOFOLLOW
    place = find(context, task, dirfd, address, follow=follow, empty=bool(flags & AT_EMPTY_PATH))
    if isinstance(place, Continue):
        return place
    if place.decision.route is Route.LOCAL:
        return (yield from run_at(context, task, [Target(path_argument, place)]))
    return (yield from _answer(context, place, buffer, flags, follow))


def _answer(context: Context, place: Place, buffer: int, flags: int, follow: bool) -> Handling:
    if flags & ~_STATAT_FLAGS:
        raise SyscallError(errno.EINVAL, place.decision)
    attributes = yield from attributes_of(context, place, follow)
    return Return(0, place.decision, ((buffer, stat_layout.NATIVE.pack(attributes)),))
