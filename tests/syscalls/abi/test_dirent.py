"""Directory records: the kernel's own for a real directory can be rebuilt bit by bit, but for d_off."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.syscalls.abi.dirent import pack_records, to_old_layout

LIBC = ctypes.CDLL(None, use_errno=True)
GETDENTS64 = {"x86_64": 217, "aarch64": 61}[platform.machine()]
GETDENTS = {"x86_64": 78}.get(platform.machine())


def raw_records(path: Path, sysno: int) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        buffer = ctypes.create_string_buffer(65536)
        length = LIBC.syscall(sysno, fd, buffer, len(buffer))
        assert length > 0
        return buffer.raw[:length]
    finally:
        os.close(fd)


def split(records: bytes) -> list[bytes]:
    parts = []
    while records:
        (length,) = struct.unpack_from("<H", records, 16)
        parts.append(records[:length])
        records = records[length:]
    return parts


def without_offset(record: bytes) -> bytes:
    return record[:8] + record[16:]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for length in range(1, 40):
        (tmp_path / ("n" * length)).touch()
    (tmp_path / "link").symlink_to("x")
    (tmp_path / "sub").mkdir()
    return tmp_path


def test_records_are_the_kernels(directory: Path) -> None:
    for record in split(raw_records(directory, GETDENTS64)):
        inode, _, length, kind = struct.unpack_from("<QqHB", record)
        name = record[19:].split(b"\0")[0]
        packed, offsets = pack_records([name], [inode], [kind])
        assert offsets == (0, length)
        head = 19 + len(name) + 1
        assert without_offset(packed)[: head - 8] == without_offset(record)[: head - 8], "padding may hold anything"
        assert len(packed) == len(record)


@pytest.mark.skipif(GETDENTS is None, reason="this machine has no getdents(2)")
def test_old_layout_is_the_kernels(directory: Path) -> None:
    new = split(to_old_layout(raw_records(directory, GETDENTS64)))
    old = split(raw_records(directory, GETDENTS or 0))
    assert len(new) == len(old)
    for ours, kernels in zip(new, old, strict=True):
        end = 18 + ours[18:].index(b"\0") + 1
        assert ours[:end] == kernels[:end]
        assert ours[-1] == kernels[-1]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=255), st.integers(0, 2**64 - 1), st.integers(0, 15))))
def test_offsets_lead_from_record_to_record(entries: list[tuple[bytes, int, int]]) -> None:
    names = [name for name, _, _ in entries]
    records, offsets = pack_records(names, [inode for _, inode, _ in entries], [kind for _, _, kind in entries])
    assert offsets[-1] == len(records)
    assert len(offsets) == len(entries) + 1
    for number, (name, inode, kind) in enumerate(entries):
        at = offsets[number]
        assert at % 8 == 0
        assert struct.unpack_from("<QqHB", records, at) == (inode, offsets[number + 1], offsets[number + 1] - at, kind)
        assert records[at + 19 : at + 19 + len(name) + 1] == name + b"\0"
        old = to_old_layout(records)[at : offsets[number + 1]]
        assert old[18 : 18 + len(name) + 1] == name + b"\0"
        assert old[-1] == kind


def test_uneven_tuples_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        pack_records([b"a", b"b"], [1], [8, 8])
