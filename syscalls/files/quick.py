"""The short way (../quick.py) for file calls, where the pod's files are copied when they are opened."""

from __future__ import annotations

from ..abi.flags import O_PATH, WRITING
from ..quick import KnownPath, Quick, State

_RELATIVE = State.NO_OBJECTS


def opens(path: int, flags: int, relative: int, dirfd: int = -1) -> Quick:
    """open(2), openat(2) of a path known for what it is opened for."""
    return Quick((KnownPath(path, dirfd, flags=flags, writing=WRITING, unless=O_PATH, relative=relative),))


_FIRST = Quick((KnownPath(0, relative=_RELATIVE),))
_SECOND = Quick((KnownPath(1, 0, empty=State.NO_OBJECTS, relative=_RELATIVE),))
_DESCRIPTOR = Quick(needs=State.NO_OBJECTS)

CHECKS: dict[str, Quick] = {
    "open": opens(0, 1, _RELATIVE),
    "openat": opens(1, 2, _RELATIVE, 0),
    "stat": _FIRST,
    "lstat": _FIRST,
    "readlink": _FIRST,
    "newfstatat": _SECOND,
    "statx": _SECOND,
    "readlinkat": _SECOND,
    "fstat": _DESCRIPTOR,
    "getdents": _DESCRIPTOR,
    "getdents64": _DESCRIPTOR,
    "fchdir": _DESCRIPTOR,
}
"""Syscall name -> when it is local, for those that have a short way."""
