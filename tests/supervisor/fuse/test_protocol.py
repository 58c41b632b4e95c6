"""Layouts against linux/fuse.h. The sizes are those that sizeof gives there."""

from __future__ import annotations

import os
import struct
from dataclasses import replace

import pytest
from fakekernel import Attr, read_directory_entries, read_entry
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.wire.messages import FileStat
from mirrord_trace.supervisor.fuse import protocol
from mirrord_trace.supervisor.fuse.protocol import Init, Op

STAT = FileStat(
    dev=2049, ino=12, mode=0o100644, nlink=3, uid=1000, gid=100, rdev=0, size=5000, blksize=4096, blocks=16,
    atime_ns=1_000_000_001, mtime_ns=2_000_000_002, ctime_ns=3_000_000_003, btime_ns=4_000_000_004,
)  # fmt: skip

_ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        (protocol.GETATTR_IN, 16), (protocol.SETATTR_IN, 88), (protocol.MKNOD_IN, 16), (protocol.MKDIR_IN, 8),
        (protocol.RENAME_IN, 8), (protocol.RENAME2_IN, 16), (protocol.LINK_IN, 8), (protocol.OPEN_IN, 8),
        (protocol.CREATE_IN, 16), (protocol.READ_IN, 40), (protocol.WRITE_IN, 40), (protocol.RELEASE_IN, 24),
        (protocol.FSYNC_IN, 16), (protocol.FLUSH_IN, 24), (protocol.GETXATTR_IN, 8), (protocol.LOCK_IN, 48),
        (protocol.ACCESS_IN, 8), (protocol.INTERRUPT_IN, 8), (protocol.FORGET_IN, 8), (protocol.BATCH_FORGET_IN, 8),
        (protocol.FORGET_ONE, 16), (protocol.FALLOCATE_IN, 32), (protocol.LSEEK_IN, 24), (protocol.COPY_IN, 56),
        (protocol.STATX_IN, 24), (protocol.POLL_IN, 24), (protocol.NO_FIELDS, 0),
        (protocol.SETXATTR_IN, 8),  # FUSE_COMPAT_SETXATTR_IN_SIZE: SETXATTR_EXT is not asked for
        (protocol.WRITE_OUT, 8), (protocol.SIZE_OUT, 8), (protocol.OFFSET_OUT, 8),
    ],
)  # fmt: skip
def test_sizes_of_structures(layout: struct.Struct, size: int) -> None:
    assert layout.size == size


def test_sizes_of_replies() -> None:
    init = Init(7, 38, 0)
    assert len(protocol.init_reply(init)) == 64
    assert len(protocol.entry(2, STAT, 1, 1)) == 128 == len(protocol.no_entry(1)) == len(protocol.NO_ATTRIBUTES)
    assert len(protocol.attributes(STAT, 1)) == 104
    assert len(protocol.statx(STAT, 1)) == 288
    assert len(protocol.opened(1)) == 16
    assert len(protocol.file_system(*range(8))) == 80
    assert len(protocol.lock(0, 1, 2, 3)) == 24


def test_opcodes_that_are_easily_confused() -> None:
    assert (Op.SETXATTR, Op.BATCH_FORGET, Op.RENAME2, Op.TMPFILE, Op.STATX) == (21, 42, 45, 51, 52)


# -- INIT -----------------------------------------------------------------------------------------------------------


def test_init_with_the_second_word_of_flags() -> None:
    body = struct.pack("=IIIII44x", 7, 41, 131072, protocol.INIT_EXT | protocol.ASYNC_READ, 1 << 4)
    init = protocol.read_init(memoryview(body))
    assert init == Init(7, 41, protocol.INIT_EXT | protocol.ASYNC_READ | protocol.DIRECT_IO_ALLOW_MMAP)


@pytest.mark.parametrize("body", [struct.pack("=IIII", 7, 31, 0, 1), struct.pack("=IIIII", 7, 36, 0, 1, 0xFFFFFFFF)])
def test_init_without_it(body: bytes) -> None:
    assert protocol.read_init(memoryview(body)).flags == 1


def test_init_reply_says_only_what_both_sides_can() -> None:
    offered = protocol.INIT_EXT | protocol.BIG_WRITES | 1 << 16 | protocol.DIRECT_IO_ALLOW_MMAP  # and writeback cache
    fields = struct.unpack("=IIIIHHIIHHI28x", protocol.init_reply(Init(7, 99, offered)))
    major, minor, ahead, flags, background, congestion, max_write, gran, pages, alignment, more_flags = fields
    assert (major, minor) == (7, protocol.HIGHEST_MINOR)
    assert (ahead, max_write, pages, gran, alignment) == (1 << 20, 1 << 20, 256, 1, 0)
    assert flags == protocol.INIT_EXT | protocol.BIG_WRITES
    assert more_flags == protocol.DIRECT_IO_ALLOW_MMAP >> 32
    assert congestion <= background


def test_init_reply_to_an_older_kernel_has_its_version_and_no_second_word() -> None:
    fields = struct.unpack("=IIIIHHIIHHI28x", protocol.init_reply(Init(7, 31, protocol.ASYNC_READ)))
    assert (fields[1], fields[3], fields[10]) == (31, protocol.ASYNC_READ, 0)


# -- requests -------------------------------------------------------------------------------------------------------


def test_request() -> None:
    data = struct.pack("=IIQQIIIHH", 44, 1, 99, 5, 1000, 100, 4711, 0, 0) + b"abc\0"
    request = protocol.read_request(data)
    assert (request.op, request.unique, request.node, request.pid) == (Op.LOOKUP, 99, 5, 4711)
    assert protocol.NO_FIELDS.names(request.body) == [b"abc"]
    assert protocol.IN_HEADER_BYTES == 40


@given(st.lists(st.binary().filter(lambda name: b"\0" not in name), max_size=3), st.integers(0, 2**64 - 1))
def test_names_behind_the_fixed_part(names: list[bytes], number: int) -> None:
    body = memoryview(protocol.RENAME_IN.pack(number) + b"".join(name + b"\0" for name in names))
    assert protocol.RENAME_IN.unpack_from(body) == (number,)
    assert protocol.RENAME_IN.names(body) == names


def test_fields_stand_where_the_header_has_them() -> None:
    assert protocol.READ_IN.unpack(struct.pack("=QQIIQII", 1, 2, 3, 4, 5, 6, 0)) == (1, 2, 3, 4, 5, 6)
    assert protocol.LOCK_IN.unpack(struct.pack("=QQQQIIII", 1, 2, 3, 4, 5, 6, 7, 0)) == (1, 2, 3, 4, 5, 6, 7)
    assert protocol.FALLOCATE_IN.unpack(struct.pack("=QQQII", 1, 2, 3, 4, 0)) == (1, 2, 3, 4)
    setattr_body = struct.pack("=IIQQQQQQIIIIIIII", 1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    assert protocol.SETATTR_IN.unpack(setattr_body) == (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
    assert protocol.FLUSH_IN.unpack(struct.pack("=QIIQ", 1, 2, 3, 4)) == (1, 4)
    assert protocol.STATX_IN.unpack(struct.pack("=IIQII", 1, 2, 3, 4, 5)) == (1, 3, 4, 5)


# -- replies --------------------------------------------------------------------------------------------------------


def test_replies_have_their_length_and_errno() -> None:
    assert protocol.reply(7, b"body") == struct.pack("=IiQ", 20, 0, 7) + b"body"
    assert protocol.failure(7, 2) == struct.pack("=IiQ", 16, -2, 7)


def test_entry() -> None:
    entry = read_entry(protocol.entry(2, STAT, 1.5, 0.25))
    assert (entry.node, entry.entry_s, entry.attr_s) == (2, 1.5, 0.25)
    assert entry.attr == Attr(12, 5000, 16, 1, 2, 3, 1, 2, 3, 0o100644, 3, 1000, 100, 0, 4096, 0)


def test_no_entry() -> None:
    entry = read_entry(protocol.no_entry(2.5))
    assert (entry.node, entry.entry_s) == (0, 2.5)


@given(st.integers(-(2**62), 2**62))
def test_times_before_1970(time_ns: int) -> None:
    stat = replace(STAT, mtime_ns=time_ns, ctime_ns=time_ns, atime_ns=time_ns)
    attr = Attr(*_ATTRIBUTES.unpack_from(protocol.attributes(stat, 1.0), 16))
    seconds = struct.unpack("=q", struct.pack("=Q", attr.mtime))[0]
    assert seconds * 10**9 + attr.mtimensec == time_ns
    assert (attr.atime, attr.ctime, attr.ctimensec) == (attr.mtime, attr.mtime, attr.mtimensec)
    statx = struct.unpack_from("=qI4x", protocol.statx(stat, 1.0), 32 + 64)
    assert statx[0] * 10**9 + statx[1] == time_ns


@given(st.integers(0, 0xFFF), st.integers(0, 0xFFFFF))
def test_device_numbers_in_the_kernels_own_encoding(major: int, minor: int) -> None:
    stat = replace(STAT, mode=0o060600, rdev=os.makedev(major, minor))
    rdev = read_entry(protocol.entry(2, stat, 0, 0, is_special=True)).attr.rdev
    assert ((rdev & 0xFFF00) >> 8, (rdev & 0xFF) | (rdev >> 12 & 0xFFF00)) == (major, minor)  # new_decode_dev()


@pytest.mark.parametrize(("kind", "shown"), [(0o010000, 0o100000), (0o020000, 0o100000), (0o060000, 0o100000),
                                             (0o140000, 0o140000), (0o120000, 0o120000), (0o040000, 0o040000)])  # fmt: skip
def test_fifos_and_devices_are_shown_as_regular_files(kind: int, shown: int) -> None:
    stat = replace(STAT, mode=kind | 0o640)
    assert read_entry(protocol.entry(2, stat, 0, 0)).attr.mode == shown | 0o640
    assert read_entry(protocol.entry(2, stat, 0, 0, is_special=True)).attr.mode == kind | 0o640


@pytest.mark.parametrize(("btime_ns", "mask", "btime"), [(4_000_000_004, 0xFFF, (4, 4)), (-1, 0x7FF, (0, 0))])
def test_statx(btime_ns: int, mask: int, btime: tuple[int, int]) -> None:
    body = protocol.statx(replace(STAT, btime_ns=btime_ns, rdev=os.makedev(8, 1)), 1.5)
    assert struct.unpack_from("=QII", body) == (1, 500_000_000, 0)
    at = 32
    assert struct.unpack_from("=II8xIIIH2xQQQ", body, at) == (mask, 4096, 3, 1000, 100, 0o100644, 12, 5000, 16)
    times = [struct.unpack_from("=qI4x", body, at + 64 + 16 * index) for index in range(4)]
    assert times == [(1, 1), btime, (3, 3), (2, 2)]  # atime, btime, ctime, mtime
    assert struct.unpack_from("=IIII", body, at + 128) == (8, 1, 0, 0)


@given(st.lists(st.binary(min_size=1, max_size=255).filter(lambda name: b"\0" not in name), max_size=8))
def test_directory_entries_are_padded_to_eight_bytes(names: list[bytes]) -> None:
    body = b"".join(protocol.directory_entry(name, 10 + index, index + 1, 8) for index, name in enumerate(names))
    assert len(body) % 8 == 0
    found = read_directory_entries(body, plus=False)
    assert [(entry.name, entry.inode, entry.offset) for entry in found] == [
        (name, 10 + index, index + 1) for index, name in enumerate(names)
    ]


def test_a_poll_is_woken() -> None:
    assert struct.unpack("=IiQQ", protocol.poll_wakeup(9)) == (24, 1, 0, 9)
