"""rtnetlink(7) on behalf of the client: what the pod's interfaces, addresses and routes are.

Only questions are asked (the RTM_GET kinds), with the client's own message, so that every attribute and every option of it
means what it means in the pod. The kernel carries out a request within sendmsg(2), and each recvmsg(2) makes the next part of
a dump: nothing here ever waits for the network.

The kernel makes its datagrams as large as the largest buffer that the socket was ever read with. The client's program may
read with a page, as glibc and Go do, so the size of each datagram is looked at with a buffer of one byte first.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import List, NamedTuple, Optional

from .netlink import NETLINK_ROUTE
from .wire.messages import AskRoutes, RouteReplies

MAX_REPLY_BYTES = 4 * 1024 * 1024
"""Of all datagrams of one answer; a longer one is ENOBUFS."""

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300

_HEADER = struct.Struct("=IHHII")
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_FIRST_KIND = 16
_KIND_MASK = 3
_KIND_GET = 2
_FLAGS_AT = 6
_SMALLEST_BUFFER_BYTES = 4096


class _Header(NamedTuple):
    # struct nlmsghdr
    length: int
    type: int
    flags: int
    sequence: int
    port: int


def ask_routes(request: AskRoutes) -> RouteReplies:
    """The kernel's answer to one request, in this process's network namespace.

    EPERM if it is no question, EINVAL if it is no whole message, ENOBUFS if the answer is too long. What the kernel
    refuses is an answer as well: NLMSG_ERROR.
    """
    header = _header(request.request)
    if header is None or header.length != len(request.request):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    if header.type < _FIRST_KIND or header.type & _KIND_MASK != _KIND_GET:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))
    dump = bool(header.flags & NLM_F_DUMP)
    # An acknowledgement tells the end of an answer that is no dump.
    flags = header.flags | NLM_F_REQUEST | (0 if dump else NLM_F_ACK)
    message = request.request[:_FLAGS_AT] + struct.pack("=H", flags) + request.request[_FLAGS_AT + 2 :]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_ROUTE) as netlink:
        netlink.bind((0, 0))
        netlink.send(message)
        datagrams = _answer(netlink)
    if not dump and not header.flags & NLM_F_ACK and datagrams and _is_success(datagrams[-1]):
        datagrams.pop()
    return RouteReplies(tuple(_with_its_end(datagrams)))


# The end of a dump in the datagram before it, as newer kernels send it: the program has one less to receive.
def _with_its_end(datagrams: List[bytes]) -> List[bytes]:
    if len(datagrams) < 2 or not _is_done(datagrams[-1]):
        return datagrams
    joined = datagrams[-2] + bytes(-len(datagrams[-2]) % 4) + datagrams[-1]
    return [*datagrams[:-2], joined] if len(joined) <= _SMALLEST_BUFFER_BYTES else datagrams


def _is_done(datagram: bytes) -> bool:
    header = _header(datagram)
    return header is not None and header.type == _NLMSG_DONE


def _answer(netlink: socket.socket) -> List[bytes]:
    datagrams: List[bytes] = []
    size = 0
    while not (datagrams and _ends(datagrams[-1])):
        try:
            datagram = _receive(netlink)
        except BlockingIOError:
            break  # a kind that is not acknowledged
        size += len(datagram)
        if size > MAX_REPLY_BYTES:
            raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))
        datagrams.append(datagram)
    return datagrams


def _receive(netlink: socket.socket) -> bytes:
    size = netlink.recv_into(bytearray(1), 1, socket.MSG_PEEK | socket.MSG_TRUNC | socket.MSG_DONTWAIT)
    return netlink.recv(max(size, 1), socket.MSG_DONTWAIT)


# Whether a datagram has the last message of an answer.
def _ends(datagram: bytes) -> bool:
    while True:
        header = _header(datagram)
        if header is None:
            return False
        if header.type in (_NLMSG_ERROR, _NLMSG_DONE):
            return True
        datagram = datagram[(header.length + 3) & ~3 :]


def _is_success(datagram: bytes) -> bool:
    header = _header(datagram)
    return header is not None and header.type == _NLMSG_ERROR and not any(datagram[_HEADER.size : _HEADER.size + 4])


def _header(message: bytes) -> Optional[_Header]:
    if len(message) < _HEADER.size:
        return None
    header = _Header(*_HEADER.unpack_from(message))
    return header if _HEADER.size <= header.length <= len(message) else None
