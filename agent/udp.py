"""Datagrams out of the pod, from ordinary sockets there."""

from __future__ import annotations

import errno
import socket
from typing import Dict

from .net import Reply, failed, from_socket_address, open_socket, to_socket_address
from .pump.loop import READ, Loop
from .pump.session import Session
from .wire.errors import RemoteProtocolError
from .wire.frames import pack_datagram, unpack_datagram
from .wire.messages import Failed, OpenUdp, UdpOpened

_IPV4, _IPV6 = 4, 6
_MAX_DATAGRAM = 65536
# How many datagrams one readiness event may take before others get their turn.
_DATAGRAMS_AT_A_TIME = 64


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
            sock = open_socket(family, socket.SOCK_DGRAM)
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
