"""getpeername(2), getsockname(2): the addresses that the pod's kernel would name."""

from __future__ import annotations

import socket

from ...agent.wire.messages import Address
from ..abi import sockaddr
from ..actions import Decision, Final, Handling, Reason, Return, Route
from ..context import Args, Context
from ..task import Task
from . import common, unix
from .sockets import PENDING

_REMOTE = Decision(Route.REMOTE, Reason.REMOTE_OBJECT)


def getpeername(context: Context, task: Task, args: Args) -> Handling:
    """getpeername(2): the peer in the cluster, for connections from the pod and for those that came for it. 1 stop."""
    yield from ()
    return _name(context, task, args, peer=True)


def getsockname(context: Context, task: Task, args: Args) -> Handling:
    """getsockname(2): the pod's own address, also for bind(2) calls that were moved to loopback. 1 stop."""
    yield from ()
    return _name(context, task, args, peer=False)


def _name(context: Context, task: Task, args: Args, *, peer: bool) -> Final:
    if not context.sockets:
        return common.LOCAL_OBJECT
    with common.duplicate(task, args[0]) as own:
        if own is not None and own.family == socket.AF_UNIX and peer:
            return _unix_peer(context, task, args, own)
        if own is None or own.family not in common.INTERNET:
            return common.LOCAL_OBJECT
        context.relay.drain()
        address = _peer(context, own) if peer else _local(context, own)
        family = own.family
    if address is None:
        return common.LOCAL_OBJECT
    room = common.read_room(task, args[2])
    if room is None:
        return common.BAD_ARGUMENT
    return Return(0, _REMOTE, sockaddr.value_result(args[1], args[2], room, sockaddr.encode(family, address)))


def _unix_peer(context: Context, task: Task, args: Args, own: socket.socket) -> Final:
    content = unix.peer_name(context, own)
    room = common.read_room(task, args[2])
    if content is None or room is None:
        return common.LOCAL_OBJECT
    return Return(0, _REMOTE, sockaddr.value_result(args[1], args[2], room, content))


def _peer(context: Context, own: socket.socket) -> Address | None:
    try:
        own.getpeername()
    except OSError:
        return None  # not connected (any more): the kernel says so itself
    inode = common.inode(own)
    connection = context.sockets.connections.get(inode)
    if connection is not None:
        return connection.peer
    known = context.sockets.datagrams.get(inode)
    if known is not None:
        return known.connected
    accepted = common.accepted(context, own)
    return accepted[0] if accepted else None


def _local(context: Context, own: socket.socket) -> Address | None:
    inode = common.inode(own)
    connection = context.sockets.connections.get(inode)
    if connection is not None and connection.errno == 0 and connection.local is not None:
        return connection.local
    if connection is not None and connection.errno == PENDING and not any(connection.source.ip):
        return _pod_address(context, connection.peer, own)
    asked = context.sockets.names.get(inode)
    if asked is not None:
        return asked
    known = context.sockets.datagrams.get(inode)
    if known is not None and known.connected is not None:
        return _pod_address(context, known.connected, own)
    accepted = common.accepted(context, own)
    return accepted[1] if accepted else None


def _pod_address(context: Context, peer: Address, own: socket.socket) -> Address | None:
    # The agent's socket chooses by route; of the pod's addresses the first of the version is the usual one.
    for ip in context.pod.addresses:
        if len(ip) == len(peer.ip):
            return Address(ip, common.own_name(own)[0].port)
    return None
