"""Netlink sockets for interfaces, addresses and routes: rtnetlink(7). What a program asks for is the pod's.

A program's socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE) becomes one of the protocol NETLINK_USERSOCK, in which ordinary
processes may send each other datagrams. It is bound and connected to the relay's socket at once, through our duplicate: so
send(2), recv(2), poll(2) and time-outs are native. The relay passes questions on to the agent and sends the answers.

What differs from the kernel's socket and has to be mended at a stop:
- A connected socket is bound, and a bound one cannot be bound to another port. So bind(2) is not run. The port that it asks
  for, or else the process id, is remembered; getsockname(2) tells it, and the relay writes it into the answers.
- Messages to the kernel (port 0) go to the relay: their address is left out, so that the socket's peer counts.
- What comes from the relay must seem to come from port 0. glibc, Go and libmnl ignore anything else.
- The kernel's answers are there when send(2) returns. Here a call with MSG_DONTWAIT first waits for the answer.
- Joining multicast groups needs a privilege here. It is pretended: no events come, as on a pod where nothing changes.
  Only questions are answered; everything else is refused with EPERM, as for any ordinary user.
"""

from __future__ import annotations

import errno
import functools
import socket as sockets_api
import struct
from collections.abc import Callable, Generator

from ...agent.wire.messages import Done
from ..abi import msghdr, netlink
from ..abi.flags import to_int32
from ..abi.sockaddr import value_result
from ..actions import (
    Action,
    Continue,
    Decision,
    Final,
    Handling,
    Keep,
    Outcome,
    Reason,
    Return,
    Route,
    Scratch,
    SyscallError,
    ask,
    run,
    trap,
)
from ..context import Args, Context
from ..requests import AwaitRoutes, RouteSocket
from ..task import Task
from . import common
from .sockets import Routing

MSG_DONTWAIT = 0x40
_MESSAGES = frozenset({"sendmsg", "sendmmsg", "recvmsg", "recvmmsg", "recvfrom"})
_MOST_MESSAGES = 1024
_FIRST_PORT = 0x80000000
_PORT_TRIES = 16
_REMOTE = Decision(Route.REMOTE, Reason.POD_INTERFACES)

Handler = Callable[[Context, Task, Args], Handling]
Own = Callable[[Context, Task, Args, Routing], Handling]


def before(name: str, other: Handler) -> Handler:
    """The handler of the call `name`: this module's for its own sockets, `other` for all others."""
    own = _OWN.get(name)
    if own is None and name != "socket":
        return other

    @functools.wraps(other)
    def handler(context: Context, task: Task, args: Args) -> Handling:
        if own is None:
            is_netlink = to_int32(args[0]) == netlink.AF_NETLINK
            return (yield from socket(context, task, args) if is_netlink else other(context, task, args))
        known = context.sockets.routing.get(common.inode_of(task, args[0])) if context.sockets.routing else None
        return (yield from other(context, task, args) if known is None else own(context, task, args, known))

    return handler


def socket(context: Context, task: Task, args: Args) -> Handling:
    """socket(2), NETLINK_ROUTE: a socket that talks to the relay, not to the kernel here. 2 stops, 5 the first time."""
    decision = context.policy.interfaces()
    if decision.route is not Route.REMOTE:
        return Continue(decision)
    if not context.routes_port:
        raise SyscallError(errno.EPROTONOSUPPORT, decision)
    if (yield from trap(_MESSAGES)):
        context.notice("trap-routes", "the kernel refused a further filter: interfaces and routes cannot be asked for")
        raise SyscallError(errno.EPROTONOSUPPORT, decision)
    fd = yield from run({2: netlink.NETLINK_USERSOCK})
    if fd < 0:
        return Keep(decision)
    with common.duplicate(task, fd) as own:
        if own is not None:
            port = _connect(context, own)
            context.sockets.routing[common.inode(own)] = Routing(port, task.tgid)
            context.relay.tell(RouteSocket(port, task.tgid))
    return Keep(decision)


def _connect(context: Context, own: sockets_api.socket) -> int:
    # From a port that no socket of this session has had. The kernel's own choice, the process id, would be the next socket's
    # as soon as this one is closed, and a question of the one might be taken for one of the other.
    for _ in range(_PORT_TRIES):
        port = _FIRST_PORT | (context.routes_port & 0x7FFF) << 16 | context.sockets.new_key() & 0xFFFF
        try:
            own.bind((port, 0))
            break
        except OSError:
            continue
    own.connect((context.routes_port, 0))
    return int(own.getsockname()[0])


def bind(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """bind(2): the port and the groups are remembered. 1 stop. EINVAL for a second port."""
    yield from ()
    name = _name(task, args[1], to_int32(args[2]))
    if known.bound and name.port != known.known_as:
        raise SyscallError(errno.EINVAL, _REMOTE)
    if not known.bound:
        known.bound = True
        if name.port not in (0, known.known_as):
            known.known_as = name.port
            context.relay.tell(RouteSocket(known.port, known.known_as))
    known.groups = name.groups
    return Return(0, _REMOTE)


def connect(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """connect(2): to the kernel it already is. EPERM for anybody else."""
    yield from ()
    size = to_int32(args[2])
    if size >= 2 and task.read(args[1], 2) == bytes(2):
        return Return(0, _REMOTE)  # AF_UNSPEC: not connected means to the kernel as well
    _to_kernel(_name(task, args[1], size))
    return Return(0, _REMOTE)


def getsockname(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """getsockname(2): the port that was asked for. 1 stop."""
    yield from ()
    return _named(task, args, netlink.encode_name(known.known_as, known.groups & 0xFFFFFFFF))


def getpeername(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """getpeername(2): the kernel. 1 stop."""
    yield from ()
    return _named(task, args, netlink.encode_name(0, 0))


def setsockopt(context: Context, task: Task, args: Args) -> Handling:
    """setsockopt(2), NETLINK_ADD_MEMBERSHIP and NETLINK_DROP_MEMBERSHIP: accepted, no event comes. 1 stop."""
    yield from ()
    known = context.sockets.routing.get(common.inode_of(task, args[0])) if context.sockets.routing else None
    if known is None:
        return common.LOCAL_OBJECT
    if to_int32(args[4]) < 4:
        raise SyscallError(errno.EINVAL, _REMOTE)
    (group,) = struct.unpack("=I", task.read(args[3], 4))
    if not group:
        raise SyscallError(errno.EINVAL, _REMOTE)
    bit = 1 << (group - 1) if group <= 64 else 0
    adds = args[2] & 0xFFFFFFFF == netlink.NETLINK_ADD_MEMBERSHIP
    known.groups = known.groups | bit if adds else known.groups & ~bit
    return Return(0, _REMOTE)


def _named(task: Task, args: Args, name: bytes) -> Final:
    room = common.read_room(task, args[2])
    if room is None:
        return common.BAD_ARGUMENT
    return Return(0, _REMOTE, value_result(args[1], args[2], room, name))


def _name(task: Task, pointer: int, size: int) -> netlink.Name:
    if size < netlink.SOCKADDR_BYTES:
        raise SyscallError(errno.EINVAL, _REMOTE)
    name = netlink.decode_name(task.read(pointer, netlink.SOCKADDR_BYTES))
    if name.family != netlink.AF_NETLINK:
        raise SyscallError(errno.EINVAL, _REMOTE)
    return name


def _to_kernel(name: netlink.Name) -> None:
    # To other processes only the privileged may send.
    if name.port or name.groups:
        raise SyscallError(errno.EPERM, _REMOTE)


# -- sending ----------------------------------------------------------------------------------------------------------


def sendto(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """sendto(2) to the kernel: to the relay. 2 stops."""
    _to_kernel(_name(task, args[4], to_int32(args[5])))
    yield from run({4: 0, 5: 0})
    return Keep(_REMOTE)


def sendmsg(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """sendmsg(2): as sendto(2) if the message names the kernel, else untouched."""
    content = task.read(args[1], msghdr.MSGHDR_BYTES)
    header = msghdr.decode(content)
    if not header.name or not header.name_length:
        return Continue(_REMOTE)
    _to_kernel(_name(task, header.name, header.name_length))
    yield from run({1: Scratch(_unnamed(content))})
    return Keep(_REMOTE)


def sendmmsg(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """sendmmsg(2): the first message only, as sendmsg(2). The caller sends the rest by calling again."""
    if not args[2] & 0xFFFFFFFF:
        return Continue(_REMOTE)
    content = task.read(args[1], msghdr.MMSGHDR_BYTES)
    header = msghdr.decode(content)
    if not header.name or not header.name_length:
        yield from run({2: 1})
        return Keep(_REMOTE)
    _to_kernel(_name(task, header.name, header.name_length))
    length = msghdr.total_length(task.read(header.iovec, msghdr.IOVEC_BYTES * min(header.iovec_count, _MOST_MESSAGES)))
    sent = yield from run({1: Scratch(_unnamed(content)), 2: 1})
    if sent < 1:
        return Keep(_REMOTE)
    return Return(sent, _REMOTE, ((args[1] + msghdr.MSG_LEN_OFFSET, struct.pack("=I", length)),))


def _unnamed(content: bytes) -> bytes:
    return bytes(msghdr.NAME_LENGTH_OFFSET + 4) + content[msghdr.NAME_LENGTH_OFFSET + 4 :]


# -- receiving --------------------------------------------------------------------------------------------------------


def recvfrom(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """recvfrom(2) with an address: the kernel's. 2 stops. Without, 1 stop, and only with MSG_DONTWAIT."""
    yield from _arrived(known, args[3])
    if not args[4]:
        return Continue(_REMOTE)
    room = common.read_room(task, args[5])
    result = yield from run()
    if result < 0 or room is None:
        return Keep(_REMOTE)
    return Return(result, _REMOTE, _from_kernel(args[4], room))


def recvmsg(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """recvmsg(2): as recvfrom(2) if the caller has room for the sender's address, else 1 stop."""
    yield from _arrived(known, args[2])
    before = msghdr.decode(task.read(args[1], msghdr.MSGHDR_BYTES))
    if not before.name:
        return Continue(_REMOTE)
    result = yield from run()
    if result < 0:
        return Keep(_REMOTE)
    return Return(result, _REMOTE, _from_kernel(before.name, before.name_length))


def recvmmsg(context: Context, task: Task, args: Args, known: Routing) -> Handling:
    """recvmmsg(2): as recvmsg(2) for each message."""
    yield from _arrived(known, args[3])
    asked = args[2] & 0xFFFFFFFF
    count = min(asked, _MOST_MESSAGES)
    content = task.read(args[1], msghdr.MMSGHDR_BYTES * count)
    before = [msghdr.decode(content, msghdr.MMSGHDR_BYTES * index) for index in range(count)]
    result = yield from run({2: count} if count < asked else {})
    writes: list[tuple[int, bytes]] = []
    for header in before[: max(result, 0)]:
        if header.name:
            writes += _from_kernel(header.name, header.name_length)
    return Return(result, _REMOTE, tuple(writes)) if result >= 0 else Keep(_REMOTE)


def _arrived(known: Routing, flags: int) -> Generator[Action, Outcome, None]:
    # The kernel answers before send(2) returns, so that musl reads without waiting. Here the answer may be under way.
    if flags & MSG_DONTWAIT:
        yield from ask(AwaitRoutes(known.port), Done)


def _from_kernel(where: int, room: int) -> tuple[tuple[int, bytes], ...]:
    # The port of the sender, and its groups, as far as the caller has room for them.
    size = min(room, netlink.SOCKADDR_BYTES) - netlink.PORT_OFFSET
    return ((where + netlink.PORT_OFFSET, bytes(size)),) if size > 0 else ()


_OWN: dict[str, Own] = {
    "bind": bind,
    "connect": connect,
    "getsockname": getsockname,
    "getpeername": getpeername,
    "sendto": sendto,
    "sendmsg": sendmsg,
    "sendmmsg": sendmmsg,
    "recvfrom": recvfrom,
    "recvmsg": recvmsg,
    "recvmmsg": recvmmsg,
}
