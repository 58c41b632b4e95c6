"""UDP from the pod: connect(2), sendto(2), sendmsg(2) and the receiving calls that ask for the sender.

Every peer of a socket is stood for by a UDP socket of the relay on loopback: a datagram sent to it leaves from the pod
to that peer, an answer comes back through it. So data calls run natively, and only addresses are exchanged. sendmsg
and recvmsg keep their addresses in memory, where a filter cannot see them; they stop only in processes that have made
datagram sockets, or used them for the pod without connecting them.
"""

from __future__ import annotations

import errno
import socket as sockets_api
import struct
from collections.abc import Generator, Sequence
from typing import NamedTuple

from ...agent.wire.messages import Address
from ..abi import msghdr, sockaddr
from ..abi.flags import to_int32
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
    trap,
)
from ..context import Args, Context
from ..network_rules import DNS_PORT
from ..task import Task
from . import common, fastopen, pings, receiving, stand_ins, unix
from .sockets import Datagrams

_SENDING = frozenset({"sendmsg", "sendmmsg"})
_RECEIVING = frozenset({"recvmsg", "recvmmsg"})
_BATCH = 5
"""sendmmsg: as many messages with their addresses as fit a scratch slot."""

_MOST_MESSAGES = 1024
"""UIO_MAXIOV: the kernel's own limit for sendmmsg. recvmmsg has none, and is given this one."""

_REMOTE = Decision(Route.REMOTE, Reason.REMOTE_OBJECT)


def socket(context: Context, task: Task, args: Args) -> Handling:
    """socket(2), internet datagrams only: from the first one on, sendmsg(2) of the process stops. 1 stop, 4 the first time."""
    if args[2] in pings.PROTOCOLS:
        return (yield from pings.socket(context, task, args))
    refused = yield from trap(_SENDING)
    decision = context.policy.other_protocols()
    if refused and decision.route is Route.REMOTE:
        context.notice(
            "trap-sending",
            "the kernel refused a further filter, because a thread of the program has one of its own: UDP sockets are "
            "refused (EACCES), since what sendmsg(2) sends by them could not be led to the pod",
        )
        raise SyscallError(errno.EACCES, decision)
    return common.LOCAL_OBJECT


def connect_datagrams(
    context: Context, task: Task, fd: int, own: sockets_api.socket, to: sockaddr.Internet
) -> Generator[Action, Outcome, Continue | Return]:
    """connect(2) of a UDP socket, through our duplicate. 1 stop.

    recvmsg(2) of the process stops from then on, unless it is a name server: resolvers use recvfrom(2), or look at no
    address.
    """
    if own.family == sockets_api.AF_INET != to.family:
        return common.BAD_ARGUMENT
    peer = common.through_loopback(to.address)
    inode = common.inode(own)
    answer = receiving.stand_in(context, own, peer)
    decision = receiving.way_back(answer) or stand_ins.decide(context, own, peer)
    if decision.route is not Route.REMOTE:
        known = context.sockets.datagrams.get(inode)
        if known is not None:
            known.connected = None
        stand_ins.stay_local(context, own, decision)
        return Continue(decision)
    port = answer or stand_ins.stand_in(context, own, peer, decision, (task.tgid, fd))
    if peer.port != DNS_PORT:
        yield from _trap_receiving(context)
    try:
        own.connect((common.text(own, common.loopback(peer, port)), port))
    except OSError as error:
        raise SyscallError(error.errno or errno.EINVAL, decision) from None
    context.sockets.datagrams.setdefault(inode, Datagrams(context.sockets.new_key())).connected = peer
    return Return(0, decision)


def sendto(context: Context, task: Task, args: Args) -> Handling:
    """sendto(2) with an address: the datagram leaves from the pod. 2 stops."""
    if fastopen.concerns(task, args[0], args[3]):
        return (yield from fastopen.sendto(context, task, args))
    target = yield from _target(context, task, args[0], args[4], args[5], args[3])
    if not isinstance(target, _Away):
        return target
    yield from run({4: Scratch(target.stand_in), 5: len(target.stand_in)})
    return Keep(target.decision)


def sendmsg(context: Context, task: Task, args: Args) -> Handling:
    """sendmsg(2): as sendto(2) if the message names a peer, else untouched."""
    if fastopen.concerns(task, args[0], args[2]):
        return (yield from fastopen.sendmsg(context, task, args))
    try:
        content = task.read(args[1], msghdr.MSGHDR_BYTES)
    except SyscallError:
        return common.BAD_ARGUMENT
    target = yield from _of_message(context, task, args[0], msghdr.decode(content), args[2])
    if not isinstance(target, _Away):
        return target
    message = msghdr.renamed(content, len(target.stand_in)) + target.stand_in
    yield from run({1: Scratch(message, ((msghdr.NAME_OFFSET, msghdr.MSGHDR_BYTES),))})
    return Keep(target.decision)


def sendmmsg(context: Context, task: Task, args: Args) -> Handling:
    """sendmmsg(2): as sendmsg(2) for each message. 2 stops.

    A call sends the messages before the first one that goes another way (from the pod or from here), and at most 5 from
    the pod: sendmmsg may always stop early, and the caller sends the rest by calling again.
    """
    if fastopen.concerns(task, args[0], args[3]):
        return (yield from fastopen.sendmmsg(context, task, args))
    count = min(args[2] & 0xFFFFFFFF, _MOST_MESSAGES)
    try:
        content = task.read(args[1], msghdr.MMSGHDR_BYTES * count)
    except SyscallError:
        return common.BAD_ARGUMENT
    headers = [msghdr.decode(content, msghdr.MMSGHDR_BYTES * index) for index in range(count)]
    if not any(header.name for header in headers):
        return common.LOCAL_OBJECT
    targets = yield from _one_way(context, task, args, headers)
    first = targets[0]
    if not isinstance(first, _Away):
        if len(targets) == count:
            return first
        yield from run({2: len(targets)})
        return Keep(first.decision)
    sent = yield from run({1: _placed(content, targets), 2: len(targets)})
    # The kernel has written the lengths into the scratch copy; a datagram is sent whole or not at all.
    writes = []
    for index in range(max(sent, 0)):
        length = msghdr.total_length(task.read(headers[index].iovec, msghdr.IOVEC_BYTES * headers[index].iovec_count))
        writes.append((args[1] + msghdr.MMSGHDR_BYTES * index + msghdr.MSG_LEN_OFFSET, struct.pack("=I", length)))
    return Return(sent, first.decision, tuple(writes))


class _Away(NamedTuple):
    # A datagram goes to the pod's network: the sockaddr that stands for its peer.
    stand_in: bytes
    decision: Decision


_Target = Generator[Action, Outcome, Continue | _Away]


def _one_way(
    context: Context, task: Task, args: Args, headers: Sequence[msghdr.MessageHeader]
) -> Generator[Action, Outcome, list[Continue | _Away]]:
    # The targets of the first messages that all leave from the pod, or all from here; at least one.
    targets: list[Continue | _Away] = []
    for header in headers:
        try:
            target = yield from _of_message(context, task, args[0], header, args[3])
        except SyscallError:
            if not targets:
                raise
            break
        if targets and type(target) is not type(targets[0]):
            break
        targets.append(target)
        if isinstance(target, _Away) and len(targets) == _BATCH:
            break
    return targets


def _placed(content: bytes, targets: Sequence[Continue | _Away]) -> Scratch:
    # The messages with their peers replaced, and the addresses behind them.
    size = msghdr.MMSGHDR_BYTES * len(targets)
    placed = bytearray(content[:size])
    pointers: list[tuple[int, int]] = []
    for index, target in enumerate(targets):
        assert isinstance(target, _Away)
        start = msghdr.MMSGHDR_BYTES * index
        end = start + msghdr.MSGHDR_BYTES
        placed[start:end] = msghdr.renamed(content[start:end], len(target.stand_in))
        pointers.append((start + msghdr.NAME_OFFSET, len(placed)))
        placed += target.stand_in
    return Scratch(bytes(placed), tuple(pointers))


def _of_message(context: Context, task: Task, fd: int, header: msghdr.MessageHeader, flags: int) -> _Target:
    if not header.name or not header.name_length:
        return common.LOCAL_OBJECT
    length = header.name_length
    if to_int32(length) > 0:
        length = min(length, sockaddr.SOCKADDR_STORAGE_BYTES)  # unlike sendto, sendmsg cuts longer ones
    return (yield from _target(context, task, fd, header.name, length, flags))


def _target(context: Context, task: Task, fd: int, pointer: int, length: int, flags: int) -> _Target:
    # Where a datagram with an address goes: the sockaddr that stands for its peer, or Continue for local ones.
    decoded = common.read_address(task, pointer, length)
    unspecified = decoded == sockaddr.AF_UNSPEC
    if unspecified:
        # udp(7): IPv4 sockets take it for AF_INET when they send, IPv6 sockets for no address.
        content = task.read(pointer, to_int32(length))
        decoded = sockaddr.decode(struct.pack("=H", sockaddr.AF_INET) + content[2:])
    if isinstance(decoded, sockaddr.Unix):
        away = yield from unix.send_target(context, task, fd, decoded.path)
        return away if isinstance(away, Continue) else _Away(*away)
    if not isinstance(decoded, sockaddr.Internet):
        return common.NOT_INTERNET if decoded is not None else common.BAD_ARGUMENT
    peer = common.through_loopback(decoded.address)
    with common.duplicate(task, fd) as own:
        if own is None or own.family not in common.INTERNET or (own.family == sockets_api.AF_INET != decoded.family):
            return common.BAD_ARGUMENT
        if not common.is_udp(own) or (unspecified and own.family != sockets_api.AF_INET):
            return common.LOCAL_OBJECT
        answer = receiving.stand_in(context, own, peer)
        decision = receiving.way_back(answer) or stand_ins.decide(context, own, peer)
        if decision.route is not Route.REMOTE:
            stand_ins.stay_local(context, own, decision)
            return Continue(decision)
        port = answer or stand_ins.stand_in(context, own, peer, decision, (task.tgid, fd))
        family = own.family
    yield from _trap_receiving(context)
    return _Away(sockaddr.encode(family, common.loopback(peer, port)), decision)


def _trap_receiving(context: Context) -> Generator[Action, Outcome, None]:
    refused = yield from trap(_RECEIVING)
    if refused:
        context.notice("trap", "the kernel refused a further filter: addresses of received datagrams may be wrong")


# -- receiving ------------------------------------------------------------------------------------------------------


def recvfrom(context: Context, task: Task, args: Args) -> Handling:
    """recvfrom(2) with an address: the sender in the pod's network. 2 stops for sockets that send from the pod, else 1."""
    known = _known(context, task, args[0])
    if known is None:
        return (yield from unix.recvfrom(context, task, args))
    room = common.read_room(task, args[5])
    result = yield from run()
    if result < 0 or room is None:
        return Keep(_REMOTE)
    (length,) = struct.unpack("=I", task.read(args[5], 4))
    return Return(result, _REMOTE, _renamed(context, task, known, args[4], min(length, room)))


def recvmsg(context: Context, task: Task, args: Args) -> Handling:
    """recvmsg(2): as recvfrom(2) if the caller has room for the sender's address."""
    known = _known(context, task, args[0])
    if known is None:
        return (yield from unix.recvmsg(context, task, args))
    try:
        before = msghdr.decode(task.read(args[1], msghdr.MSGHDR_BYTES))
    except SyscallError:
        return common.BAD_ARGUMENT
    result = yield from run()
    if result < 0 or not before.name:
        return Keep(_REMOTE)
    after = msghdr.decode(task.read(args[1], msghdr.MSGHDR_BYTES))
    room = min(before.name_length, after.name_length)
    return Return(result, _REMOTE, _renamed(context, task, known, before.name, room))


def recvmmsg(context: Context, task: Task, args: Args) -> Handling:
    """recvmmsg(2): as recvmsg(2) for each message."""
    known = _known(context, task, args[0])
    if known is None:
        return (yield from unix.recvmmsg(context, task, args))
    asked = args[2] & 0xFFFFFFFF
    count = min(asked, _MOST_MESSAGES)
    try:
        content = task.read(args[1], msghdr.MMSGHDR_BYTES * count)
    except SyscallError:
        return common.BAD_ARGUMENT
    before = [msghdr.decode(content, msghdr.MMSGHDR_BYTES * index) for index in range(count)]
    result = yield from run({2: count} if count < asked else {})
    writes: list[tuple[int, bytes]] = []
    for index in range(max(result, 0)):
        after = msghdr.decode(task.read(args[1] + msghdr.MMSGHDR_BYTES * index, msghdr.MSGHDR_BYTES))
        if before[index].name:
            room = min(before[index].name_length, after.name_length)
            writes.extend(_renamed(context, task, known, before[index].name, room))
    return Return(result, _REMOTE, tuple(writes))


def _known(context: Context, task: Task, fd: int) -> Datagrams | None:
    if not context.sockets.datagrams:
        return None
    return context.sockets.datagrams.get(common.inode_of(task, fd))


def _renamed(context: Context, task: Task, known: Datagrams, where: int, length: int) -> tuple[tuple[int, bytes], ...]:
    # The kernel has put `length` bytes of an address there; if a relay socket's, the peer's has the same family and length.
    if known.receiver is not None:
        return receiving.renamed(context, task, known.receiver, where, length)
    content = task.read(where, length)
    if length < sockaddr.PORT_END:
        return ()
    family, port = sockaddr.family_and_port(content)
    for ip in (common.LOOPBACK4, common.LOOPBACK6):
        if port and family in common.INTERNET and content == sockaddr.encode(family, Address(ip, port))[:length]:
            ipv6 = ip is common.LOOPBACK6
            peer = known.peers.get((ipv6, port)) or _unexpected(context, ipv6, port)
            if peer is not None:
                return ((where, sockaddr.encode(family, peer)[:length]),)
    return ()


def _unexpected(context: Context, ipv6: bool, port: int) -> Address | None:
    # A peer that has answered in another's place (TFTP) got its port from the relay.
    found = context.addresses.lookup(ipv6, port, 0)
    return found[0] if found else None
