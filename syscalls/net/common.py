"""Steps that all socket handlers share."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ...agent.wire.messages import Address
from ..abi import sockaddr
from ..abi.flags import to_int32
from ..actions import Continue, Decision, Reason, Route, SyscallError
from ..task import Task

if TYPE_CHECKING:
    from ..context import Context

NOT_INTERNET = Continue(Decision(Route.LOCAL, Reason.NOT_INTERNET))
BAD_ARGUMENT = Continue(Decision(Route.LOCAL, Reason.BAD_ARGUMENT))
LOCAL_OBJECT = Continue(Decision(Route.LOCAL, Reason.LOCAL_OBJECT))
UNSUPPORTED = Continue(Decision(Route.LOCAL, Reason.UNSUPPORTED))

INTERNET = frozenset({socket.AF_INET, socket.AF_INET6})
IPPROTO_MPTCP = 262

LOOPBACK4 = bytes((127, 0, 0, 1))
LOOPBACK6 = bytes(15) + b"\1"


def read_name(task: Task, pointer: int, length: int) -> bytes:
    """The sockaddr argument of a call as it is in memory, or nothing where the kernel will find fault with it."""
    size = to_int32(length)
    if not sockaddr.FAMILY_BYTES <= size <= sockaddr.SOCKADDR_STORAGE_BYTES:
        return b""
    try:
        return task.read(pointer, size)
    except SyscallError:
        return b""


def read_address(task: Task, pointer: int, length: int) -> sockaddr.Decoded | None:
    """The sockaddr argument of a call, or None where the kernel will find fault with it."""
    return sockaddr.decode(read_name(task, pointer, length))


def read_room(task: Task, pointer: int) -> int | None:
    """The socklen_t that a value-result argument points to, or None where the kernel will find fault with it."""
    try:
        (room,) = struct.unpack("=i", task.read(pointer, 4))
    except SyscallError:
        return None
    return room if room >= 0 else None


@contextlib.contextmanager
def duplicate(task: Task, fd_argument: int) -> Iterator[socket.socket | None]:
    """The tracee's socket as one of ours, for the length of a `with`; None if the fd is no socket or not open."""
    try:
        fd = task.duplicate(to_int32(fd_argument))
    except SyscallError:
        yield None
        return
    try:
        own = socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        yield None
        return
    with own:
        yield own


def is_tcp(own: socket.socket) -> bool:
    """Whether it is TCP, or multipath TCP; SCTP has stream sockets, too."""
    return own.type == socket.SOCK_STREAM and own.proto in (socket.IPPROTO_TCP, IPPROTO_MPTCP)


def is_udp(own: socket.socket) -> bool:
    """Whether it is UDP; the datagram sockets of ping(8) are ICMP."""
    return own.type == socket.SOCK_DGRAM and own.proto == socket.IPPROTO_UDP


def inode(own: socket.socket) -> int:
    """The number by which a socket is known."""
    return os.fstat(own.fileno()).st_ino


def inode_of(task: Task, fd_argument: int) -> int:
    """The same without a duplicate; 0 if the fd is not open."""
    key = task.file_key(to_int32(fd_argument))
    return key[1] if key else 0


def own_name(own: socket.socket) -> tuple[Address, int]:
    """getsockname(2) of an internet socket: packed address (IPv4 unmapped) and port, and its family."""
    name = own.getsockname()
    packed = socket.inet_pton(own.family, name[0].split("%")[0])
    if packed[:12] == bytes(10) + b"\xff\xff":
        packed = packed[12:]
    return Address(packed, name[1]), own.family


def accepted(context: Context, own: socket.socket) -> tuple[Address, Address] | None:
    """Of a connection that came for the pod: the real peer and the pod's own address; None for any other socket."""
    try:
        relay_port = own.getpeername()[1]
    except OSError:
        return None
    local, _ = own_name(own)
    if own.type != socket.SOCK_STREAM or not relay_port:
        return None
    return context.addresses.lookup(len(local.ip) == 16, relay_port, local.port)


def through_loopback(peer: Address) -> Address:
    """connect(2) to the unspecified address means this host."""
    if not any(peer.ip):
        return Address(LOOPBACK4 if len(peer.ip) == 4 else LOOPBACK6, peer.port)
    return peer


def is_loopback(address: Address) -> bool:
    """Whether it is 127.0.0.0/8 or ::1."""
    return address.ip[0] == 127 if len(address.ip) == 4 else address.ip == LOOPBACK6


def loopback(address: Address, port: int) -> Address:
    """The loopback address of the same IP version."""
    return Address(LOOPBACK4 if len(address.ip) == 4 else LOOPBACK6, port)


def bind_to_loopback(own: socket.socket, address: Address) -> None:
    """bind(2) a socket to a free loopback port of the version of `address`; OSError as the kernel's."""
    own.bind((text(own, loopback(address, 0)), 0))


def text(own: socket.socket, address: Address) -> str:
    """An IP address as Python's socket calls take it for a socket of this family; IPv4 is mapped for AF_INET6."""
    version = socket.AF_INET if len(address.ip) == 4 else socket.AF_INET6
    shown = socket.inet_ntop(version, address.ip)
    return "::ffff:" + shown if own.family == socket.AF_INET6 and version == socket.AF_INET else shown
