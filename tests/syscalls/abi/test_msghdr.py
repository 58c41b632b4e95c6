"""struct msghdr and mmsghdr against ctypes' layout of the C declarations."""

from __future__ import annotations

import ctypes
import struct

from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.syscalls.abi import msghdr


class _Msghdr(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("iovec", ctypes.c_void_p),
        ("iovec_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
    )


class _Mmsghdr(ctypes.Structure):
    _fields_ = (("header", _Msghdr), ("length", ctypes.c_uint32))


WORD = st.integers(0, 2**64 - 1)
HALF = st.integers(0, 2**32 - 1)
FIELDS = st.tuples(WORD, HALF, WORD, WORD, WORD, WORD, HALF)


def test_sizes_and_offsets() -> None:
    assert ctypes.sizeof(_Msghdr) == msghdr.MSGHDR_BYTES
    assert ctypes.sizeof(_Mmsghdr) == msghdr.MMSGHDR_BYTES
    assert _Msghdr.name.offset == msghdr.NAME_OFFSET
    assert _Msghdr.name_length.offset == msghdr.NAME_LENGTH_OFFSET
    assert _Mmsghdr.length.offset == msghdr.MSG_LEN_OFFSET


@given(FIELDS, st.integers(0, 3))
def test_decode(fields: tuple[int, ...], index: int) -> None:
    array = bytearray(4 * msghdr.MMSGHDR_BYTES)
    offset = index * msghdr.MMSGHDR_BYTES
    array[offset : offset + msghdr.MSGHDR_BYTES] = bytes(_Msghdr(*fields))
    assert msghdr.decode(bytes(array), offset) == msghdr.MessageHeader(*fields)


@given(FIELDS, st.integers(0, 128))
def test_only_the_length_of_the_name_changes(fields: tuple[int, ...], length: int) -> None:
    content = bytes(_Mmsghdr(_Msghdr(*fields), 5))
    changed = msghdr.renamed(content, length)
    assert len(changed) == msghdr.MSGHDR_BYTES
    assert msghdr.decode(changed) == msghdr.MessageHeader(fields[0], length, *fields[2:])


@given(st.lists(st.tuples(WORD, st.integers(0, 2**31)), max_size=20))
def test_the_length_of_a_message(iovecs: list[tuple[int, int]]) -> None:
    content = b"".join(struct.pack("=QQ", *iovec) for iovec in iovecs)
    assert len(content) == msghdr.IOVEC_BYTES * len(iovecs)
    assert msghdr.total_length(content) == sum(length for _, length in iovecs)
