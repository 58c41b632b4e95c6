"""The short way (../../quick.py) where the pod's tree is mounted: for every call with a path."""

from __future__ import annotations

from ...quick import KnownPath, Quick, State
from ..quick import opens
from .paths import CALLS, CHANGES, PathCall

_UNUSED = State.UNUSED_MOUNT
_FIRST = Quick((KnownPath(0, relative=_UNUSED),))
_ACCESS = KnownPath(1, 0, flags=2, writing=2, relative=_UNUSED)
# Attributes of an open file are the kernel's; statx(2) may insist on new ones.
_STAT = Quick((KnownPath(1, 0, empty=State.ALWAYS, relative=_UNUSED),))

_EMPTY = Quick((KnownPath(1, 0, empty=_UNUSED, relative=_UNUSED),))


def _check(call: PathCall) -> Quick:
    paths = tuple(KnownPath(path.at, path.dirfd, path.write, relative=_UNUSED) for path in call.paths)
    return Quick(paths, changes=call.name in CHANGES)


CHECKS: dict[str, Quick] = {call.name: _check(call) for call in CALLS} | {
    "open": opens(0, 1, _UNUSED),
    "openat": opens(1, 2, _UNUSED, 0),
    "creat": Quick((KnownPath(0, write=True, relative=_UNUSED),)),
    "stat": _FIRST,
    "lstat": _FIRST,
    "readlink": _FIRST,
    "execve": _FIRST,
    "execveat": Quick((KnownPath(1, 0, relative=_UNUSED),)),
    "newfstatat": _STAT,
    "statx": _EMPTY,
    "readlinkat": _EMPTY,
    "access": Quick((KnownPath(0, flags=1, writing=2, relative=_UNUSED),)),
    "faccessat": Quick((_ACCESS,)),
    "faccessat2": Quick((_ACCESS,)),
    "chdir": Quick((KnownPath(0, relative=_UNUSED, magic=False),)),
    "fchdir": Quick(needs=_UNUSED),
    "fsetxattr": Quick(needs=_UNUSED),
    "getcwd": Quick(needs=_UNUSED),
}
"""Syscall name -> when it is local, for those that have a short way."""
