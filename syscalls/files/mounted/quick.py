"""The short way (../../quick.py) where the pod's tree is mounted: for every call with a path."""

from __future__ import annotations

from ...abi.flags import AT_SYMLINK_NOFOLLOW
from ...quick import KnownPath, Quick, State
from ..quick import opens
from .paths import CALLS, CHANGES, PathArgument, PathCall

_UNUSED = State.UNUSED_MOUNT
_FIRST = Quick((KnownPath(0, relative=_UNUSED),))
_FIRST_ENTRY = Quick((KnownPath(0, relative=_UNUSED, entry=True),))
_ACCESS = KnownPath(1, 0, flags=2, writing=2, relative=_UNUSED)


# Attributes of an open file are the kernel's; statx(2) may insist on new ones.
def _stat(at_flags: int, empty: int) -> Quick:
    return Quick((KnownPath(1, 0, empty=empty, relative=_UNUSED, at_flags=at_flags, nofollow=AT_SYMLINK_NOFOLLOW),))


def _check(call: PathCall) -> Quick:
    return Quick(tuple(map(_path, call.paths)), changes=call.name in CHANGES)


def _path(path: PathArgument) -> KnownPath:
    known = KnownPath(path.at, path.dirfd, path.write, relative=_UNUSED)
    if path.follows:  # a flag that says the reverse; linkat(2) is rare
        return known
    nofollow = path.nofollow if path.flags >= 0 else 0
    return known._replace(entry=not path.follow, at_flags=path.flags, nofollow=nofollow)


CHECKS: dict[str, Quick] = {call.name: _check(call) for call in CALLS} | {
    "open": opens(0, 1, _UNUSED),
    "openat": opens(1, 2, _UNUSED, 0),
    "creat": Quick((KnownPath(0, write=True, relative=_UNUSED),)),
    "stat": _FIRST,
    "lstat": _FIRST_ENTRY,
    "readlink": _FIRST_ENTRY,
    "execve": _FIRST,
    "execveat": Quick((KnownPath(1, 0, relative=_UNUSED),)),
    "newfstatat": _stat(3, State.ALWAYS),
    "statx": _stat(2, _UNUSED),
    "readlinkat": Quick((KnownPath(1, 0, empty=_UNUSED, relative=_UNUSED, entry=True),)),
    "access": Quick((KnownPath(0, flags=1, writing=2, relative=_UNUSED),)),
    "faccessat": Quick((_ACCESS,)),
    "faccessat2": Quick((_ACCESS,)),
    "chdir": Quick((KnownPath(0, relative=_UNUSED, magic=False),), moves=True),
    "fchdir": Quick(needs=_UNUSED, moves=True),
    "fsetxattr": Quick(needs=_UNUSED),
    "getcwd": Quick(needs=_UNUSED),
}
"""Syscall name -> when it is local, for those that have a short way."""
