"""ICMP echo messages (RFC 792, RFC 4443) on their way between a socket of the tracee and one of the pod."""

from __future__ import annotations

import struct

_HEADER = struct.Struct(">BBHHH")  # type, code, checksum, identifier, sequence


def with_identifier(message: bytes, identifier: int, *, ipv6: bool) -> bytes:
    """The message with another identifier. ICMPv6 checksums cover addresses, and no program can see or check them."""
    if len(message) < _HEADER.size:
        return message
    kind, code, checksum, _, sequence = _HEADER.unpack_from(message)
    changed = _HEADER.pack(kind, code, 0, identifier, sequence) + message[_HEADER.size :]
    if not ipv6:
        checksum = internet_checksum(changed)
    return _HEADER.pack(kind, code, checksum, identifier, sequence) + message[_HEADER.size :]


def internet_checksum(message: bytes) -> int:
    """RFC 1071, of a message whose checksum field is 0."""
    padded = message + b"\0" * (len(message) % 2)
    total: int = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total
