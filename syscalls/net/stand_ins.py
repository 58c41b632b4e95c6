"""Which loopback port of the relay stands for a peer of a datagram socket, and which datagrams stay on this machine."""

from __future__ import annotations

import contextlib
import errno
import socket

from ...agent.wire.messages import Address
from ..actions import Decision, Reason, SyscallError
from ..context import Context
from ..requests import UdpPeer
from . import common
from .sockets import Datagrams

_BROADCAST = b"\xff" * 4


def decide(context: Context, own: socket.socket, peer: Address) -> Decision:
    """Where datagrams to `peer` leave from; for ICMP echo sockets the port means nothing."""
    if is_echo(context, common.inode(own)):
        return context.outgoing("icmp", Address(peer.ip, 0), ())
    return context.outgoing("udp", peer, context.sockets.datagram_ports)


def is_echo(context: Context, inode: int) -> bool:
    """Whether the program takes this socket for one of icmp(7)."""
    known = context.sockets.datagrams.get(inode)
    return known is not None and known.echo


def stand_in(context: Context, own: socket.socket, peer: Address, decision: Decision, seen_at: tuple[int, int]) -> int:
    """The loopback port of the relay that stands for `peer` towards this socket; made on first use.

    `seen_at`: process and fd of the caller. SyscallError as sending natively: ENETUNREACH, EACCES.
    """
    inode = common.inode(own)
    if not _has_route(context, peer):
        # As natively; resolvers sort addresses by just this.
        raise SyscallError(errno.ENETUNREACH, decision)
    if peer.ip == _BROADCAST and not own.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST):
        raise SyscallError(errno.EACCES, decision)
    known = context.sockets.datagrams.get(inode)
    if known is None:
        known = context.sockets.datagrams[inode] = Datagrams(context.sockets.new_key())
    if not known.ports:
        known.port = context.sockets.source_ports.get(inode, 0)
    known.seen_at = seen_at
    if known.echo:
        peer = Address(peer.ip, 0)
    port = known.use(peer)
    return _new(context, known, own.family, peer, decision) if port is None else port


def _new(context: Context, known: Datagrams, family: int, peer: Address, decision: Decision) -> int:
    version = socket.AF_INET if len(peer.ip) == 4 else socket.AF_INET6
    try:
        with socket.socket(version, socket.SOCK_DGRAM) as stand_in:
            common.bind_to_loopback(stand_in, peer)
            port = int(stand_in.getsockname()[1])
            request = UdpPeer(known.key, 4 if family == socket.AF_INET else 6, peer, known.port, known.echo)
            context.relay.tell(request, (stand_in.fileno(),))
    except OSError as error:
        raise SyscallError(error.errno or errno.ENOBUFS, decision) from None
    known.add(peer, port)
    return port


def stay_local(context: Context, own: socket.socket, decision: Decision) -> None:
    """Before a datagram is sent, or the socket connected, on this machine.

    An ICMP echo socket is none here, so EACCES, as where the system does not allow them.
    """
    inode = common.inode(own)
    if is_echo(context, inode):
        context.notice("local-ping", "ICMP echo to addresses that the configuration keeps local is not possible: EACCES")
        raise SyscallError(errno.EACCES, decision)
    # Whoever talks to a socket of the program gets its answers on this machine, so its port must be known as well.
    if decision.reason is not Reason.OWN_LISTENER:
        return
    with contextlib.suppress(OSError):
        if not common.own_name(own)[0].port:
            own.bind(("::" if own.family == socket.AF_INET6 else "0.0.0.0", 0))
        context.sockets.own_datagrams[inode] = common.own_name(own)[0].port


def _has_route(context: Context, peer: Address) -> bool:
    # A pod that tells no address at all is taken to have IPv4 alone.
    if common.is_loopback(peer) or any(len(ip) == len(peer.ip) for ip in context.pod.addresses):
        return True
    return len(peer.ip) == 4 and not context.pod.addresses
