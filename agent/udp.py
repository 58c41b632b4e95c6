"""Datagrams out of the pod, from ordinary sockets there.

The sockets are unconnected: one of them serves all peers of a program's socket. IP_RECVERR (ip(7)) makes the kernel queue
the ICMP errors of such a socket together with the peer they are about. It also makes any later call fail with the errno
of an earlier datagram to somebody else, so a send that fails is tried once more after the queue has been read.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Callable, Dict, Optional, Tuple

from .net import Reply, failed, from_socket_address, open_socket, to_socket_address
from .pump.loop import READ, Loop
from .pump.session import Session
from .wire.errors import RemoteProtocolError
from .wire.frames import pack_datagram, unpack_datagram
from .wire.messages import Address, DatagramFailed, Failed, OpenUdp, UdpOpened

_IPV4, _IPV6 = 4, 6
_MAX_DATAGRAM = 65536
# How many datagrams one readiness event may take before others get their turn.
_DATAGRAMS_AT_A_TIME = 64
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_ERROR_QUEUES = ((socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR))
_ERROR_BYTES = 4  # struct sock_extended_err begins with the errno
_RECEIVE_BUFFER = 1024 * 1024  # the kernel gives what it allows


class DatagramSocket:
    """One unconnected socket (owned) behind one stream. Never blocks; what the stream has no credit for is dropped."""

    def __init__(self, loop: Loop, session: Session, stream: int, sock: socket.socket, on_end: Callable[[int], None]) -> None:
        self._loop = loop
        self._session = session
        self._stream = stream
        self._socket = sock
        self._on_end = on_end
        session.datagrams(stream, self._send, lambda *_: self.close())
        loop.watch(sock.fileno(), READ, lambda mask: self._receive())

    def close(self) -> None:
        """Close the socket; does nothing the second time."""
        if self._socket.fileno() >= 0:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._on_end(self._stream)

    def _send(self, payload: bytes) -> None:
        try:
            peer, datagram = unpack_datagram(payload)
        except RemoteProtocolError:
            self.close()
            self._session.reset(self._stream, errno.EPROTO)
            return
        error = self._attempt(datagram, peer)
        if error and self._report_errors():
            error = self._attempt(datagram, peer)
        # A full send buffer loses a datagram, as a full queue of a network card does.
        if error not in (0, errno.EAGAIN, errno.ENOBUFS):
            self._session.notify(DatagramFailed(self._stream, peer, error))

    def _attempt(self, datagram: bytes, peer: Address) -> int:
        try:
            self._socket.sendto(datagram, to_socket_address(peer))
        except OSError as error:
            return error.errno or errno.EIO
        return 0

    def _receive(self) -> None:
        for _ in range(_DATAGRAMS_AT_A_TIME):
            if self._socket.fileno() < 0:
                return
            try:
                datagram, peer = self._socket.recvfrom(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError:
                self._report_errors()
                continue
            self._session.send_datagram(self._stream, pack_datagram(from_socket_address(peer), datagram))

    # Whether there were any.
    def _report_errors(self) -> bool:
        found = False
        for _ in range(_DATAGRAMS_AT_A_TIME):
            try:
                _, control, _, peer = self._socket.recvmsg(0, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
            except OSError:
                return found
            found = True
            for level, kind, content in control:
                if (level, kind) in _ERROR_QUEUES and len(content) >= _ERROR_BYTES and peer:
                    (number,) = struct.unpack_from("=I", content)
                    self._session.notify(DatagramFailed(self._stream, from_socket_address(peer), number & 0xFFF))
        return found


class DatagramSockets:
    """The sockets in the pod that requests of one kind have opened, one for each stream; each lives as long as its stream."""

    def __init__(self, loop: Loop, session: Session) -> None:
        self._loop = loop
        self._session = session
        self._sockets: Dict[int, DatagramSocket] = {}

    def serve(
        self,
        stream: int,
        kind: Tuple[socket.AddressFamily, int],
        prepare: Callable[[socket.socket], None],
        reply: Reply,
    ) -> None:
        """socket(2) SOCK_DGRAM of this family and protocol; `prepare` sets options and binds it."""
        family, protocol = kind
        try:
            sock = open_socket(family, socket.SOCK_DGRAM, protocol)
        except OSError as error:
            reply(failed(error))
            return
        try:
            queue_errors(sock)
            prepare(sock)
        except OSError as error:
            sock.close()
            reply(failed(error))
            return
        reply(UdpOpened(from_socket_address(sock.getsockname())))
        self._sockets[stream] = DatagramSocket(self._loop, self._session, stream, sock, self._forget)

    def close(self) -> None:
        """Close all sockets."""
        for one in list(self._sockets.values()):
            one.close()

    def _forget(self, stream: int) -> None:
        del self._sockets[stream]


class OutgoingUdp(DatagramSockets):
    """Answers `OpenUdp`: one unconnected socket in the pod for each stream."""

    def open(self, request: OpenUdp, reply: Reply) -> None:
        """Bound to the wanted port if it is free, else to one of the pod's choice.

        It may send to broadcast addresses: whether the program may is judged before.
        """
        family = family_of(request.family)
        if family is None:
            reply(Failed(errno.EAFNOSUPPORT))
            return

        def prepare(sock: socket.socket) -> None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            _bind(sock, request.port)

        self.serve(request.stream, (family, 0), prepare, reply)


def family_of(version: int) -> Optional[socket.AddressFamily]:
    """AF_INET for 4, AF_INET6 for 6, None for anything else."""
    return {_IPV4: socket.AF_INET, _IPV6: socket.AF_INET6}.get(version)


def queue_errors(sock: socket.socket) -> None:
    """ip(7), ipv6(7): IP_RECVERR, so that the kernel says which peer an ICMP error is about."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)


def _bind(sock: socket.socket, port: int) -> None:
    try:
        sock.bind(("", port))
    except OSError:
        if not port:
            raise
        sock.bind(("", 0))
