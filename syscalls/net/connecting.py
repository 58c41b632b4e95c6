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

from ...agent.wire.messages import Address
from ..abi import sockaddr
from ..actions import Continue, Decision, Handling, Keep, Reason, Return, Route, Scratch, SyscallError, run
from ..context import Args, Context
from ..requests import StartConnect
from ..task import Task
from . import common
from .datagrams import connect_datagrams
from .sockets import Connection

_TCP_CLOSE = 7
_IP_BIND_ADDRESS_NO_PORT = 24
_GO_ON = frozenset({-errno.EINPROGRESS, -errno.EALREADY, -errno.EISCONN, -errno.EINTR})


def connect(context: Context, task: Task, args: Args) -> Handling:
    """connect(2): TCP and UDP by policy from the pod; sockets of local name service caches look absent.

    Never waits here: a non-blocking connect answers EINPROGRESS at once (1 stop), a blocking one blocks in the kernel
    (2 stops), and 1 round trip goes on meanwhile. The errno of a failure is the pod's.
    """
    decoded = common.read_address(task, args[1], args[2])
    if decoded is None:
        return common.BAD_ARGUMENT
    if isinstance(decoded, sockaddr.Unix):
        decision = context.policy.unix_socket(decoded.path)
        if decision.route is Route.MISSING:
            raise SyscallError(errno.ENOENT, decision)
        return Continue(decision)
    if not isinstance(decoded, sockaddr.Internet):
        if decoded == sockaddr.AF_UNSPEC and context.sockets:
            _disconnect(context, common.inode_of(task, args[0]))
        return common.NOT_INTERNET
    with common.duplicate(task, args[0]) as own:
        if own is None or own.family not in common.INTERNET:
            return common.BAD_ARGUMENT
        if common.is_udp(own):
            return (yield from connect_datagrams(context, own, decoded))
        if not common.is_tcp(own):
            return common.UNSUPPORTED
        if own.family != decoded.family:
            return common.BAD_ARGUMENT
        if own.proto == common.IPPROTO_MPTCP and _is_closed(own):
            return _multipath(context, decoded)
        return (yield from _connect_stream(context, own, decoded))


def _disconnect(context: Context, inode: int) -> None:
    context.sockets.forget(inode)
    known = context.sockets.datagrams.get(inode)
    if known is not None:
        known.connected = None


def _connect_stream(context: Context, own: socket.socket, to: sockaddr.Internet) -> Handling:
    peer = common.through_loopback(to.address)
    decision = context.policy.outgoing("tcp", peer, context.sockets.listening_ports)
    inode = common.inode(own)
    connection = context.sockets.connections.get(inode)
    if connection is not None:
        # The verdict always comes before the socket changes: what the socket's state says is known here, too.
        context.relay.drain()
        if not _is_closed(own) or (connection.errno > 0 and not connection.told):
            # Under way, connected, or failed and not told so: the kernel's answer is about that, not about `to`.
            return _verdict(context, connection, (yield from run()), decision)
    if not _is_closed(own):
        return Continue(decision)
    context.sockets.forget(inode)
    if decision.route is not Route.REMOTE:
        return (yield from _connect_here(context, own, peer, decision))
    port = context.listener4_port if len(peer.ip) == 4 else context.listener6_port
    if not port:
        context.notice("no-ipv6", "IPv6 connections from the pod need IPv6 on this machine's loopback interface")
        raise SyscallError(errno.ENETUNREACH, decision)
    local = _bound(own, peer, decision)
    connection = context.sockets.begin(inode, peer)
    stand_in = common.loopback(peer, port)
    if fcntl.fcntl(own, fcntl.F_GETFL) & os.O_NONBLOCK:
        return _start(context, own, connection, local, stand_in, decision)
    context.relay.tell(StartConnect(connection.key, peer, local))
    content = sockaddr.encode(own.family, stand_in)
    result = yield from run({1: Scratch(content), 2: len(content)})
    return _verdict(context, connection, result, decision)


def _multipath(context: Context, to: sockaddr.Internet) -> Continue:
    # After a simultaneous open the kernel (6.18) never calls a multipath socket connected. Runtimes then try plain TCP.
    decision = context.policy.outgoing("tcp", common.through_loopback(to.address), context.sockets.listening_ports)
    if decision.route is Route.REMOTE:
        context.notice("mptcp", "multipath TCP connections from the pod are not supported: connect(2) gives EOPNOTSUPP")
        raise SyscallError(errno.EOPNOTSUPP, decision)
    return Continue(decision)


def _connect_here(context: Context, own: socket.socket, peer: Address, decision: Decision) -> Handling:
    # A listener of the program's own whose privileged port had to be another one is where it really is.
    moved = context.sockets.moved_listener(peer.port) if decision.reason is Reason.OWN_LISTENER else 0
    if not moved:
        return Continue(decision)
    content = sockaddr.encode(own.family, Address(peer.ip, moved))
    yield from run({1: Scratch(content), 2: len(content)})
    return Keep(decision)


def _start(
    context: Context, own: socket.socket, connection: Connection, local: Address, stand_in: Address, decision: Decision
) -> Return:
    # Non-blocking: connecting through our duplicate is the same open socket, and saves the exit stop.
    result = own.connect_ex((common.text(own, stand_in), stand_in.port))
    if result == errno.EINPROGRESS:
        context.relay.tell(StartConnect(connection.key, connection.peer, local))
    return Return(-result, decision)


def _verdict(context: Context, connection: Connection, result: int, decision: Decision) -> Keep | Return:
    if result >= 0 or result in _GO_ON:
        return Keep(decision)
    context.relay.drain()
    if connection.errno > 0 and not connection.told:
        connection.told = True
        return Return(-connection.errno, decision)
    return Keep(decision)


def _is_closed(own: socket.socket) -> bool:
    try:
        return own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
    except OSError:
        return True


def _bound(own: socket.socket, peer: Address, decision: Decision) -> Address:
    # The relay has to know the socket's port before the handshake, so an unbound socket is bound here.
    # Whether it is bound only bind(2) tells: getsockname(2) still names the port of a connect that failed, which the
    # kernel has given back.
    try:
        try:
            common.bind_to_loopback(own, peer)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        local, _ = common.own_name(own)
        if not local.port:
            # IP_BIND_ADDRESS_NO_PORT put the choice of the port off until connect.
            own.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 0)
            common.bind_to_loopback(own, peer)
            local, _ = common.own_name(own)
    except OSError as error:
        # Where bind(2) finds every port in use, connect(2) says that no address is left.
        number = errno.EADDRNOTAVAIL if error.errno == errno.EADDRINUSE else error.errno
        raise SyscallError(number or errno.EADDRNOTAVAIL, decision) from None
    return local if any(local.ip) else common.loopback(peer, local.port)


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
