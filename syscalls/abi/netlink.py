"""struct sockaddr_nl, nlmsghdr, ifinfomsg, ifaddrmsg and their attributes: netlink(7), rtnetlink(7)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

AF_NETLINK = 16
NETLINK_ROUTE = 0
NETLINK_USERSOCK = 2

SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_DROP_MEMBERSHIP = 2

SOCKADDR_BYTES = 12
PORT_OFFSET = 4
"""Of sockaddr_nl.nl_pid and nl_groups."""

HEADER_BYTES = 16
ERROR_BYTES = 20
"""Of nlmsgerr's number and its header, up to the refused message."""

NLMSG_ERROR = 2
NLMSG_MIN_TYPE = 16
NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300

RTM_NEWLINK = 16
RTM_GETLINK = 18
RTM_NEWADDR = 20
RTM_GETADDR = 22
KIND_MASK = 3
KIND_GET = 2
"""Message types come in fours: new, delete, get, set."""

IFLA_ADDRESS = 1
IFLA_IFNAME = 3
IFLA_MTU = 4
IFLA_TXQLEN = 13
IFLA_MAP = 14
IFA_ADDRESS = 1
IFA_LOCAL = 2
IFA_LABEL = 3
IFA_BROADCAST = 4

_SOCKADDR = struct.Struct("=HHII")
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF


class Name(NamedTuple):
    """A sockaddr_nl."""

    family: int
    port: int
    groups: int


class Header(NamedTuple):
    """A struct nlmsghdr."""

    length: int
    type: int
    flags: int
    sequence: int
    port: int


def decode_name(content: bytes) -> Name:
    """A sockaddr_nl of at least SOCKADDR_BYTES."""
    family, _, port, groups = _SOCKADDR.unpack_from(content)
    return Name(family, port, groups)


def encode_name(port: int, groups: int) -> bytes:
    """A sockaddr_nl."""
    return _SOCKADDR.pack(AF_NETLINK, 0, port, groups)


def encode_header(header: Header) -> bytes:
    """Its 16 bytes."""
    return _HEADER.pack(*header)


def messages(datagram: bytes) -> Iterator[tuple[Header, bytes]]:
    """Each whole message of a datagram, as (header, the message with its header); ends at the first that is broken."""
    offset = 0
    while offset + HEADER_BYTES <= len(datagram):
        header = Header(*_HEADER.unpack_from(datagram, offset))
        if header.length < HEADER_BYTES or offset + header.length > len(datagram):
            return
        yield header, datagram[offset : offset + header.length]
        offset += (header.length + 3) & ~3


def attributes(content: bytes) -> dict[int, bytes]:
    """The attributes that fill `content`; of equal types the last one counts."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(content):
        length, kind = _ATTRIBUTE.unpack_from(content, offset)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = content[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    return found


def dump_request(kind: int, body: bytes) -> bytes:
    """A request for all there is of one kind."""
    header = Header(HEADER_BYTES + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, 1, 0)
    return encode_header(header) + body


def failure(request: bytes, errno: int) -> bytes:
    """NLMSG_ERROR: the answer to a whole message that failed (0: that is acknowledged)."""
    header = Header(*_HEADER.unpack_from(request))
    answer = Header(HEADER_BYTES + 4 + len(request), NLMSG_ERROR, 0, header.sequence, header.port)
    return encode_header(answer) + struct.pack("=i", -errno) + request


def readdressed(datagram: bytes, request: bytes, port: int) -> bytes:
    """An answer to the same request of somebody else, as an answer to `request` for the socket with this port."""
    asked = Header(*_HEADER.unpack_from(request))
    parts = []
    for header, message in messages(datagram):
        body = message[HEADER_BYTES:]
        if header.type == NLMSG_ERROR and len(body) >= ERROR_BYTES:
            body = body[:4] + request[:HEADER_BYTES] + body[ERROR_BYTES:]
        part = encode_header(header._replace(sequence=asked.sequence, port=port)) + body
        parts.append(part + bytes(-len(part) % 4))
    return b"".join(parts)
