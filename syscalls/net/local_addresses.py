"""Addresses that are this machine's whatever socket connects to them: decided by their bytes alone, and remembered.

To know a socket, the tracer has to duplicate it, which costs more than all the rest of a stop. Where TCP, UDP and ICMP echo
to an address all stay here, it does not matter which one it is, but for sockets that have something to do with the pod or
with each other (`is_untouched`). As long as there are none of those, the short way lets the call pass (quick.py).
"""

from __future__ import annotations

from ...agent.wire.messages import Address
from ..abi import sockaddr
from ..actions import Continue, Route
from ..context import Context
from ..task import Task
from . import common

_MOST = 4096


def decide(context: Context, content: bytes, decoded: sockaddr.Decoded) -> Continue | None:
    """What connect(2) does with the sockaddr `content` in any state: leave it to the kernel; None if that depends.

    What is found is remembered in `Context.local_addresses`.
    """
    if isinstance(decoded, sockaddr.Unix):
        decision = context.policy.unix_socket(decoded.path)
        if decision.route is not Route.LOCAL:
            return None
    elif isinstance(decoded, sockaddr.Internet) and not context.policy.wants_names:
        peer = common.through_loopback(decoded.address)
        for protocol, to in (("udp", peer), ("icmp", Address(peer.ip, 0)), ("tcp", peer)):
            decision = context.policy.outgoing(protocol, to, ())
            if decision.route is not Route.LOCAL:
                return None
    else:
        return None
    if len(context.local_addresses) >= _MOST:
        context.local_addresses.clear()
    context.local_addresses.add(content)
    return Continue(decision)


def is_untouched(context: Context, task: Task, fd: int, decoded: sockaddr.Decoded) -> bool:
    """Whether a socket may connect to an address of `decide` natively: it is none that the session knows, nor is its peer."""
    sockets = context.sockets
    if isinstance(decoded, sockaddr.Unix) or not sockets.internet:
        return True
    if not isinstance(decoded, sockaddr.Internet) or sockets.receivers:
        return False
    peer = common.through_loopback(decoded.address)
    if common.is_loopback(peer) and (peer.port in sockets.listening_ports or peer.port in sockets.datagram_ports):
        return False
    inode = common.inode_of(task, fd)
    return inode not in sockets.connections and inode not in sockets.datagrams
