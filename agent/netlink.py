"""netlink(7): messages, attributes and one blocking-free exchange with the kernel.

The kernel works on a netlink request inside sendmsg(2): when that returns, every answer, errors included, is already in the
socket's receive buffer. So one exchange is one send, then reads until the buffer is empty, and nothing here ever waits.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Dict, Iterator, List, NamedTuple, Tuple

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_DUMP = 0x300
NLM_F_CREATE = 0x400
NLM_F_EXCL = 0x200
NLM_F_APPEND = 0x800

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_RECEIVE_BYTES = 64 * 1024


class Answer(NamedTuple):
    """One message from the kernel, without its header."""

    type: int
    payload: bytes


def attribute(kind: int, value: bytes) -> bytes:
    """One attribute, padded."""
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def text(kind: int, value: str) -> bytes:
    """An attribute with a NUL-terminated string."""
    return attribute(kind, value.encode() + b"\0")


def number(kind: int, value: int) -> bytes:
    """An attribute with a 32-bit integer in network order, as nfnetlink wants all its own."""
    return attribute(kind, struct.pack("!I", value))


def long_number(kind: int, value: int) -> bytes:
    """An attribute with a 64-bit integer in network order."""
    return attribute(kind, struct.pack("!Q", value))


def nest(kind: int, *attributes: bytes) -> bytes:
    """An attribute made of attributes."""
    return attribute(kind | _NLA_F_NESTED, b"".join(attributes))


def attributes(payload: bytes) -> Dict[int, bytes]:
    """The attributes that fill `payload`; of equal kinds the last one counts."""
    found: Dict[int, bytes] = {}
    offset = 0
    while offset + _ATTRIBUTE.size <= len(payload):
        size, kind = _ATTRIBUTE.unpack_from(payload, offset)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _NLA_TYPE_MASK] = payload[offset + _ATTRIBUTE.size : offset + size]
        offset += (size + 3) & ~3
    return found


class Netlink:
    """One netlink socket. What the kernel ties to its owner lives as long as this object (or its process)."""

    def __init__(self, protocol: int) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def exchange(self, messages: List[Tuple[int, int, bytes]]) -> List[Answer]:
        """Send (type, flags, payload) messages in one batch; OSError with the first error that the kernel reports."""
        parts = []
        for kind, flags, payload in messages:
            self._sequence += 1
            size = _HEADER.size + len(payload)
            parts.append(_HEADER.pack(size, kind, flags | NLM_F_REQUEST, self._sequence, 0))
            parts.append(payload)
        self._socket.send(b"".join(parts))
        return self._answers()

    def _answers(self) -> List[Answer]:
        answers: List[Answer] = []
        failure = 0
        while True:
            try:
                block = self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            for answer in _split(block):
                if answer.type == _NLMSG_ERROR:
                    failure = failure or -struct.unpack_from("=i", answer.payload)[0]
                elif answer.type != _NLMSG_DONE:
                    answers.append(answer)
        if failure:
            raise OSError(failure, os.strerror(failure))
        return answers


def _split(block: bytes) -> Iterator[Answer]:
    offset = 0
    while offset + _HEADER.size <= len(block):
        size, kind, _, _, _ = _HEADER.unpack_from(block, offset)
        if size < _HEADER.size:
            return
        yield Answer(kind, block[offset + _HEADER.size : offset + size])
        offset += (size + 3) & ~3


_IFADDRMSG = struct.Struct("=BBBBI")
_RTM_NEWADDR = 20
_RTM_GETADDR = 22
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_LOOPBACK_INDEX = 1


def interface_addresses() -> Tuple[bytes, ...]:
    """The packed IP addresses of this network namespace, those of its loopback interface left out."""
    netlink = Netlink(NETLINK_ROUTE)
    try:
        answers = netlink.exchange([(_RTM_GETADDR, NLM_F_DUMP, _IFADDRMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0))])
    finally:
        netlink.close()
    found = []
    for answer in answers:
        if answer.type != _RTM_NEWADDR or _IFADDRMSG.unpack_from(answer.payload)[4] == _LOOPBACK_INDEX:
            continue
        fields = attributes(answer.payload[_IFADDRMSG.size :])
        # On point-to-point links IFA_ADDRESS is the other end.
        address = fields.get(_IFA_LOCAL, fields.get(_IFA_ADDRESS, b""))
        if len(address) in (4, 16):
            found.append(address)
    return tuple(found)


_RTMSG = struct.Struct("=BBBBBBBBI")
_RTM_NEWROUTE = 24
_RTM_GETROUTE = 26
_RTA_GATEWAY = 5


def default_gateways() -> Tuple[bytes, ...]:
    """The packed addresses of the default gateways, which are mostly the node's in a pod; none if they cannot be told."""
    found = []
    try:
        netlink = Netlink(NETLINK_ROUTE)
        try:
            answers = netlink.exchange([(_RTM_GETROUTE, NLM_F_DUMP, _RTMSG.pack(*(0,) * 9))])
        finally:
            netlink.close()
    except OSError:
        return ()
    for answer in answers:
        if answer.type != _RTM_NEWROUTE or _RTMSG.unpack_from(answer.payload)[1]:
            continue
        gateway = attributes(answer.payload[_RTMSG.size :]).get(_RTA_GATEWAY, b"")
        if len(gateway) in (4, 16):
            found.append(gateway)
    return tuple(found)
