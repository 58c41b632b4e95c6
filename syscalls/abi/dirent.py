"""Directory records of getdents64(2) and of the old getdents(2).

Both kinds have the same length for the same name (18 or 19 bytes of fields, the name, its NUL, the type byte in front
of or behind the name, rounded up to 8), so the records of one can be turned into the other's where they are, and one
set of offsets (d_off) serves both.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_RECORD64 = struct.Struct("<QqHB")
_NAME64 = 19
_NAME = 18
_LENGTH = struct.Struct("<H")
_LENGTH_AT = 16
_TYPE_AT = 18
_INODE_MASK = (1 << 64) - 1


def pack_records(names: Sequence[bytes], inodes: Sequence[int], types: Sequence[int]) -> tuple[bytes, tuple[int, ...]]:
    """struct linux_dirent64 for each entry, and the offsets of all records with that of their end.

    d_off of a record is the byte offset of the next one: telldir(3) values that lseek(2) on a file holding the records
    understands. A parallel tuple that is too short is a ValueError.
    """
    if not len(names) == len(inodes) == len(types):
        raise ValueError("names, inodes and types of a directory differ in number")
    chunks: list[bytes] = []
    offsets: list[int] = [0]
    for name, inode, type_ in zip(names, inodes, types, strict=False):
        length = (_NAME64 + len(name) + 1 + 7) & ~7
        offsets.append(offsets[-1] + length)
        head = _RECORD64.pack(inode & _INODE_MASK, offsets[-1], length, type_)
        chunks.append((head + name).ljust(length, b"\0"))
    return b"".join(chunks), tuple(offsets)


def to_old_layout(records: bytes) -> bytes:
    """struct linux_dirent for each struct linux_dirent64: the name one byte earlier, the type in the last byte."""
    old = bytearray(records)
    at = 0
    while at < len(old):
        (length,) = _LENGTH.unpack_from(old, at + _LENGTH_AT)
        end = at + length
        type_ = old[at + _TYPE_AT]
        old[at + _NAME : end] = old[at + _NAME64 : end] + bytes((type_,))
        at = end
    return bytes(old)
