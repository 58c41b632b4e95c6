"""struct sockaddr_in, sockaddr_in6, sockaddr_un: ip(7), ipv6(7), unix(7)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from ...agent.wire.messages import Address

AF_UNSPEC = 0
AF_UNIX = 1
AF_INET = 2
AF_INET6 = 10

FAMILY_BYTES = 2
SOCKADDR_IN_BYTES = 16
SOCKADDR_IN6_BYTES = 28
SOCKADDR_IN6_LEAST_BYTES = 24
"""The kernel takes IPv6 addresses without their scope id, too (SIN6_LEN_RFC2133)."""
SOCKADDR_STORAGE_BYTES = 128
PORT_END = 4

_FAMILY = struct.Struct("=H")
_PORT = struct.Struct(">H")
_MAPPED = bytes(10) + b"\xff\xff"


@dataclass(frozen=True)
class Internet:
    """A decoded AF_INET or AF_INET6 address; `address` holds 4 bytes for both IPv4 and IPv4-mapped IPv6."""

    family: int
    address: Address
    mapped: bool = False


@dataclass(frozen=True)
class Unix:
    """A decoded AF_UNIX address: sun_path up to its NUL; an abstract name begins with NUL; empty if unnamed."""

    path: bytes


Decoded = Internet | Unix | int
"""An address of a family known here, or the number of another family."""


def decode(content: bytes) -> Decoded | None:
    """The meaning of a sockaddr of `len(content)` bytes, or None if it is too short for its family."""
    if len(content) < _FAMILY.size:
        return None
    (family,) = _FAMILY.unpack_from(content)
    if family == AF_INET:
        if len(content) < SOCKADDR_IN_BYTES:
            return None
        return Internet(family, Address(content[4:8], _PORT.unpack_from(content, 2)[0]))
    if family == AF_INET6:
        if len(content) < SOCKADDR_IN6_LEAST_BYTES:
            return None
        ip, port = content[8:24], _PORT.unpack_from(content, 2)[0]
        if ip.startswith(_MAPPED):
            return Internet(family, Address(ip[12:], port), mapped=True)
        return Internet(family, Address(ip, port))
    if family == AF_UNIX:
        path = content[2:]
        return Unix(path if path[:1] == b"\0" else path.split(b"\0", 1)[0])
    return int(family)


def encode(family: int, address: Address) -> bytes:
    """The sockaddr of an internet address for a socket of `family`; IPv4 is mapped for AF_INET6."""
    if family == AF_INET:
        return _FAMILY.pack(AF_INET) + _PORT.pack(address.port) + address.ip[-4:] + bytes(8)
    ip = address.ip if len(address.ip) == 16 else _MAPPED + address.ip
    return _FAMILY.pack(AF_INET6) + _PORT.pack(address.port) + bytes(4) + ip + bytes(4)


def encode_unix(path: bytes) -> bytes:
    """The sockaddr of an AF_UNIX name as the kernel returns it: a path with its NUL, an abstract name without one."""
    return _FAMILY.pack(AF_UNIX) + (path + b"\0" if path and path[0] else path)


def family_and_port(content: bytes) -> tuple[int, int]:
    """The beginning of an internet address of at least PORT_END bytes."""
    return _FAMILY.unpack_from(content)[0], _PORT.unpack_from(content, 2)[0]


def value_result(where: int, length_at: int, room: int, content: bytes) -> tuple[tuple[int, bytes], ...]:
    """The writes by which the kernel returns an address: at most `room` bytes of it, and its true length."""
    writes = ((where, content[:room]),) if room else ()
    return (*writes, (length_at, struct.pack("=I", len(content))))
