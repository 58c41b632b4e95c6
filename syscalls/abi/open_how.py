"""struct open_how of openat2(2), and the checks that the kernel makes before it looks at the path."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass

from .flags import (
    MODE_BITS,
    O_ACCMODE,
    O_CREAT,
    O_PATH,
    RESOLVE_BENEATH,
    RESOLVE_CACHED,
    RESOLVE_IN_ROOT,
    TMPFILE_BIT,
    VALID_RESOLVE,
    OpenFlags,
)

_VERSION0 = struct.Struct("<QQQ")
SIZE_BYTES = _VERSION0.size
"""OPEN_HOW_SIZE_VER0: the least that may be passed. More is accepted if it is zero."""

MAX_SIZE_BYTES = 4096
"""PAGE_SIZE: more is E2BIG (arm64 kernels with bigger pages allow more; nobody passes that)."""


@dataclass(frozen=True)
class OpenHow:
    """struct open_how: `extra` are the bytes behind the fields known here."""

    flags: int
    mode: int
    resolve: int
    extra: bytes = b""


def unpack(content: bytes) -> OpenHow:
    """From at least SIZE_BYTES bytes."""
    flags, mode, resolve = _VERSION0.unpack_from(content)
    return OpenHow(flags, mode, resolve, content[SIZE_BYTES:])


def pack(how: OpenHow) -> bytes:
    """The bytes that `unpack` reads."""
    return _VERSION0.pack(how.flags, how.mode, how.resolve) + how.extra


def check(how: OpenHow, bits: OpenFlags) -> int:
    """build_open_flags() of fs/open.c: 0, or the errno of a struct that openat2(2) does not accept."""
    if any(how.extra):
        return errno.E2BIG
    if how.flags & ~bits.valid or how.resolve & ~VALID_RESOLVE or _contradicts(how, bits):
        return errno.EINVAL
    if how.resolve & RESOLVE_CACHED:
        # Nothing of the pod is ever in the tracee's dentry cache: the caller asks again without the flag.
        return errno.EAGAIN
    return 0


def _contradicts(how: OpenHow, bits: OpenFlags) -> bool:
    # Flags that each exist but must not be together.
    creates = how.flags & (O_CREAT | TMPFILE_BIT)
    scopes = RESOLVE_BENEATH | RESOLVE_IN_ROOT
    return bool(
        how.mode & ~(MODE_BITS if creates else 0)
        or how.resolve & scopes == scopes
        or (how.flags & O_CREAT and how.flags & bits.directory)
        or (how.flags & TMPFILE_BIT and not (how.flags & bits.directory and how.flags & O_ACCMODE))
        or (how.flags & O_PATH and how.flags & ~bits.with_path)
    )
