"""TCP connections and datagrams out of the pod.

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
from .pump.loop import READ, WRITE, Loop
from .pump.session import Session
from .wire.errors import RemoteProtocolError
from .wire.frames import pack_datagram, unpack_datagram
from .wire.messages import Address, Connected, ConnectTcp, Failed, Message, OpenUdp, UdpOpened

Reply = Callable[[Message], None]
SocketAddress = Union[Tuple[str, int], Tuple[str, int, int, int]]

_FAMILIES = {4: socket.AF_INET, 16: socket.AF_INET6}
_IPV4, _IPV6 = 4, 6
_MAX_DATAGRAM = 65536
# How many datagrams one readiness event may take before others get their turn.
_DATAGRAMS_AT_A_TIME = 64


class OutgoingTcp:
    """Answers `ConnectTcp`. Never blocks: a connect in progress is one watched socket."""

    def __init__(self, loop: Loop, session: Session) -> None:
        self._loop = loop
        self._session = session
        self._pending: Dict[int, socket.socket] = {}

    def connect(self, request: ConnectTcp, reply: Reply) -> None:
        """connect(2): `Connected` when the peer has answered, `Failed` with the errno of the pod's kernel."""
        try:
            sock = _open(_family(request.peer), socket.SOCK_STREAM)
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


class OutgoingUdp:
    """Answers `OpenUdp`: one unconnected socket in the pod for each stream."""

    def __init__(self, loop: Loop, session: Session) -> None:
        self._loop = loop
        self._session = session
        self._sockets: Dict[int, socket.socket] = {}

    def open(self, request: OpenUdp, reply: Reply) -> None:
        """socket(2) SOCK_DGRAM, bound to a port of the pod's choice; lives until the stream ends."""
        if request.family not in (_IPV4, _IPV6):
            reply(Failed(errno.EAFNOSUPPORT))
            return
        family = socket.AF_INET if request.family == _IPV4 else socket.AF_INET6
        try:
            sock = _open(family, socket.SOCK_DGRAM)
            sock.bind(("", 0))
        except OSError as error:
            reply(failed(error))
            return
        stream = request.stream
        self._sockets[stream] = sock
        reply(UdpOpened(from_socket_address(sock.getsockname())))
        self._session.datagrams(stream, lambda payload: self._send(stream, payload), lambda *_: self._end(stream))
        self._loop.watch(sock.fileno(), READ, lambda mask: self._receive(stream))

    def close(self) -> None:
        """Close all sockets."""
        for stream in list(self._sockets):
            self._end(stream)

    # As on a real network, what cannot be sent is lost: UDP gives the sender no promise and no errno that we could carry.
    def _send(self, stream: int, payload: bytes) -> None:
        sock = self._sockets.get(stream)
        if sock is None:
            return
        try:
            peer, datagram = unpack_datagram(payload)
            sock.sendto(datagram, to_socket_address(peer))
        except RemoteProtocolError:
            self._end(stream)
            self._session.reset(stream, errno.EPROTO)
        except OSError:
            pass

    def _receive(self, stream: int) -> None:
        sock = self._sockets.get(stream)
        for _ in range(_DATAGRAMS_AT_A_TIME):
            if sock is None or sock.fileno() < 0:
                return
            try:
                datagram, peer = sock.recvfrom(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram, reported once
            self._session.send_datagram(stream, pack_datagram(from_socket_address(peer), datagram))

    def _end(self, stream: int) -> None:
        sock = self._sockets.pop(stream, None)
        if sock is not None:
            self._loop.unwatch(sock.fileno())
            sock.close()


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


def _open(family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, struct.pack("=I", AGENT_MARK))
    except PermissionError:
        pass  # without CAP_NET_ADMIN there is no redirect either
    except OSError:
        sock.close()
        raise
    return sock
