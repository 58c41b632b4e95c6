"""struct open_how is accepted and refused as the kernel of this machine does."""

from __future__ import annotations

import ctypes
import errno
import itertools
import struct

import pytest
from mirrord_trace.syscalls.abi import flags as f
from mirrord_trace.syscalls.abi import open_how

OPENAT2 = 437
LIBC = ctypes.CDLL(None, use_errno=True)
BITS = f.NATIVE


def native(flags: int, mode: int, resolve: int, extra: bytes = b"") -> int:
    how = struct.pack("<QQQ", flags, mode, resolve) + extra
    assert LIBC.syscall(OPENAT2, -100, b"/no/such/directory/x", how, len(how)) == -1
    return ctypes.get_errno()


FLAGS = [
    0, f.O_WRONLY, 3, f.O_CREAT, f.O_CREAT | f.O_EXCL, f.O_TRUNC, f.O_PATH, f.O_PATH | f.O_CLOEXEC | BITS.nofollow,
    f.O_PATH | f.O_APPEND, BITS.directory, BITS.directory | f.O_CREAT, f.TMPFILE_BIT, f.TMPFILE_BIT | BITS.directory,
    f.TMPFILE_BIT | BITS.directory | f.O_WRONLY, f.SYNC_BIT | f.O_DSYNC, f.O_NOATIME | f.FASYNC | f.O_NOCTTY,
    BITS.direct | BITS.largefile, 1 << 30, 1 << 40, f.O_NONBLOCK | f.O_APPEND,
]  # fmt: skip


@pytest.mark.parametrize("flags", FLAGS)
def test_checks_are_the_kernels(flags: int) -> None:
    if native(0, 0, 0) == errno.ENOSYS:
        pytest.skip("this kernel has no openat2(2)")
    for mode, resolve in itertools.product([0, 0o644, 0o7777, 0o10000], [0, 1, 2, 4, 8, 16, 24, 64, 1 << 40]):
        how = open_how.OpenHow(flags, mode, resolve)
        kernels = native(flags, mode, resolve)
        expected = 0 if kernels in (errno.ENOENT, errno.EXDEV) else kernels
        assert open_how.check(how, BITS) == expected, (oct(flags), oct(mode), resolve)


def test_more_than_is_known_must_be_zero() -> None:
    assert open_how.check(open_how.OpenHow(0, 0, 0, bytes(8)), BITS) == 0
    assert open_how.check(open_how.OpenHow(0, 0, 0, bytes(7) + b"\1"), BITS) == errno.E2BIG


def test_nothing_of_the_pod_is_cached_here() -> None:
    assert open_how.check(open_how.OpenHow(0, 0, f.RESOLVE_CACHED), BITS) == errno.EAGAIN


def test_unpack() -> None:
    assert open_how.unpack(struct.pack("<QQQ", 1, 2, 3) + b"rest") == open_how.OpenHow(1, 2, 3, b"rest")


def test_packing_is_the_way_back() -> None:
    how = open_how.OpenHow(1 << 40, 0o644, 0x3F, b"\0\1")
    assert open_how.unpack(open_how.pack(how)) == how
