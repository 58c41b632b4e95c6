"""openat2(2) where the pod's tree is mounted.

Behind a pod directory the kernel keeps every rule of struct open_how.resolve by itself. An absolute pod path is replaced by
one that begins with a magic link into another mount, which RESOLVE_NO_MAGICLINKS, NO_SYMLINKS and NO_XDEV would not let
pass: these three are looked after here (the pod's tree counts as one file system) and taken out. RESOLVE_BENEATH does not
allow absolute paths at all.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator, Iterator

from ...abi import open_how
from ...abi.flags import (
    NATIVE,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from ...abi.open_how import OpenHow
from ...actions import Action, Continue, Handling, Outcome, Route, Scratch, SyscallError
from ...context import Args, Context
from ...task import Task
from ..open import open_place, writes
from ..place import BAD_ARGUMENT, PATH_MAX, RELATIVE_PATH, Place, normalise
from .attributes import attributes_of
from .find import REMOTE_OBJECT, find, find_below, is_directory, opened_path
from .opening import follows, opening
from .running import is_native, is_remote, run_at

_OURS = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS


def openat2(context: Context, task: Task, args: Args) -> Handling:
    """openat2(2): as openat(2); with RESOLVE_NO_SYMLINKS and an absolute path one look at each name on the way."""
    how = _read(task, args[2], args[3])
    try:
        path = task.read_string(args[1], PATH_MAX)
    except SyscallError:
        return BAD_ARGUMENT
    if how is None or (how.resolve & RESOLVE_BENEATH and path.startswith(b"/")):
        return BAD_ARGUMENT
    try:
        return (yield from _open(context, task, args, path, how))
    except SyscallError as error:
        # What is wrong with the struct comes first, whatever the path is.
        raise SyscallError(open_how.check(how, NATIVE) or error.errno, error.decision) from None


def _open(context: Context, task: Task, args: Args, path: bytes, how: OpenHow) -> Handling:
    flags = how.flags & 0xFFFF_FFFF
    if how.resolve & RESOLVE_IN_ROOT:
        place = _in_root(context, task, args[0], path, writes(flags))
    else:
        place = find(context, task, args[0], args[1], write=writes(flags), follow=follows(flags))
    if isinstance(place, Continue):
        return place
    if place.remote is not None:
        return (yield from open_place(context, task, place, flags, 1))
    target = opening(place, flags, 1)
    if not is_remote(target) or is_native(target) or not how.resolve & _OURS:
        return (yield from run_at(context, task, [target]))
    if how.resolve & RESOLVE_NO_SYMLINKS:
        yield from _refuse_links(context, place, flags)
    changed = open_how.pack(OpenHow(how.flags, how.mode, how.resolve & ~_OURS, how.extra))
    return (yield from run_at(context, task, [target], {2: Scratch(changed)}))


def _read(task: Task, address: int, size_bytes: int) -> OpenHow | None:
    # None: the kernel refuses these arguments whatever the path is.
    if not open_how.SIZE_BYTES <= size_bytes <= open_how.MAX_SIZE_BYTES:
        return None
    try:
        return open_how.unpack(task.read(address, size_bytes))
    except SyscallError:
        return None


def _in_root(context: Context, task: Task, dirfd: int, path: bytes, write: bool) -> Continue | Place:
    # Absolute paths and `..` end at the dirfd. A local one is the kernel's: everything below it is local then.
    base = opened_path(context, task, dirfd)
    if base is None:
        return RELATIVE_PATH
    if not base or not path or not is_directory(task, dirfd):
        return REMOTE_OBJECT
    place = find_below(context, base, normalise(b"/" + path)[0][1:], write)
    if isinstance(place, Continue) or place.base:
        return place
    # What policy sends elsewhere is not below the directory.
    raise SyscallError(errno.EXDEV, place.decision)


def _refuse_links(context: Context, place: Place, flags: int) -> Generator[Action, Outcome, None]:
    last_may_be_link = flags & NATIVE.nofollow and not place.directory
    for name in _prefixes(place.decision.path):
        if name == place.decision.path and last_may_be_link:
            return
        step = place._replace(decision=place.decision.__class__(Route.REMOTE, place.decision.reason, name), directory=False)
        try:
            attributes = yield from attributes_of(context, step, False)
        except SyscallError as error:
            if error.errno == errno.ENOENT and name == place.decision.path:
                return  # O_CREAT; the kernel knows
            raise
        if stat.S_ISLNK(attributes.mode):
            raise SyscallError(errno.ELOOP, place.decision)


def _prefixes(path: bytes) -> Iterator[bytes]:
    # The paths of all names on the way to the end of `path`.
    slash = path.find(b"/", 1)
    while slash >= 0:
        yield path[:slash]
        slash = path.find(b"/", slash + 1)
    if len(path) > 1:
        yield path
