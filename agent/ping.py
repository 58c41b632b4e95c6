"""ICMP echo out of the pod: icmp(7), where the pod's net.ipv4.ping_group_range lets the agent do it.

What goes over the socket is an ICMP message without an IP header. The kernel puts its own identifier into requests, which
is the socket's port, and hands replies with that identifier to the socket.
"""

from __future__ import annotations

import errno
import socket

from .net import Reply
from .udp import DatagramSockets, family_of
from .wire.messages import Failed, OpenPing


class OutgoingPing(DatagramSockets):
    """Answers `OpenPing`: one unconnected echo socket in the pod for each stream."""

    def open(self, request: OpenPing, reply: Reply) -> None:
        """icmp(7): EACCES where the pod does not allow echo sockets."""
        family = family_of(request.family)
        if family is None:
            reply(Failed(errno.EAFNOSUPPORT))
            return
        protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
        self.serve(request.stream, (family, protocol), lambda sock: sock.bind(("", 0)), reply)
