"""struct msghdr, mmsghdr, iovec of 64-bit Linux: sendmsg(2), sendmmsg(2)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

MSGHDR_BYTES = 56
MMSGHDR_BYTES = 64
NAME_OFFSET = 0
NAME_LENGTH_OFFSET = 8
MSG_LEN_OFFSET = 56
"""Of mmsghdr: where the kernel puts the length of each message."""
IOVEC_BYTES = 16

_MSGHDR = struct.Struct("=QI4xQQQQI4x")
_IOVEC = struct.Struct("=QQ")


@dataclass(frozen=True)
class MessageHeader:
    """A decoded struct msghdr. Addresses are the tracee's; `name` 0 means no address."""

    name: int
    name_length: int
    iovec: int
    iovec_count: int
    control: int
    control_length: int
    flags: int


def decode(content: bytes, offset: int = 0) -> MessageHeader:
    """The msghdr at `offset`."""
    return MessageHeader(*_MSGHDR.unpack_from(content, offset))


def renamed(content: bytes, name_length: int) -> bytes:
    """The 56 bytes of a msghdr with msg_namelen replaced; msg_name is filled in by whoever places it."""
    return content[:NAME_LENGTH_OFFSET] + struct.pack("=I", name_length) + content[NAME_LENGTH_OFFSET + 4 : MSGHDR_BYTES]


def total_length(iovecs: bytes) -> int:
    """The sum of the lengths of an iovec array."""
    return sum(length for _, length in _IOVEC.iter_unpack(iovecs))
