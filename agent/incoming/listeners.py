"""The listeners that redirected connections come to, and where these wanted to go.

The kernel knows that (SO_ORIGINAL_DST), and accept(2) tells who they are. A connection that came to a listener's own port
was not redirected: some process of the pod tries its luck, and is dropped.

One port number for both families, because one rule serves both. Not a dual-stack socket: the kernel does not tell the
original IPv4 destination on one. A pod without IPv6 gets a listener for IPv4 alone.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Callable, List, Optional

from ..net import from_socket_address
from ..pump.loop import READ, Loop
from ..wire.messages import Address

_SO_ORIGINAL_DST = 80
_SOCKADDR_IN = struct.Struct("=H2s4s8x")
_SOCKADDR_IN6 = struct.Struct("=H2s4x16s4x")
_BACKLOG = 4096
_ACCEPTS_AT_A_TIME = 64
# After EMFILE and the like: the backlog holds the connections meanwhile.
_ACCEPT_PAUSE_S = 0.1
_LISTENER_TRIES = 16
_KEEP_ALIVE_S = 120
_ABORT = struct.pack("=ii", 1, 0)

OnConnection = Callable[[socket.socket, Address, Address], None]
"""Called with an accepted, non-blocking socket, its peer, and the address that the peer wanted."""


class Listeners:
    """Accepts on the loop from the start. OSError: no listener to be had."""

    def __init__(self, loop: Loop, on_connection: OnConnection) -> None:
        self._loop = loop
        self._on_connection = on_connection
        self._listeners = open_pair(socket.SOCK_STREAM)
        self.port: int = self._listeners[0].getsockname()[1]
        for listener in self._listeners:
            # What is accepted has these as well. The keep-alive: for the container, a peer that vanishes is us, who stay.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S)
            listener.listen(_BACKLOG)
            self._watch(listener)

    def close(self) -> None:
        """Close them; what waits to be accepted is reset."""
        for listener in self._listeners:
            self._loop.unwatch(listener.fileno())
            listener.close()
        self._listeners.clear()

    def _watch(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            self._loop.watch(listener.fileno(), READ, lambda mask: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_AT_A_TIME):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:
                self._loop.unwatch(listener.fileno())
                self._loop.call_later(_ACCEPT_PAUSE_S, lambda: self._watch(listener))
                return
            sock.setblocking(False)
            wanted = original_destination(sock)
            if wanted is None or wanted.port == self.port:
                abort(sock)
                continue
            self._on_connection(sock, from_socket_address(peer), wanted)


def original_destination(sock: socket.socket) -> Optional[Address]:
    """Where a redirected connection wanted to go; None if the kernel's connection tracking does not know it."""
    try:
        if sock.family == socket.AF_INET:
            name = sock.getsockopt(socket.SOL_IP, _SO_ORIGINAL_DST, _SOCKADDR_IN.size)
            _, port, ip = _SOCKADDR_IN.unpack(name)
        else:
            name = sock.getsockopt(socket.IPPROTO_IPV6, _SO_ORIGINAL_DST, _SOCKADDR_IN6.size)
            _, port, ip = _SOCKADDR_IN6.unpack(name)
    except OSError:
        return None
    return Address(ip, int.from_bytes(port, "big"))


def abort(sock: socket.socket) -> None:
    """close(2) with a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    sock.close()


def open_pair(kind: socket.SocketKind) -> List[socket.socket]:
    """Sockets bound to one free port of all addresses: one for IPv4 and, where there is IPv6, one for that."""
    for _ in range(_LISTENER_TRIES):
        ipv4 = _bound(socket.AF_INET, kind, 0)
        try:
            return [ipv4, _bound(socket.AF_INET6, kind, ipv4.getsockname()[1])]
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return [ipv4]
            ipv4.close()
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _bound(family: socket.AddressFamily, kind: socket.SocketKind, port: int) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", port))
    except OSError:
        sock.close()
        raise
    return sock
