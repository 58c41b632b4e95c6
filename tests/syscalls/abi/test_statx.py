"""struct statx and its argument checks are the kernel's."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import platform
import struct
from dataclasses import replace
from pathlib import Path

import pytest
from mirrord_trace.agent.wire.messages import FileStat
from mirrord_trace.syscalls.abi import statx

LIBC = ctypes.CDLL(None, use_errno=True)
STATX = {"x86_64": 332, "aarch64": 291}[platform.machine()]
_BTIME_AT = 80
_TIMESTAMP = struct.Struct("<qI")


def native(path: bytes, flags: int, mask: int) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(256)
    result = LIBC.syscall(STATX, -100, path, flags, ctypes.c_uint(mask), buffer)
    return (ctypes.get_errno() if result else 0), buffer.raw


@pytest.mark.parametrize("path", ["file", "/dev/null", "."])
def test_layout_is_the_kernels(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_bytes(b"x" * 5000)
    place = tmp_path / path
    error, raw = native(os.fsencode(place), 0, statx.BASIC_STATS | statx.BTIME)
    assert error == 0
    status = os.stat(place)
    (mask,) = struct.unpack_from("<I", raw)
    seconds, nanoseconds = _TIMESTAMP.unpack_from(raw, _BTIME_AT)
    btime_ns = seconds * 10**9 + nanoseconds if mask & statx.BTIME else -1
    packed = statx.pack(
        FileStat(
            dev=status.st_dev,
            ino=status.st_ino,
            mode=status.st_mode,
            nlink=status.st_nlink,
            uid=status.st_uid,
            gid=status.st_gid,
            rdev=status.st_rdev,
            size=status.st_size,
            blksize=status.st_blksize,
            blocks=status.st_blocks,
            atime_ns=status.st_atime_ns,
            mtime_ns=status.st_mtime_ns,
            ctime_ns=status.st_ctime_ns,
            btime_ns=btime_ns,
        )
    )
    assert len(packed) == 256
    assert struct.unpack_from("<I", packed)[0] == mask & (statx.BASIC_STATS | statx.BTIME)
    # Between the fields that we fill in: stx_attributes (8:16), their mask (56:64), stx_mnt_id and later (144:).
    for start, end in ((4, 8), (16, 56), (64, 144)):
        assert packed[start:end] == raw[start:end]


def test_birth_time_only_if_known() -> None:
    stat = FileStat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, -1)
    assert struct.unpack_from("<I", statx.pack(stat))[0] == statx.BASIC_STATS
    packed = statx.pack(replace(stat, btime_ns=7_000_000_008))
    assert struct.unpack_from("<I", packed)[0] == statx.BASIC_STATS | statx.BTIME
    assert _TIMESTAMP.unpack_from(packed, _BTIME_AT) == (7, 8)


def test_argument_checks_are_the_kernels() -> None:
    flags = [0, 0x100, 0x200, 0x800, 0x1000, 0x2000, 0x4000, 0x6000, 0x10000, 0x40000000]
    for flag, mask in itertools.product(flags, [0, 0x7FF, 0xFFF, 0x40000000, 0x80000000]):
        error, _ = native(b"/no/such/directory", flag, mask)
        assert statx.arguments_valid(flag, mask) == (error == errno.ENOENT), (hex(flag), hex(mask), error)
