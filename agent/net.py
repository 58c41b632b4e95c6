"""TCP connections out of the pod, and what all sockets of the agent share.

The agent's process is in the pod's network namespace, so these are ordinary sockets. They carry a mark, where the agent may
set one, that keeps them out of its own redirect of stolen ports: a program that connects to its pod's own port means the
pod's container, not itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from typing import Callable, Dict, Tuple, Union

from .nft import AGENT_MARK
from .pump.loop import WRITE, Loop
from .pump.session import Session
from .wire.messages import Address, Connected, ConnectTcp, Failed, GiveUpConnect, Message

Reply = Callable[[Message], None]
SocketAddress = Union[Tuple[str, int], Tuple[str, int, int, int]]

_FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}
_IP_BIND_ADDRESS_NO_PORT = 24
_TCP_USER_TIMEOUT = 18
# What `ConnectTcp.options` may set.
_OPTIONS = frozenset(
    (
        (socket.SOL_SOCKET, socket.SO_REUSEADDR),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        (socket.IPPROTO_TCP, _TCP_USER_TIMEOUT),
        (socket.IPPROTO_IP, socket.IP_TOS),
        (socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
    )
)


class OutgoingTcp:
    """Answers `ConnectTcp`. Never blocks: a connect in progress is one watched socket."""

    def __init__(self, loop: Loop, session: Session) -> None:
        self._loop = loop
        self._session = session
        self._pending: Dict[int, Tuple[socket.socket, Reply]] = {}

    def connect(self, request: ConnectTcp, reply: Reply) -> None:
        """connect(2): `Connected` when the peer has answered, `Failed` with the errno of the pod's kernel."""
        try:
            sock = _prepared(request)
        except OSError as error:
            reply(failed(error))
            return
        code = sock.connect_ex(to_socket_address(request.peer))
        if code != errno.EINPROGRESS:
            self._finish(sock, code, request, reply)
            return
        self._pending[request.stream] = sock, reply
        self._loop.watch(sock.fileno(), WRITE, lambda mask: self._decided(sock, request, reply))

    def give_up(self, notice: GiveUpConnect) -> None:
        """close(2) of a socket that is still connecting; one that has its verdict has been answered."""
        sock, reply = self._pending.pop(notice.stream, (None, None))
        if sock is not None and reply is not None:
            self._loop.unwatch(sock.fileno())
            sock.close()
            reply(Failed(errno.ECANCELED))

    def close(self) -> None:
        """Give up the connects that are in progress, without a reply."""
        for sock, _ in self._pending.values():
            self._loop.unwatch(sock.fileno())
            sock.close()
        self._pending.clear()

    def _decided(self, sock: socket.socket, request: ConnectTcp, reply: Reply) -> None:
        self._loop.unwatch(sock.fileno())
        del self._pending[request.stream]
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


# A socket with the options and the source that the client's program has given its own.
def _prepared(request: ConnectTcp) -> socket.socket:
    sock = open_socket(_family(request.peer), socket.SOCK_STREAM)
    try:
        values = iter(request.options)
        for level, name, value in zip(values, values, values):  # noqa: B905 (no `strict` in 3.9)
            if (level, name) in _OPTIONS:
                with contextlib.suppress(OSError):  # as good as the pod's kernel can do it
                    sock.setsockopt(level, name, value)
        if any(request.source.ip) or request.source.port:
            _bind(sock, request.source, request.is_port_firm)
    except OSError:
        sock.close()
        raise
    return sock


def _bind(sock: socket.socket, source: Address, is_port_firm: bool) -> None:
    if not source.port:
        # The choice may then depend on the peer, as for a socket that is not bound at all.
        sock.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
    try:
        sock.bind(to_socket_address(source))
    except OSError as error:
        if error.errno != errno.EADDRINUSE or is_port_firm:
            raise
        sock.bind(to_socket_address(Address(source.ip, 0)))


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


def open_socket(family: socket.AddressFamily, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
    """socket(2), non-blocking, with the agent's mark where the agent may set one."""
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", AGENT_MARK))
    except PermissionError:
        pass  # without CAP_NET_ADMIN there is no redirect either
    except OSError:
        sock.close()
        raise
    return sock
