"""ICMP echo out of the pod: icmp(7), where the pod's net.ipv4.ping_group_range lets the agent do it.

What goes over the socket is an ICMP message without an IP header. The kernel puts its own identifier into requests, which
is the socket's port, and hands replies with that identifier to the socket.
"""

from __future__ import annotations

import errno
import socket
from typing import Dict

from .net import Reply, failed, from_socket_address, open_socket
from .pump.loop import Loop
from .pump.session import Session
from .udp import DatagramSocket, family_of, queue_errors
from .wire.messages import Failed, OpenPing, UdpOpened


class OutgoingPing:
    """Answers `OpenPing`: one unconnected echo socket in the pod for each stream."""

    def __init__(self, loop: Loop, session: Session) -> None:
        self._loop = loop
        self._session = session
        self._sockets: Dict[int, DatagramSocket] = {}

    def open(self, request: OpenPing, reply: Reply) -> None:
        """icmp(7): EACCES where the pod does not allow echo sockets. Lives until the stream ends."""
        family = family_of(request.family)
        if family is None:
            reply(Failed(errno.EAFNOSUPPORT))
            return
        protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        try:
            sock = open_socket(family, socket.SOCK_DGRAM, protocol)
        except OSError as error:
            reply(failed(error))
            return
        try:
            queue_errors(sock)
            sock.bind(("", 0))
        except OSError as error:
            sock.close()
            reply(failed(error))
            return
        reply(UdpOpened(from_socket_address(sock.getsockname())))
        stream = request.stream
        self._sockets[stream] = DatagramSocket(self._loop, self._session, stream, sock, self._forget)

    def close(self) -> None:
        """Close all sockets."""
        for one in list(self._sockets.values()):
            one.close()

    def _forget(self, stream: int) -> None:
        del self._sockets[stream]
