"""UDP sockets that receive for the pod: what is sent to the pod's port comes to the program that has bound it.

The program's socket stays what it is. The relay receives from the pod; each peer there is stood for by a UDP socket of
the relay on loopback, which sends the peer's datagrams to the program. The receiving calls tell the real peer, from the
address table, and remember which stand-in it has: what the program sends to that peer goes back through it and so leaves
from the pod's port. A peer that the program has not heard of is none of ours: see datagrams.py.

Stand-ins are remembered by the local port, not by the socket: a DTLS server answers each client on a socket of its own
that it binds to the same port and connects.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Generator

from ...agent.wire.messages import Address, Done
from ..abi import sockaddr
from ..actions import Action, Decision, Keep, Outcome, Reason, Return, Route, SyscallError, ask, trap
from ..context import Context
from ..requests import ReceiveUdp
from ..task import Task
from . import common
from .sockets import Datagrams, Peers

_RECEIVING = frozenset({"recvmsg", "recvmmsg"})
DECISION = Decision(Route.REMOTE, Reason.INCOMING)


def prepare(context: Context) -> Generator[Action, Outcome, None]:
    """Before bind(2) runs: recvmsg(2) of the process stops from now on, to tell the peer. 0 or 3 stops."""
    refused = yield from trap(_RECEIVING)
    if refused:
        context.notice("trap", "the kernel refused a further filter: addresses of received datagrams may be wrong")


def receive(
    context: Context, inode: int, local: Address, asked: int, decision: Decision
) -> Generator[Action, Outcome, Keep | Return]:
    """After bind(2): the pod's datagrams come to the socket. 1 round trip. EADDRINUSE: another session has the port."""
    pod_port = context.policy.pod_port(asked)
    sockets = context.sockets
    known = sockets.datagrams.setdefault(inode, Datagrams(sockets.new_key()))
    known.receiver = sockets.receivers.setdefault(local.port, Peers())
    try:
        yield from ask(ReceiveUdp(inode, local, pod_port, context.policy.subscription(pod_port).mirror), Done)
    except SyscallError as error:
        return not_taken_over(context, "udp", pod_port, error, decision)
    return Return(0, decision)


def stand_in(context: Context, own: socket.socket, peer: Address) -> int | None:
    """Where datagrams for a peer go that has been heard: the loopback port that stands for it, or 0: to the peer itself.

    None: not heard; the outgoing rules decide.
    """
    if not context.sockets.receivers:
        return None
    peers = context.sockets.receivers.get(common.own_name(own)[0].port)
    port = peers.ports.get(peer) if peers is not None else None
    if port:
        found = context.addresses.lookup(len(peer.ip) == 16, port, 0)
        if found is None or found[0] != peer:
            return None  # heard so long ago that the relay has dropped it
    return port


def way_back(answer: int | None) -> Decision | None:
    """The decision that goes with what `stand_in` returned; None: none."""
    return None if answer is None else DECISION if answer else common.LOCAL_OBJECT.decision


def renamed(context: Context, task: Task, peers: Peers, where: int, length: int) -> tuple[tuple[int, bytes], ...]:
    """What to write at `where`, where the kernel has put `length` bytes of the sender's address; it has been heard now."""
    content = task.read(where, length)
    sender = sockaddr.decode(content)
    if not isinstance(sender, sockaddr.Internet) or not sender.address.port:
        return ()
    found = None
    if sender.address.ip in (common.LOOPBACK4, common.LOOPBACK6):
        found = context.addresses.lookup(len(sender.address.ip) == 16, sender.address.port, 0)
    if found is None:
        peers.heard(sender.address, 0)
        return ()
    peers.heard(found[0], sender.address.port)
    return ((where, sockaddr.encode(sender.family, found[0])[:length]),)


def not_taken_over(context: Context, protocol: str, port: int, error: SyscallError, decision: Decision) -> Keep | Return:
    """The agent could not subscribe the port: say so once, and let the call fail if another session has it."""
    name = f"pod port {port}" if protocol == "tcp" else f"UDP pod port {port}"
    if error.errno == errno.EADDRINUSE:
        fails = context.policy.fails_if_taken()
        text = error.text or f"{name} is already taken over by another session"
        context.notice(f"taken-{protocol}-{port}", text if fails else f"{text}; the program runs on without its traffic")
        return Return(-errno.EADDRINUSE, decision) if fails else Keep(decision)
    # The program is not to blame and works on this machine; whoever runs it must know that the pod's traffic stays away.
    text = f"traffic for {name} does not come here: {error.text or os.strerror(error.errno)}"
    if error.errno in (errno.EPERM, errno.EACCES):
        text += "; the agent needs CAP_NET_ADMIN in the pod's network"
    context.notice(f"kept-away-{protocol}-{port}", text)
    return Keep(decision)
