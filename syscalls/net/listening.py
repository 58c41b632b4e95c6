"""listen(2), accept(2): traffic for a pod port comes to the program that listens on it.

The program really listens on this machine, where its developer can reach it too; the relay connects to it on loopback
for every connection that the agent takes over in the pod.
"""

from __future__ import annotations

import errno

from ...agent.wire.messages import Done
from ..abi import sockaddr
from ..actions import Continue, Decision, Handling, Keep, Reason, Return, Route, SyscallError, ask, run
from ..context import Args, Context
from ..incoming_rules import PORT_ZERO
from ..requests import Listen
from ..task import Task
from . import common
from .binding import say_taken
from .receiving import not_taken_over
from .sockets import Listener

_REMOTE = Decision(Route.REMOTE, Reason.INCOMING)


def listen(context: Context, task: Task, args: Args) -> Handling:
    """listen(2) on TCP: from its return on, new connections to the pod's port arrive here. 2 stops, 1 round trip.

    EADDRINUSE if somebody else has taken the pod's port over already. A port that the kernel chose is nobody's business
    but the program's. Listening again only changes the backlog.
    """
    with common.duplicate(task, args[0]) as own:
        if own is None or own.family not in common.INTERNET or not common.is_tcp(own):
            return common.NOT_INTERNET
        inode = common.inode(own)
        asked = context.sockets.names.get(inode) or common.own_name(own)[0]
        decision = context.policy.incoming(asked.port, asked)
        if inode in context.sockets.listeners:
            return Continue(decision)
        if not asked.port or inode in context.sockets.floating:
            decision = PORT_ZERO
        result = yield from run()
        if result < 0:
            if result == -errno.EADDRINUSE and decision.route is Route.REMOTE:
                say_taken(context, own, asked.port, common.own_name(own)[0].port)
            return Keep(decision)
        local, _ = common.own_name(own)
        multipath = own.proto == common.IPPROTO_MPTCP
    # Known in any case: what the program sends to its own listener stays on this machine.
    context.sockets.listeners[inode] = Listener(asked.port or local.port, local.port)
    if decision.route is not Route.REMOTE:
        return Keep(decision)
    pod_port = context.policy.pod_port(asked.port)
    wanted = context.policy.subscription(pod_port)
    try:
        yield from ask(Listen(inode, local, pod_port, multipath, wanted.mirror, wanted.rules, wanted.flush), Done)
    except SyscallError as error:
        final = not_taken_over(context, "tcp", pod_port, error, decision)
        if isinstance(final, Return):
            del context.sockets.listeners[inode]
        return final
    return Keep(decision)


def accept(context: Context, task: Task, args: Args) -> Handling:
    """accept(2) with an address: see accept4(2)."""
    return (yield from accept4(context, task, args))


def accept4(context: Context, task: Task, args: Args) -> Handling:
    """accept4(2) with an address: the real client's. Blocks in the kernel. 2 stops on taken-over ports, else 1."""
    if not context.sockets.listeners:
        return common.LOCAL_OBJECT
    if common.inode_of(task, args[0]) not in context.sockets.listeners:
        return common.LOCAL_OBJECT
    room = common.read_room(task, args[2])
    result = yield from run()
    if result < 0 or room is None:
        return Keep(_REMOTE)
    with common.duplicate(task, result) as own:
        # What the kernel wrote may be cut short, and the tracee may have closed the socket already.
        found = common.accepted(context, own) if own is not None else None
        if own is None or found is None:
            return Keep(common.LOCAL_OBJECT.decision)
        peer = sockaddr.encode(own.family, found[0])
    return Return(result, _REMOTE, sockaddr.value_result(args[1], args[2], room, peer))
