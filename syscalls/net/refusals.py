"""ECONNREFUSED of datagrams: what the pod's network said, told by this machine's kernel.

A connected UDP socket learns that nobody listens by an ICMP message; its next call fails, and poll(2) wakes it. No call of
the program need stop for that. When the pod reports a refusal, the relay has closed the loopback socket that stood for the
peer; a datagram sent to its port from the program's own socket makes the kernel send the ICMP message. We send that one,
through a duplicate of the socket. Then the port is taken again, since the peer may answer the next time.

Only sockets that would be told natively are: connected ones, and those with IP_RECVERR. A socket that has left the
process which used it first learns it when it sends next.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable

from ...agent.wire.messages import Address
from ..context import Context
from ..requests import PeerRefused, UdpPeer
from . import common
from .sockets import Datagrams

_IP_RECVERR, _IPV6_RECVERR = 11, 25

Duplicate = Callable[[int, int], int]
"""(tgid, fd) -> pidfd_getfd(2), OSError as the kernel's."""


def refused(context: Context, message: PeerRefused, duplicate: Duplicate) -> None:
    """The relay tells that a peer refuses datagrams. Never blocks; no stop."""
    for inode, known in context.sockets.datagrams.items():
        if known.key == message.key:
            port = known.ports.get(message.peer)
            if port is not None:
                _tell_kernel(inode, known, message.peer, port, duplicate)
                _stand_again(context, known, message.peer, port)
            return


def _tell_kernel(inode: int, known: Datagrams, peer: Address, port: int, duplicate: Duplicate) -> None:
    with contextlib.suppress(OSError), _socket(duplicate(*known.seen_at)) as own:
        if os.fstat(own.fileno()).st_ino != inode:
            return  # that fd is another file by now
        if known.connected == peer:
            own.send(b"", socket.MSG_DONTWAIT)
        elif _wants_errors(own):
            own.sendto(b"", socket.MSG_DONTWAIT, (common.text(own, common.loopback(peer, port)), port))


# That descriptor may be no socket by now.
def _socket(fd: int) -> socket.socket:
    try:
        return socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise


def _wants_errors(own: socket.socket) -> bool:
    if own.getsockopt(socket.IPPROTO_IP, _IP_RECVERR):
        return True
    return own.family == socket.AF_INET6 and bool(own.getsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR))


def _stand_again(context: Context, known: Datagrams, peer: Address, port: int) -> None:
    version = socket.AF_INET if len(peer.ip) == 4 else socket.AF_INET6
    try:
        with socket.socket(version, socket.SOCK_DGRAM) as stand_in:
            stand_in.bind((common.text(stand_in, common.loopback(peer, 0)), port))
            family = 4 if version == socket.AF_INET else 6
            context.relay.tell(UdpPeer(known.key, family, peer, known.port, known.echo), (stand_in.fileno(),))
    except OSError:
        known.forget(peer)  # somebody else has the port now
