"""openat2(2) where the pod's tree is mounted.

Behind a pod directory the kernel keeps the rules of struct open_how.resolve by itself, but for two. On the way from a dirfd
RESOLVE_NO_XDEV lets no absolute link be followed, and in the mounted tree these are relative ones (walking.py). And where the
mount is an ordinary user's, and so detached, giving up a link on the way is a change of mounts to the kernel (mntput): a `..`
after it is EAGAIN under RESOLVE_BENEATH and IN_ROOT, however often it is tried. There the call is made on what a walk finds.

An absolute pod path is replaced by one that begins with a magic link into another mount, which RESOLVE_NO_MAGICLINKS,
NO_SYMLINKS and NO_XDEV would not let pass: these three are looked after here (the pod's tree counts as one file system) and
taken out. RESOLVE_BENEATH does not allow absolute paths at all.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator

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
from ...actions import Action, Continue, Handling, Keep, Outcome, Scratch, SyscallError, run
from ...context import Args, Context
from ...task import Task
from ..open import open_place, writes
from ..openat2 import prefixes, read_how
from ..place import BAD_ARGUMENT, PATH_MAX, RELATIVE_PATH, Place, normalise
from .attributes import attributes_of
from .find import REMOTE_OBJECT, find, find_below, is_directory, mount_of, opened_path
from .opening import follows, opening
from .running import Target, foretell, is_native, is_remote, run_at
from .walking import step, walk

_OURS = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS

_LINKS_MATTER = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH | RESOLVE_IN_ROOT
_SCOPES = RESOLVE_BENEATH | RESOLVE_IN_ROOT


def openat2(context: Context, task: Task, args: Args) -> Handling:
    """openat2(2): as openat(2).

    One look at each name on the way with RESOLVE_NO_SYMLINKS and an absolute path, or RESOLVE_NO_XDEV and a relative one;
    in the latter case a round trip for each link. So also with RESOLVE_BENEATH or IN_ROOT for an ordinary user.
    """
    how = read_how(task, args[2], args[3])
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
    rules = how.resolve & _LINKS_MATTER
    if is_native(target) and rules == RESOLVE_NO_XDEV:
        yield from _refuse_jumps(context, place, path, target.follow)
    elif is_native(target) and rules & _SCOPES and not rules & RESOLVE_NO_SYMLINKS and mount_of(context).is_ordinary:
        return (yield from _within(context, task, target, path, rules))
    if not is_remote(target) or is_native(target) or not how.resolve & _OURS:
        return (yield from run_at(context, task, [target]))
    if how.resolve & RESOLVE_NO_SYMLINKS:
        yield from _refuse_links(context, place, flags)
    changed = open_how.pack(OpenHow(how.flags, how.mode, how.resolve & ~_OURS, how.extra))
    return (yield from run_at(context, task, [target], {2: Scratch(changed)}))


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
    for name in prefixes(place.decision.path):
        if name == place.decision.path and last_may_be_link:
            return
        try:
            attributes = yield from attributes_of(context, step(place, name), False)
        except SyscallError as error:
            if error.errno == errno.ENOENT and name == place.decision.path:
                return  # O_CREAT; the kernel knows
            raise
        if stat.S_ISLNK(attributes.mode):
            raise SyscallError(errno.ELOOP, place.decision)


# Whatever else is wrong with the path the kernel will find.
def _refuse_jumps(context: Context, place: Place, path: bytes, follow: bool) -> Generator[Action, Outcome, None]:
    try:
        yield from walk(context, place, path, follow, RESOLVE_NO_XDEV)
    except SyscallError as error:
        if error.errno == errno.EXDEV:
            raise


def _within(context: Context, task: Task, target: Target, path: bytes, rules: int) -> Handling:
    resolved = yield from walk(context, target.place, path, target.follow, rules)
    if resolved == path:
        return (yield from run_at(context, task, [target]))
    foretell(context, target)
    yield from run({1: Scratch(resolved + b"\0")})
    return Keep(target.place.decision)
