"""bind(2), listen(2), accept(2): traffic for a pod port comes to the program that listens on it.

The program really listens on this machine, where its developer can reach it too; the relay connects to it on loopback
for every connection that the agent takes over in the pod.
"""

from __future__ import annotations

import errno
import socket

from ...agent.wire.messages import Address, Done
from ..abi import sockaddr
from ..actions import Continue, Decision, Handling, Keep, Reason, Return, Route, SyscallError, ask, run
from ..context import Args, Context
from ..requests import Listen
from ..task import Task
from . import common
from .sockets import Listener

_LAST_PRIVILEGED_PORT = 1023
_REMOTE = Decision(Route.REMOTE, Reason.INCOMING)


def bind(context: Context, task: Task, args: Args) -> Handling:
    """bind(2): an address of the pod becomes loopback; a privileged port that is refused here, a free one.

    getsockname(2) tells what was asked for. 1 stop; 2 for privileged ports and datagram sockets.
    """
    decoded = common.read_address(task, args[1], args[2])
    if not isinstance(decoded, sockaddr.Internet):
        return common.NOT_INTERNET if decoded is not None else common.BAD_ARGUMENT
    asked = decoded.address
    of_pod = asked.ip in context.pod.addresses and asked.ip not in (common.LOOPBACK4, common.LOOPBACK6)
    privileged = 0 < asked.port <= _LAST_PRIVILEGED_PORT
    if not of_pod and not privileged:
        return (yield from _bind_here(context, task, args))
    decision = context.policy.incoming(asked.port, asked)
    if decision.route is not Route.REMOTE:
        return Continue(decision)
    if not of_pod:
        result = yield from run()
        if result != -errno.EACCES:
            return Keep(decision)
        # Back at the exit of the refused call: the free port is bound through our duplicate.
    with common.duplicate(task, args[0]) as own:
        if own is None or own.family != decoded.family:
            return Continue(decision) if of_pod else Keep(decision)
        _bind_to_loopback(context, own, asked, of_pod, decision)
    return Return(0, decision)


def _bind_here(context: Context, task: Task, args: Args) -> Handling:
    # Only the port of a datagram socket is of interest: others of the program may send to it.
    with common.duplicate(task, args[0]) as own:
        if own is None or not common.is_udp(own):
            return common.LOCAL_OBJECT
        result = yield from run()
        if result == 0:
            context.sockets.own_datagrams[common.inode(own)] = common.own_name(own)[0].port
    return Keep(common.LOCAL_OBJECT.decision)


def _bind_to_loopback(context: Context, own: socket.socket, asked: Address, of_pod: bool, decision: Decision) -> None:
    # On the port that was asked for, unless this user may not have it.
    place = common.loopback(asked, asked.port if of_pod else 0)
    if len(asked.ip) == 16 and not any(asked.ip):
        place = Address(asked.ip, place.port)  # IPv4 comes to it, too
    try:
        try:
            own.bind((common.text(own, place), place.port))
        except PermissionError:
            own.bind((common.text(own, place), 0))
    except OSError as error:
        raise SyscallError(error.errno or errno.EADDRNOTAVAIL, decision) from None
    bound, _ = common.own_name(own)
    context.sockets.names[common.inode(own)] = Address(asked.ip, asked.port or bound.port)


def listen(context: Context, task: Task, args: Args) -> Handling:
    """listen(2) on TCP: from its return on, new connections to the pod's port arrive here. 2 stops, 1 round trip.

    EADDRINUSE if somebody else has taken the pod's port over already.
    """
    with common.duplicate(task, args[0]) as own:
        if own is None or own.family not in common.INTERNET or not common.is_tcp(own):
            return common.NOT_INTERNET
        inode = common.inode(own)
        multipath = own.proto == common.IPPROTO_MPTCP
        local, _ = common.own_name(own)
    asked = context.sockets.names.get(inode, local)
    decision = context.policy.incoming(asked.port, asked)
    if inode in context.sockets.listeners:
        return Continue(decision)
    if not asked.port:
        return Continue(decision)  # the kernel chooses a port, which nobody in the pod can know
    result = yield from run()
    if result < 0:
        return Keep(decision)
    # Known in any case: what the program sends to its own listener stays on this machine.
    context.sockets.listeners[inode] = Listener(asked.port, local.port)
    if decision.route is not Route.REMOTE:
        return Keep(decision)
    pod_port = context.policy.pod_port(asked.port)
    try:
        # The listening sockets under a multipath TCP socket have inodes of their own; port and address must do.
        yield from ask(Listen(0 if multipath else inode, local, pod_port), Done)
    except SyscallError as error:
        if error.errno == errno.EADDRINUSE:
            del context.sockets.listeners[inode]
        return _not_taken_over(context, pod_port, error, decision)
    return Keep(decision)


def _not_taken_over(context: Context, port: int, error: SyscallError, decision: Decision) -> Return | Keep:
    if error.errno == errno.EADDRINUSE:
        context.notice(f"taken{port}", f"pod port {port} is already taken over by another session")
        return Return(-errno.EADDRINUSE, decision)
    # The program is not to blame and works on this machine; whoever runs it must know that the pod's traffic stays away.
    context.notice(
        f"steal{port}",
        f"traffic for pod port {port} does not come here: {error}; the agent needs CAP_NET_ADMIN in the pod's network",
    )
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
