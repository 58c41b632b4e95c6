"""TCP connections out of the pod, and what all sockets of the agent share.

The agent's process is in the pod's network namespace, so these are ordinary sockets. They carry a mark, where the agent may
set one, that keeps them out of its own redirect of stolen ports: a program that connects to its pod's own port means the
pod's container, not itself.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Callable, Dict, Tuple, Union

from .nft import AGENT_MARK
from .pump.loop import WRITE, Loop
from .pump.session import Session
from .wire.messages import Address, Connected, ConnectTcp, Failed, Message

Reply = Callable[[Message], None]
SocketAddress = Union[Tuple[str, int], Tuple[str, int, int, int]]

_FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}


class OutgoingTcp:
    """Answers `ConnectTcp`. Never blocks: a connect in progress is one watched socket."""

    def __init__(self, loop: Loop, session: Session) -> None:
        self._loop = loop
        self._session = session
        self._pending: Dict[int, socket.socket] = {}

    def connect(self, request: ConnectTcp, reply: Reply) -> None:
        """connect(2): `Connected` when the peer has answered, `Failed` with the errno of the pod's kernel."""
        try:
            sock = open_socket(_family(request.peer), socket.SOCK_STREAM)
        except OSError as error:
            reply(failed(error))
            return
        code = sock.connect_ex(to_socket_address(request.peer))
        if code != errno.EINPROGRESS:
            self._finish(sock, code, request, reply)
            return
        self._pending[sock.fileno()] = sock
        self._loop.watch(sock.fileno(), WRITE, lambda mask: self._decided(sock, request, reply))

    def close(self) -> None:
        """Give up the connects that are in progress, without a reply."""
        for fd, sock in self._pending.items():
            self._loop.unwatch(fd)
            sock.close()
        self._pending.clear()

    def _decided(self, sock: socket.socket, request: ConnectTcp, reply: Reply) -> None:
        self._loop.unwatch(sock.fileno())
        del self._pending[sock.fileno()]
        self._finish(sock, sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), request, reply)

    def _finish(self, sock: socket.socket, code: int, request: ConnectTcp, reply: Reply) -> None:
        try:
            if code:
                raise OSError(code, os.strerror(code))
            connected = Connected(from_socket_address(sock.getsockname()), from_socket_address(sock.getpeername()))
            # The program's own Nagle setting has already shaped what comes; delaying it again helps nobody.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            reply(failed(error))
            return
        reply(connected)
        self._session.bridge(request.stream, sock)


def failed(error: OSError) -> Failed:
    """The reply for an OSError."""
    return Failed(error.errno or errno.EIO, "")


def from_socket_address(address: SocketAddress) -> Address:
    """An address of the socket module as the protocol has it; the scope of a link-local one is not carried."""
    host = address[0].partition("%")[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Address(socket.inet_pton(family, host), address[1])


def to_socket_address(address: Address) -> SocketAddress:
    """The reverse of `from_socket_address`."""
    return socket.inet_ntop(_family(address), address.ip), address.port


def _family(address: Address) -> socket.AddressFamily:
    return _FAMILIES[len(address.ip)]


def open_socket(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    """socket(2), non-blocking, with the agent's mark where the agent may set one."""
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", AGENT_MARK))
    except PermissionError:
        pass  # without CAP_NET_ADMIN there is no redirect either
    except OSError:
        sock.close()
        raise
    return sock
