"""sock_diag(7): the state of one TCP socket of this machine, found by its addresses and known by its cookie.

The relay holds no descriptor of the tracees' sockets. But it has to know whether a socket whose connect is pending is
still there (close(2) does not stop), and that no other socket has taken its port. The kernel answers an exact question
before sendto(2) returns, so nobody waits. It compares the cookie itself.
"""

from __future__ import annotations

import enum
import errno
import socket
import struct

from ...agent.wire.messages import Address
from .loopback import family_of, unmapped

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_NLMSG_ERROR = 2
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")  # inet_diag_req_v2 before its inet_diag_sockid
_PORTS = struct.Struct(">HH")
_COOKIE = struct.Struct("=IQ")  # the interface, then the cookie
_REPLY_BYTES = 512
_SHORTEST_REPLY = _HEADER.size + 4


class Presence(enum.Enum):
    """What is there at a pair of addresses."""

    THERE = "the socket meant"
    ABSENT = "no socket, or another one"
    UNKNOWN = "this kernel does not tell"


class TcpStates:
    """Asks the kernel. Every question costs a system call or two and never waits."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._asked = 0

    def presence(self, local: Address, peer: Address, cookie: int) -> Presence:
        """Whether the socket with this SO_COOKIE has this name and this peer. A cookie of 0 is that of no socket."""
        if not cookie:
            return Presence.UNKNOWN
        self._asked = (self._asked + 1) & 0x7FFFFFFF
        try:
            answer = self._ask(_question(self._asked, local, peer, cookie))
        except OSError:
            return Presence.UNKNOWN
        kind = _HEADER.unpack_from(answer)[1]
        if kind == _SOCK_DIAG_BY_FAMILY:
            return Presence.THERE
        (number,) = struct.unpack_from("=i", answer, _HEADER.size)
        return Presence.ABSENT if (kind, number) == (_NLMSG_ERROR, -errno.ENOENT) else Presence.UNKNOWN

    def _ask(self, question: bytes) -> bytes:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
            self._socket.setblocking(False)
        self._socket.send(question)
        answer = b""
        while len(answer) < _SHORTEST_REPLY or _HEADER.unpack_from(answer)[3] != self._asked:
            answer = self._socket.recv(_REPLY_BYTES)
        return answer

    def close(self) -> None:
        """Give the descriptor back; the next question takes another one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _question(number: int, local: Address, peer: Address, cookie: int) -> bytes:
    names = (unmapped(local).ip.ljust(16, b"\0"), unmapped(peer).ip.ljust(16, b"\0"))
    body = _REQUEST.pack(family_of(local), socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF)
    body += _PORTS.pack(local.port, peer.port) + b"".join(names) + _COOKIE.pack(0, cookie)
    return _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, number, 0) + body
