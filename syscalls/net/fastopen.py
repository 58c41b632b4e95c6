"""MSG_FASTOPEN: sendto(2), sendmsg(2) and sendmmsg(2) that connect a TCP socket and send at once.

The kernel does it as ever, with the relay's full listener for a peer. It has no cookie for that one, so its SYN carries
no data: it waits for the verdict and then sends, or says EINPROGRESS to a caller who must not wait. That is what a first
contact is like natively. The listener never gives a cookie, so every contact is a first one.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Generator
from typing import NamedTuple

from ..abi import msghdr, sockaddr
from ..actions import Action, Decision, Handling, Outcome, Return, Route, Scratch, SyscallError, run
from ..context import Args, Context
from ..task import Task
from . import attempts, common

MSG_FASTOPEN = 0x20000000

_TCP_CLOSE = 7


class _Opening(NamedTuple):
    # The call goes to the pod: the sockaddr that it shall name instead.
    inode: int
    stand_in: bytes
    decision: Decision


def concerns(task: Task, fd: int, flags: int) -> bool:
    """Whether the call is one of this module's: MSG_FASTOPEN on a TCP socket. UDP ignores the flag."""
    if not flags & MSG_FASTOPEN:
        return False
    with common.duplicate(task, fd) as own:
        return own is not None and own.family in common.INTERNET and common.is_tcp(own)


def sendto(context: Context, task: Task, args: Args) -> Handling:
    """sendto(2) with MSG_FASTOPEN, TCP: connects from the pod, then sends. 2 stops, 1 round trip."""
    opening = yield from _begin(context, task, args[0], args[4], args[5])
    if opening is None:
        return common.LOCAL_OBJECT
    result = yield from run({4: Scratch(opening.stand_in), 5: len(opening.stand_in)})
    return attempts.outcome(context, opening.inode, result, opening.decision, ran=True)


def sendmsg(context: Context, task: Task, args: Args) -> Handling:
    """sendmsg(2) with MSG_FASTOPEN: as sendto(2)."""
    try:
        content = task.read(args[1], msghdr.MSGHDR_BYTES)
    except SyscallError:
        return common.BAD_ARGUMENT
    header = msghdr.decode(content)
    opening = yield from _begin(context, task, args[0], header.name, header.name_length)
    if opening is None:
        return common.LOCAL_OBJECT
    message = msghdr.renamed(content, len(opening.stand_in)) + opening.stand_in
    result = yield from run({1: Scratch(message, ((msghdr.NAME_OFFSET, msghdr.MSGHDR_BYTES),))})
    return attempts.outcome(context, opening.inode, result, opening.decision, ran=True)


def sendmmsg(context: Context, task: Task, args: Args) -> Handling:
    """sendmmsg(2) with MSG_FASTOPEN: the first message as by sendmsg(2); the caller sends the others by calling again."""
    if not args[2] & 0xFFFFFFFF:
        return common.LOCAL_OBJECT
    try:
        content = task.read(args[1], msghdr.MMSGHDR_BYTES)
    except SyscallError:
        return common.BAD_ARGUMENT
    header = msghdr.decode(content)
    opening = yield from _begin(context, task, args[0], header.name, header.name_length)
    if opening is None:
        return common.LOCAL_OBJECT
    message = bytearray(content)
    message[: msghdr.MSGHDR_BYTES] = msghdr.renamed(content[: msghdr.MSGHDR_BYTES], len(opening.stand_in))
    scratch = Scratch(bytes(message) + opening.stand_in, ((msghdr.NAME_OFFSET, msghdr.MMSGHDR_BYTES),))
    result = yield from run({1: scratch, 2: 1})
    if result != 1:
        return attempts.outcome(context, opening.inode, result, opening.decision, ran=True)
    # The kernel has written the length into the scratch copy. Whoever waits for the connection sends it all.
    length = msghdr.total_length(task.read(header.iovec, msghdr.IOVEC_BYTES * header.iovec_count))
    return Return(1, opening.decision, ((args[1] + msghdr.MSG_LEN_OFFSET, struct.pack("=I", length)),))


def _begin(context: Context, task: Task, fd: int, pointer: int, length: int) -> Generator[Action, Outcome, _Opening | None]:
    # None: the kernel does it, or refuses it, as it is.
    decoded = common.read_address(task, pointer, length) if pointer else None
    if not isinstance(decoded, sockaddr.Internet):
        return None
    peer = common.through_loopback(decoded.address)
    with common.duplicate(task, fd) as own:
        if own is None or own.family != decoded.family or not common.is_tcp(own):
            return None
        decision = context.outgoing("tcp", peer, context.sockets.listening_ports)
        inode = common.inode(own)
        is_closed = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE
        if not is_closed:
            # Connected or connecting: the kernel refuses. A connection of ours is still never to be led elsewhere.
            if inode not in context.sockets.connections:
                return None
            attempt = attempts.prepare(context, own, context.sockets.connections[inode].peer, decision)
            return _Opening(inode, sockaddr.encode(own.family, attempt.stand_in), decision)
        context.relay.drain()
        yield from attempts.end_former(context, inode)
        if decision.route is not Route.REMOTE:
            context.sockets.forget(inode)
            return None
        attempt = attempts.prepare(context, own, peer, decision)
        attempts.begin(context, own, attempt, attempts.bound(own, peer, decision))
        return _Opening(inode, sockaddr.encode(own.family, attempt.stand_in), decision)
