"""stat(2), lstat(2), fstat(2), newfstatat(2), statx(2): the pod's attributes instead of the stand-in's.

An fd answers from what came with its open, without a round trip. A path asks the pod.
"""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Generator

from ...agent.wire.messages import Attributes, FileStat, Stat
from ..abi import stat as stat_layout
from ..abi import statx as statx_layout
from ..abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW
from ..actions import Action, Continue, Handling, Outcome, Return, Route, SyscallError
from ..context import Args, Context
from ..task import Task
from .place import LOCAL_OBJECT, Place, asked, find, object_decision, remote_object, run_elsewhere

_STATAT_FLAGS = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH


def stat(context: Context, task: Task, args: Args) -> Handling:
    """stat(2): local 1 stop; remote 1 stop, 1 round trip."""
    place = find(context, task, AT_FDCWD, args[0])
    if isinstance(place, Continue):
        return place
    return (yield from _write_stat(place, args[1], 0, True))


def lstat(context: Context, task: Task, args: Args) -> Handling:
    """lstat(2): local 1 stop; remote 1 stop, 1 round trip."""
    place = find(context, task, AT_FDCWD, args[0], follow=False)
    if isinstance(place, Continue):
        return place
    return (yield from _write_stat(place, args[1], 0, False))


def fstat(context: Context, task: Task, args: Args) -> Handling:
    """fstat(2): 1 stop."""
    yield from ()
    remote = remote_object(context, task, args[0])
    if remote is None:
        return LOCAL_OBJECT
    return Return(0, object_decision(remote), ((args[1], stat_layout.NATIVE.pack(remote.stat)),))


def newfstatat(context: Context, task: Task, args: Args) -> Handling:
    """fstatat(2): local or of a descriptor 1 stop; remote 1 stop, 1 round trip. EINVAL for unknown flags."""
    flags = args[3] & 0xFFFF_FFFF
    follow = not flags & AT_SYMLINK_NOFOLLOW
    place = find(context, task, args[0], args[1], follow=follow, empty=bool(flags & AT_EMPTY_PATH))
    if isinstance(place, Continue):
        return place
    if flags & ~_STATAT_FLAGS and place.decision.route is Route.REMOTE:
        raise SyscallError(errno.EINVAL, place.decision)
    return (yield from _write_stat(place, args[2], 1, follow))


def statx(context: Context, task: Task, args: Args) -> Handling:
    """statx(2): local or of a descriptor 1 stop; remote 1 stop, 1 round trip. EINVAL for unknown flags or masks."""
    flags = args[2] & 0xFFFF_FFFF
    follow = not flags & AT_SYMLINK_NOFOLLOW
    place = find(context, task, args[0], args[1], follow=follow, empty=bool(flags & AT_EMPTY_PATH))
    if isinstance(place, Continue):
        return place
    if place.decision.route is Route.LOCAL:
        return (yield from run_elsewhere(place, 1))
    if not statx_layout.arguments_valid(flags, args[3] & 0xFFFF_FFFF):
        raise SyscallError(errno.EINVAL, place.decision)
    attributes = yield from attributes_of(place, follow)
    return Return(0, place.decision, ((args[4], statx_layout.pack(attributes)),))


def _write_stat(place: Place, address: int, path_argument: int, follow: bool) -> Handling:
    if place.decision.route is Route.LOCAL:
        return (yield from run_elsewhere(place, path_argument))
    attributes = yield from attributes_of(place, follow)
    return Return(0, place.decision, ((address, stat_layout.NATIVE.pack(attributes)),))


def attributes_of(place: Place, follow: bool) -> Generator[Action, Outcome, FileStat]:
    """The attributes of a REMOTE place; ENOTDIR if its path demands a directory and it is none."""
    if place.remote is not None:
        attributes = place.remote.stat
    else:
        request = Stat(place.decision.path, follow or place.directory)
        attributes = (yield from asked(request, Attributes, place.decision)).stat
    if place.directory and not modes.S_ISDIR(attributes.mode):
        raise SyscallError(errno.ENOTDIR, place.decision)
    return attributes
