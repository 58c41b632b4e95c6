"""What the relay and the agent have to be told of a socket whose connect(2) goes to the pod.

The kernel takes the tracee's connect to the relay's full listener. Whoever lets that begin tells the relay beforehand,
or at once afterwards: which local port the socket has (by which the relay will meet it), its cookie (by which the relay
knows it from any other that comes to have the port), and what the program has asked of the socket that the pod's
socket should have as well.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Generator
from typing import NamedTuple

from ...agent.wire.messages import Address, Done
from ..actions import Action, Decision, Keep, Outcome, Return, SyscallError, ask
from ..context import Context
from ..requests import EndConnect, StartConnect
from . import common
from .sockets import PENDING, Connection

_SO_COOKIE = 57
_TCP_FASTOPEN_CONNECT = 30
_TCP_USER_TIMEOUT = 18
_IP_BIND_ADDRESS_NO_PORT = 24
_KEEP_ALIVE = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
_TRAFFIC_CLASS = {
    socket.AF_INET: (socket.IPPROTO_IP, socket.IP_TOS),
    socket.AF_INET6: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS),
}

RESET = frozenset({-errno.ECONNRESET, -errno.EPIPE})
"""What the kernel says of a connect that the relay has failed."""

_GO_ON = frozenset({-errno.EINPROGRESS, -errno.EALREADY, -errno.EISCONN, -errno.EINTR, -errno.EAGAIN})


class Attempt(NamedTuple):
    """A connect(2) from the pod that is about to begin: what is known of the socket before it does."""

    inode: int
    peer: Address
    stand_in: Address
    source: Address
    is_port_firm: bool


def prepare(context: Context, own: socket.socket, peer: Address, decision: Decision) -> Attempt:
    """Look at a socket that is not connected. SyscallError if this machine cannot do it."""
    port = context.listener4_port if len(peer.ip) == 4 else context.listener6_port
    if not port:
        context.notice("no-ipv6", "IPv6 connections from the pod need IPv6 on this machine's loopback interface")
        raise SyscallError(errno.ENETUNREACH, decision)
    # With a cookie from this machine's loopback the kernel would call the socket connected before the pod has a say.
    with contextlib.suppress(OSError):
        if own.getsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT):
            own.setsockopt(socket.IPPROTO_TCP, _TCP_FASTOPEN_CONNECT, 0)
    inode = common.inode(own)
    source = _source(context, own, inode, peer)
    is_port_firm = bool(source.port) and inode not in context.sockets.floating
    return Attempt(inode, peer, common.loopback(peer, port), source, is_port_firm)


def _source(context: Context, own: socket.socket, inode: int, peer: Address) -> Address:
    # What the program itself has bound the socket to. The name that is left of an earlier connect is not that.
    before = context.sockets.connections.get(inode)
    if before is not None:
        return before.source if len(before.source.ip) == len(peer.ip) else Address(bytes(len(peer.ip)), 0)
    name = context.sockets.names.get(inode) or common.own_name(own)[0]
    if not any(name.ip) or len(name.ip) != len(peer.ip):
        return Address(bytes(len(peer.ip)), name.port)
    return name


def begin(context: Context, own: socket.socket, attempt: Attempt, local: Address) -> Connection:
    """The attempt begins, the socket having the name `local`: register it and tell the relay."""
    connection = context.sockets.begin(attempt.inode, attempt.peer)
    connection.source = attempt.source
    local = local if any(local.ip) else common.loopback(attempt.peer, local.port)
    cookie = int.from_bytes(own.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), "little")
    options = _options(own, attempt.is_port_firm)
    context.relay.tell(
        StartConnect(connection.key, attempt.peer, local, cookie, attempt.source, attempt.is_port_firm, options)
    )
    return connection


def _options(own: socket.socket, is_port_firm: bool) -> tuple[int, ...]:
    # What the pod's socket should have as well, as far as it was set before connect(2).
    options: list[int] = []
    if is_port_firm and own.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR):
        options += (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if own.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        options += (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name in _KEEP_ALIVE:
            options += (socket.IPPROTO_TCP, name, own.getsockopt(socket.IPPROTO_TCP, name))
    timeout_ms = own.getsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT)
    if timeout_ms:
        options += (socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, timeout_ms)
    level, name = _TRAFFIC_CLASS[socket.AddressFamily(own.family)]
    traffic_class = own.getsockopt(level, name)
    if traffic_class:
        options += (level, name, traffic_class)
    return tuple(options)


def bound(own: socket.socket, peer: Address, decision: Decision) -> Address:
    """The socket's local name, bound now if it was not: for calls that block, since then it is too late to ask.

    Whether it is bound only bind(2) tells: getsockname(2) still names the port of a connect that failed, which the
    kernel has given back.
    """
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
    return local


def outcome(context: Context, inode: int, result: int, decision: Decision, *, ran: bool = False) -> Keep | Return:
    """What connect(2) shall give: the kernel's result, but for a failure that is the pod's.

    `ran`: the call itself has run in the kernel; else its result was got through our duplicate.
    """
    number = result
    connection = context.sockets.connections.get(inode)
    if result < 0 and result not in _GO_ON and connection is not None:
        context.relay.drain()
        if connection.errno == PENDING:
            # The kernel has refused or given up what was begun: nobody waits for the pod's attempt.
            context.relay.tell(EndConnect(connection.key))
            context.sockets.disconnected(inode)
        else:
            if result in RESET and connection.errno > 0 and not connection.told:
                number = -connection.errno
            connection.told = True
    return Keep(decision) if ran and number == result else Return(number, decision)


def end_former(context: Context, inode: int) -> Generator[Action, Outcome, None]:
    """Give up what was connecting on this socket. When it returns the relay will not touch the socket for that any more.

    0 round trips if that had failed; else 1 to the relay, which answers at once.
    """
    former = context.sockets.connections.get(inode)
    if former is not None and former.errno <= 0:
        with contextlib.suppress(SyscallError):  # without a session nobody touches anything
            yield from ask(EndConnect(former.key), Done)
        context.sockets.disconnected(inode)
