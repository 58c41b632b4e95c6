"""bind(2): the names that exist in the pod and not on this machine, ports that this user may not have, UDP servers.

A program of the pod may bind the pod's own addresses and, mostly, privileged ports; here neither is to be had. Such a
socket is bound to loopback instead, through our duplicate, and getsockname(2) goes on telling what was asked for. The
port it gets for a privileged one is kept for the session: who binds the same name again (another worker with
SO_REUSEPORT, a server that restarts, a second copy) gets what the kernel says about the same port again.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Generator

from ...agent.wire.messages import Address
from ..abi import sockaddr
from ..actions import Action, Decision, Handling, Keep, Outcome, Reason, Return, Route, run
from ..context import Args, Context
from ..task import Task
from . import common, receiving
from .stand_ins import is_echo

_LAST_PRIVILEGED_PORT = 1023


def bind(context: Context, task: Task, args: Args) -> Handling:
    """bind(2): an address of the pod becomes loopback; a privileged port that is refused here, a free one.

    getsockname(2) tells what was asked for. EADDRINUSE is explained to the user. 1 stop; 2 for ports that the pod's
    traffic may come for and for datagram sockets, which also takes 1 round trip if it does.
    """
    decoded = common.read_address(task, args[1], args[2])
    if not isinstance(decoded, sockaddr.Internet):
        return common.NOT_INTERNET if decoded is not None else common.BAD_ARGUMENT
    with common.duplicate(task, args[0]) as own:
        if own is None or own.family != decoded.family:
            return common.BAD_ARGUMENT
        if common.is_udp(own):
            return (yield from _bind_datagrams(context, own, decoded.address))
        if not common.is_tcp(own):
            return common.LOCAL_OBJECT
        if not common.own_name(own)[0].port:
            context.sockets.bound(common.inode(own), decoded.address.port)
        decision = context.policy.incoming(decoded.address.port, decoded.address)
        if not decoded.address.port and not _is_of_pod(context, decoded.address):
            return common.LOCAL_OBJECT
        return (yield from _bound(context, own, decoded.address, decision))


def _bind_datagrams(context: Context, own: socket.socket, asked: Address) -> Handling:
    decision = context.policy.incoming(asked.port, asked)
    if not asked.port and not _is_of_pod(context, asked):
        decision = common.LOCAL_OBJECT.decision
    is_server = bool(asked.port) and decision.route is Route.REMOTE and not common.own_name(own)[0].port
    if is_echo(context, common.inode(own)):
        return (yield from _bound(context, own, asked, common.LOCAL_OBJECT.decision))
    if is_server:
        yield from receiving.prepare(context)
    final = yield from _bound(context, own, asked, decision)
    if isinstance(final, Return) and final.value < 0:
        return final
    local, _ = common.own_name(own)
    if asked.port:
        context.sockets.source_ports[common.inode(own)] = asked.port
    if local.port:  # others of the program may send to it
        context.sockets.own_datagrams[common.inode(own)] = local.port
    if is_server and local.port:
        return (yield from receiving.receive(context, common.inode(own), local, asked.port, decision))
    return final


def _bound(
    context: Context, own: socket.socket, asked: Address, decision: Decision
) -> Generator[Action, Outcome, Keep | Return]:
    # Wherever it is bound in the end. Keep: where the program wanted to be.
    wanted = context.policy.listen_port(asked.port)
    is_incoming = decision.route is Route.REMOTE
    # Where only outgoing traffic is the pod's, its address is still what a connect(2) may want to come from.
    has_pods_address = decision.reason is not Reason.INCOMING_OFF or context.policy.other_protocols().route is Route.REMOTE
    if _is_of_pod(context, asked) and has_pods_address:
        result = _move(context, own, asked, wanted, to_loopback=True)
    elif is_incoming and wanted != asked.port:
        result = _move(context, own, asked, wanted, to_loopback=False)
    else:
        result = yield from run()
        if result == -errno.EACCES and is_incoming and 0 < asked.port <= _LAST_PRIVILEGED_PORT:
            # Back at the exit of the refused call: another port is bound through our duplicate.
            result = _move(context, own, asked, 0, to_loopback=True)
        else:
            if result == -errno.EADDRINUSE and is_incoming:
                say_taken(context, own, asked.port, wanted)
            return Keep(decision if is_incoming or asked.port <= _LAST_PRIVILEGED_PORT else common.LOCAL_OBJECT.decision)
    if result == -errno.EADDRINUSE:
        say_taken(context, own, asked.port, wanted)
    return Return(result, decision)


def _is_of_pod(context: Context, asked: Address) -> bool:
    return asked.ip in context.pod.addresses and asked.ip not in (common.LOOPBACK4, common.LOOPBACK6)


def _move(context: Context, own: socket.socket, asked: Address, port: int, *, to_loopback: bool) -> int:
    # 0 or -errno. `port` 0: the one that this name had before, or a free one.
    place = common.loopback(asked, port) if to_loopback else Address(asked.ip, port)
    if len(asked.ip) == 16 and not any(asked.ip):
        place = Address(asked.ip, port)  # IPv4 comes to it, too
    result = _bind(own, place) if port else -errno.EACCES
    if result == -errno.EACCES and port in (0, asked.port):
        result = _bind_elsewhere(context, own, asked, place)
    if result == 0:
        bound, _ = common.own_name(own)
        context.sockets.names[common.inode(own)] = Address(asked.ip, asked.port or bound.port)
    return result


def _bind_elsewhere(context: Context, own: socket.socket, asked: Address, place: Address) -> int:
    # The port of before may by now be some client's: it counts as taken if somebody listens there.
    key = "tcp" if common.is_tcp(own) else "udp", asked
    before = context.sockets.moved.get(key, 0)
    result = _bind(own, Address(place.ip, before)) if asked.port else _bind(own, Address(place.ip, 0))
    if result == -errno.EADDRINUSE and not context.port_holder(key[0], before):
        result = _bind(own, Address(place.ip, 0))
    if result == 0 and asked.port:
        context.sockets.moved[key] = common.own_name(own)[0].port
    return result


def _bind(own: socket.socket, place: Address) -> int:
    try:
        own.bind((common.text(own, place), place.port))
    except OSError as error:
        return -(error.errno or errno.EADDRNOTAVAIL)
    return 0


def say_taken(context: Context, own: socket.socket, asked: int, wanted: int) -> None:
    """One line for the user about a port that is taken on this machine: the program often says no more than that."""
    protocol = "tcp" if common.is_tcp(own) else "udp"
    holder = context.port_holder(protocol, wanted) or "another socket"
    text = f"port {wanted} of this machine is taken by {holder}"
    if protocol == "tcp" and asked == wanted:
        text += f"; feature.network.incoming.listen_ports [[{asked}, OTHER]] lets the program have another one here"
    context.notice(f"in-use-{protocol}-{wanted}", f"{os.strerror(errno.EADDRINUSE)}: {text}")
