"""connect(2) and what follows from it.

The tracee's own socket connects, to a listener of the relay whose accept queue is full: the kernel leaves it in
SYN_SENT, exactly as if the pod's peer had not answered yet. When the pod has its verdict, the relay completes the
handshake by a simultaneous open, or resets it. So readiness, timeouts, signals and blocking stay the kernel's, and
every epoll registration and option of the socket stays in place. Only the errno of a failure needs a correction: the
kernel knows nothing but ECONNRESET.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Generator

from ...agent.wire.messages import Address
from ..abi import sockaddr
from ..actions import (
    Action,
    Continue,
    Decision,
    Handling,
    Keep,
    Outcome,
    Reason,
    Return,
    Route,
    Scratch,
    SyscallError,
    run,
)
from ..context import Args, Context
from ..task import Task
from . import attempts, common, local_addresses, unix
from .datagrams import connect_datagrams

_TCP_CLOSE = 7


def connect(context: Context, task: Task, args: Args) -> Handling:
    """connect(2): TCP and UDP by policy from the pod; sockets of local name service caches look absent.

    Never waits here: a non-blocking connect answers EINPROGRESS at once (1 stop), a blocking one blocks in the kernel
    (2 stops), and 1 round trip goes on meanwhile. The errno of a failure is the pod's.
    """
    content = common.read_name(task, args[1], args[2])
    decoded = sockaddr.decode(content)
    if decoded is None:
        return common.BAD_ARGUMENT
    local = local_addresses.decide(context, content, decoded)
    if local is not None and local_addresses.is_untouched(context, task, args[0], decoded):
        return local
    if isinstance(decoded, sockaddr.Unix):
        return (yield from unix.connect_unix(context, task, args, decoded.path))
    if not isinstance(decoded, sockaddr.Internet):
        if decoded == sockaddr.AF_UNSPEC and context.sockets:
            yield from _disconnect(context, common.inode_of(task, args[0]))
        return common.NOT_INTERNET
    with common.duplicate(task, args[0]) as own:
        if own is None or own.family not in common.INTERNET:
            return common.BAD_ARGUMENT
        if common.is_udp(own):
            return (yield from connect_datagrams(context, task, args[0], own, decoded))
        if not common.is_tcp(own):
            return common.UNSUPPORTED
        if own.family != decoded.family:
            return common.BAD_ARGUMENT
        if own.proto == common.IPPROTO_MPTCP and _is_closed(own):
            return _multipath(context, decoded)
        return (yield from _connect_stream(context, own, decoded))


def _disconnect(context: Context, inode: int) -> Generator[Action, Outcome, None]:
    yield from attempts.end_former(context, inode)
    context.sockets.disconnected(inode)
    known = context.sockets.datagrams.get(inode)
    if known is not None:
        known.connected = None


def _connect_stream(context: Context, own: socket.socket, to: sockaddr.Internet) -> Handling:
    peer = common.through_loopback(to.address)
    decision = context.outgoing("tcp", peer, context.sockets.listening_ports)
    inode = common.inode(own)
    known = inode in context.sockets.connections
    if known:
        # The verdict always comes before the socket changes: what the socket's state says is known here, too.
        context.relay.drain()
    if not _is_closed(own):
        if not known:
            return Continue(decision)
        # Under way or connected: the kernel's answer is about that, not about `to`.
        former = context.sockets.connections[inode]
        return (yield from _ask_kernel(context, own, attempts.prepare(context, own, former.peer, decision), decision))
    if decision.route is not Route.REMOTE:
        return (yield from _connect_here(context, own, peer, decision))
    yield from attempts.end_former(context, inode)
    attempt = attempts.prepare(context, own, peer, decision)
    if known or _is_nonblocking(own):
        return (yield from _ask_kernel(context, own, attempt, decision))
    attempts.begin(context, own, attempt, attempts.bound(own, peer, decision))
    return (yield from _wait(context, own, attempt, decision))


def _ask_kernel(context: Context, own: socket.socket, attempt: attempts.Attempt, decision: Decision) -> Handling:
    # Through our duplicate, which is the same open socket, and without waiting: a socket that has been used before may
    # be in a state that only connect(2) knows of (an error not told yet, say), and then nothing begins.
    result = _without_waiting(own, attempt.stand_in)
    if result == errno.EINPROGRESS:
        attempts.begin(context, own, attempt, common.own_name(own)[0])
    if result in (errno.EINPROGRESS, errno.EALREADY) and not _is_nonblocking(own):
        return (yield from _wait(context, own, attempt, decision, result))
    return attempts.outcome(context, attempt.inode, -result, decision)


def _without_waiting(own: socket.socket, stand_in: Address) -> int:
    flags = fcntl.fcntl(own, fcntl.F_GETFL)
    if flags & os.O_NONBLOCK:
        return own.connect_ex((common.text(own, stand_in), stand_in.port))
    fcntl.fcntl(own, fcntl.F_SETFL, flags | os.O_NONBLOCK)
    try:
        return own.connect_ex((common.text(own, stand_in), stand_in.port))
    finally:
        fcntl.fcntl(own, fcntl.F_SETFL, flags)


def _wait(
    context: Context, own: socket.socket, attempt: attempts.Attempt, decision: Decision, begun: int = errno.EINPROGRESS
) -> Handling:
    # The tracee's own connect(2), in the kernel. A wait that ends before the verdict has the errno of the call that began.
    content = sockaddr.encode(own.family, attempt.stand_in)
    result = yield from run({1: Scratch(content), 2: len(content)})
    if result == -errno.EALREADY and begun == errno.EINPROGRESS:
        result = -errno.EINPROGRESS
        return Return(result, decision)
    return attempts.outcome(context, attempt.inode, result, decision, ran=True)


def _is_nonblocking(own: socket.socket) -> bool:
    return bool(fcntl.fcntl(own, fcntl.F_GETFL) & os.O_NONBLOCK)


def _multipath(context: Context, to: sockaddr.Internet) -> Continue:
    # After a simultaneous open the kernel (6.18) never calls a multipath socket connected. socket(2) makes plain TCP of
    # them; this one comes from elsewhere (inherited).
    decision = context.outgoing("tcp", common.through_loopback(to.address), context.sockets.listening_ports)
    if decision.route is Route.REMOTE:
        context.notice("mptcp", "multipath TCP sockets from outside cannot connect from the pod: EOPNOTSUPP")
        raise SyscallError(errno.EOPNOTSUPP, decision)
    return Continue(decision)


def _connect_here(context: Context, own: socket.socket, peer: Address, decision: Decision) -> Handling:
    # A listener of the program's own whose privileged port had to be another one is where it really is.
    inode = common.inode(own)
    former = context.sockets.connections.get(inode)
    if former is not None and former.errno > 0 and not former.told:
        # It failed in the pod, and the program has not been told: the kernel tells it now.
        result = yield from run()
        if result in attempts.RESET:
            former.told = True
            return Return(-former.errno, decision)
        context.sockets.forget(inode)
        return Keep(decision)
    yield from attempts.end_former(context, inode)
    context.sockets.forget(inode)
    moved = context.sockets.moved_listener(peer.port) if decision.reason is Reason.OWN_LISTENER else 0
    if not moved:
        return Continue(decision)
    content = sockaddr.encode(own.family, Address(peer.ip, moved))
    yield from run({1: Scratch(content), 2: len(content)})
    return Keep(decision)


def _is_closed(own: socket.socket) -> bool:
    try:
        return own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except OSError:
        return True


def getsockopt(context: Context, task: Task, args: Args) -> Handling:
    """getsockopt(2), SO_ERROR only: the pod's errno where the kernel has the relay's ECONNRESET. 1 stop, 2 on failure."""
    if not context.sockets.connections:
        return common.LOCAL_OBJECT
    connection = context.sockets.connections.get(common.inode_of(task, args[0]))
    if connection is None:
        return common.LOCAL_OBJECT
    context.relay.drain()
    decision = Decision(Route.REMOTE, Reason.OUTGOING)
    if connection.errno <= 0 or connection.told:
        return Continue(decision)
    result = yield from run()
    if result < 0:
        return Keep(decision)
    room = common.read_room(task, args[4]) or 0
    try:
        value = int.from_bytes(task.read(args[3], min(room, 4)), "little")
    except SyscallError:
        return Keep(decision)
    if value != errno.ECONNRESET:
        return Keep(decision)
    connection.told = True
    return Return(0, decision, ((args[3], struct.pack("=i", connection.errno)[:room]),))
