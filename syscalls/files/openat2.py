"""openat2(2): openat(2) with checked flags and rules for the walk through the path.

Rules that forbid to leave a directory or to follow links cannot be carried to the pod in one request. So the names on
the way are looked at one by one (one round trip each); any symbolic link is refused, also where the kernel would have
found that it stays inside: EXDEV is an answer that callers of RESOLVE_BENEATH and RESOLVE_IN_ROOT must expect.
Magic links are never followed in the pod. Mount points cannot be seen from here, so RESOLVE_NO_XDEV is EXDEV.
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator, Iterator

from ...agent.wire.messages import Attributes, Stat
from ..abi import open_how
from ..abi.flags import (
    NATIVE,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from ..abi.open_how import OpenHow
from ..actions import Action, Continue, Handling, Outcome, Route, SyscallError
from ..context import Args, Context
from ..task import Task
from .open import open_place, writes
from .place import BAD_ARGUMENT, PATH_MAX, RELATIVE_PATH, Place, asked, below, find, normalise, remote_object

_WALKED = RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS


def openat2(context: Context, task: Task, args: Args) -> Handling:
    """openat2(2): local and hidden paths as in openat(2); see the head of this file for struct open_how.resolve.

    Remote: 2 stops, 1 round trip, and one more for each name of the path under rules that forbid symbolic links.
    """
    how = read_how(task, args[2], args[3])
    if how is None:
        return BAD_ARGUMENT
    flags = how.flags & 0xFFFF_FFFF
    if how.resolve & RESOLVE_IN_ROOT:
        place = _in_root(context, task, args, writes(flags))
    else:
        follow = not flags & NATIVE.nofollow
        place = find(context, task, args[0], args[1], write=writes(flags), follow=follow)
    if isinstance(place, Continue):
        return place
    if place.decision.route is Route.REMOTE:
        wrong = open_how.check(how, NATIVE)
        if wrong:
            raise SyscallError(wrong, place.decision)
        yield from _walk(place, how)
    elif how.resolve & RESOLVE_IN_ROOT:
        # The directory is the pod's, the file is not in it: no path below the dirfd leads there.
        raise SyscallError(errno.EXDEV, place.decision)
    return (yield from open_place(context, task, place, flags, 1))


def read_how(task: Task, address: int, size_bytes: int) -> OpenHow | None:
    """struct open_how of the tracee; None: the kernel refuses these arguments whatever the path is."""
    if not open_how.SIZE_BYTES <= size_bytes <= open_how.MAX_SIZE_BYTES:
        return None
    try:
        return open_how.unpack(task.read(address, size_bytes))
    except SyscallError:
        return None


def _in_root(context: Context, task: Task, args: Args, write: bool) -> Continue | Place:
    # Absolute paths and `..` end at the dirfd. A local one is the kernel's: everything below it is local then.
    try:
        path = task.read_string(args[1], PATH_MAX)
    except SyscallError:
        return BAD_ARGUMENT
    if not path:
        return BAD_ARGUMENT
    remote = remote_object(context, task, args[0])
    if remote is None:
        return RELATIVE_PATH
    clamped, directory = normalise(b"/" + path)
    place = below(context, remote, clamped[1:], write)
    return place._replace(directory=directory)


def _walk(place: Place, how: OpenHow) -> Generator[Action, Outcome, None]:
    # Raises if the walk to `place` breaks a rule, or might.
    resolve = how.resolve
    if place.proc_fd >= 0 and resolve & (RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS):
        raise SyscallError(errno.ELOOP, place.decision)
    if resolve & RESOLVE_NO_XDEV:
        raise SyscallError(errno.EXDEV, place.decision)
    if not resolve & _WALKED or place.remote is not None:
        return
    path = place.decision.path
    inside = bool(place.base) and (path + b"/").startswith(place.base.rstrip(b"/") + b"/")
    if resolve & (RESOLVE_BENEATH | RESOLVE_IN_ROOT) and not inside:
        raise SyscallError(errno.EXDEV, place.decision)
    last_may_be_link = how.flags & NATIVE.nofollow and not place.directory
    for name in prefixes(path, len(place.base) if inside else 0):
        if name == path and last_may_be_link:
            return
        reply = yield from asked(Stat(name, False), Attributes, place.decision)
        if stat.S_ISLNK(reply.stat.mode):
            raise SyscallError(errno.ELOOP if resolve & RESOLVE_NO_SYMLINKS else errno.EXDEV, place.decision)


def prefixes(path: bytes, start: int = 0) -> Iterator[bytes]:
    """The paths of all names on the way from the first `start` bytes of `path` to its end."""
    slash = path.find(b"/", start + 1)
    while slash >= 0:
        yield path[:slash]
        slash = path.find(b"/", slash + 1)
    if len(path) > max(start, 1):
        yield path
