"""struct stat is what the kernel of this machine writes, and what asm-generic says for the other."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

import pytest
from mirrord_trace.agent.wire.messages import FileStat
from mirrord_trace.syscalls.abi import stat as layouts

LIBC = ctypes.CDLL(None, use_errno=True)
NEWFSTATAT = {"x86_64": 262, "aarch64": 79}


def file_stat(status: os.stat_result) -> FileStat:
    return FileStat(
        status.st_dev, status.st_ino, status.st_mode, status.st_nlink, status.st_uid, status.st_gid, status.st_rdev,
        status.st_size, status.st_blksize, status.st_blocks, status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns, -1,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["file", "directory", "device", "before 1970"])
def test_native_layout_is_the_kernels(tmp_path: Path, kind: str) -> None:
    path = Path("/dev/null") if kind == "device" else tmp_path
    if kind in ("file", "before 1970"):
        path = tmp_path / "file"
        path.write_bytes(b"x" * 5000)
    if kind == "before 1970":
        os.utime(path, ns=(-1_500_000_000, -1))
    buffer = ctypes.create_string_buffer(b"\xee" * 256, 256)
    result = LIBC.syscall(NEWFSTATAT[platform.machine()], -100, os.fsencode(path), buffer, 0x100)
    assert result == 0
    packed = layouts.NATIVE.pack(file_stat(os.lstat(path)))
    assert packed == buffer.raw[: len(packed)]
    assert buffer.raw[len(packed) :] == b"\xee" * (256 - len(packed)), "the kernel writes more than this"


def test_layouts_of_both_machines() -> None:
    stat = FileStat(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11_000_000_012, 13_000_000_014, 15_000_000_016, -1)
    times = struct.pack("<6q", 11, 12, 13, 14, 15, 16)
    x86_64 = struct.pack("<QQQIIIIQqqq", 1, 2, 4, 3, 5, 6, 0, 7, 8, 9, 10) + times + bytes(24)
    aarch64 = struct.pack("<QQIIIIQQqiiq", 1, 2, 3, 4, 5, 6, 7, 0, 8, 9, 0, 10) + times + bytes(8)
    assert layouts.layout_for("x86_64").pack(stat) == x86_64
    assert layouts.layout_for("aarch64").pack(stat) == aarch64
    assert (layouts.X86_64.size_bytes, layouts.AARCH64.size_bytes) == (144, 128)
