"""Unix sockets of the pod: connect(2), and datagrams sent to a name or received from one.

The pod's verdict comes first, so every errno is the pod's. Then the tracee's own socket is connected, through our
duplicate, to a socket of ours on this machine, which the relay bridges with the pod's. A unix connect(2) never waits
while the listener's queue has room, so this takes no further stop, and a non-blocking socket connects at once, as natively.

The listener has a random abstract name for some microseconds. Whoever reads it in /proc/net/unix and is faster than we
are is refused: only a connection that this very process has made is taken (SO_PEERCRED names who called connect(2)).
The program's SO_PEERCRED names this tool, which is who called listen(2).

A datagram socket in the pod is kept for each name that a socket of the tracee sends to. As with UDP a stand-in plays the
peer here, and addresses are exchanged.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Generator

from ..abi import msghdr, sockaddr
from ..actions import Action, Continue, Decision, Handling, Keep, Outcome, Reason, Return, Route, SyscallError, ask, run, trap
from ..context import Args, Context
from ..requests import JoinUnix, OpenUnix, UnixOpened
from ..task import Task
from . import common
from .unix_peers import Peer, new_name

LONGEST_WAIT_S = 20.0
"""For room in the backlog of a listener in the pod, where the program's socket would wait for ever."""

_CONNECTIONS = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
_BACKLOG = 4096  # so that nobody can fill it in time
_RECEIVING = frozenset({"recvmsg", "recvmmsg"})
_MOST_MESSAGES = 1024
_TIMEVAL = struct.Struct("=qq")
_CREDENTIALS = struct.Struct("=3i")
_REMOTE = Decision(Route.REMOTE, Reason.REMOTE_OBJECT)


def connect_unix(context: Context, task: Task, args: Args, path: bytes) -> Handling:
    """connect(2) of an AF_UNIX socket. 1 stop and 1 round trip if `path` is the pod's; else 1 stop.

    Parks for the pod's verdict; at most 20 s (or SO_SNDTIMEO) if the backlog there is full and the socket is blocking.
    """
    decision = context.policy.unix_socket(path)
    if decision.route is Route.MISSING:
        raise SyscallError(errno.ENOENT, decision)
    if decision.route is not Route.REMOTE:
        return Continue(decision)
    with common.duplicate(task, args[0]) as own:
        if own is None or own.family != socket.AF_UNIX:
            return common.BAD_ARGUMENT
        if own.type == socket.SOCK_DGRAM:
            return (yield from _connect_datagrams(context, own, path, decision))
        number = _unfit(own)
        if number:
            raise SyscallError(number, decision)
        opened = yield from ask(OpenUnix(path, int(own.type), _patience_ms(own)), UnixOpened)
        inode = common.inode(own)
        name = new_name()
        try:
            with _accepted_end(own, name) as accepted:
                context.relay.tell(JoinUnix(opened.stream, inode), (accepted.fileno(),))
        except OSError as error:
            # Another thread was faster, for one.
            context.relay.tell(JoinUnix(opened.stream, inode))
            raise SyscallError(error.errno or errno.ECONNREFUSED, decision) from None
        context.sockets.unix.add(name, Peer(inode, path, opened.peer, opened.stream), datagrams=False)
        return Return(0, decision)


def _unfit(own: socket.socket) -> int:
    # What connect(2) gives for a socket in another state, whoever it is to be connected to.
    if own.type not in _CONNECTIONS:
        return errno.ESOCKTNOSUPPORT
    if own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        return errno.EINVAL
    return errno.EISCONN if _is_connected(own) else 0


def _is_connected(own: socket.socket) -> bool:
    try:
        own.getpeername()
    except OSError:
        return False
    return True


def _patience_ms(own: socket.socket) -> int:
    if fcntl.fcntl(own, fcntl.F_GETFL) & os.O_NONBLOCK:
        return 0
    seconds, microseconds = _TIMEVAL.unpack(own.getsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.size))
    limit_s = seconds + microseconds / 1e6
    return int(1000 * min(limit_s or LONGEST_WAIT_S, LONGEST_WAIT_S))


def _accepted_end(own: socket.socket, name: bytes) -> socket.socket:
    # Connect the tracee's socket to a listener of ours; the other end of the connection.
    with socket.socket(socket.AF_UNIX, own.type) as listener:
        listener.bind(name)
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        own.connect(name)
        while True:
            accepted, _ = listener.accept()
            caller, _, _ = _CREDENTIALS.unpack(accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
            if caller == os.getpid():
                return accepted
            accepted.close()


# -- datagrams ------------------------------------------------------------------------------------------------------


def _connect_datagrams(
    context: Context, own: socket.socket, path: bytes, decision: Decision
) -> Generator[Action, Outcome, Return]:
    # connect(2) always asks the pod: the peer may have been started again.
    former = context.sockets.unix.for_datagrams(common.inode(own), path)
    name = yield from _new_stand_in(context, own, path, decision)
    try:
        own.connect(name)
    except OSError as error:
        _end_stand_in(context, name)
        raise SyscallError(error.errno or errno.ECONNREFUSED, decision) from None
    _end_stand_in(context, former)
    yield from _expect_answers(context, own)
    return Return(0, decision)


def send_target(
    context: Context, task: Task, fd_argument: int, path: bytes
) -> Generator[Action, Outcome, Continue | tuple[bytes, Decision]]:
    """sendto(2), sendmsg(2) to a unix name: the sockaddr to send to instead. 1 round trip for the first one of a socket."""
    decision = context.policy.unix_socket(path)
    if decision.route is Route.MISSING:
        raise SyscallError(errno.ENOENT, decision)
    if decision.route is not Route.REMOTE:
        return Continue(decision)
    with common.duplicate(task, fd_argument) as own:
        if own is None or own.family != socket.AF_UNIX or own.type != socket.SOCK_DGRAM:
            return common.BAD_ARGUMENT
        name = context.sockets.unix.for_datagrams(common.inode(own), path)
        if not name or not _is_there(name):
            _end_stand_in(context, name)
            name = yield from _new_stand_in(context, own, path, decision)
            yield from _expect_answers(context, own)
    return sockaddr.encode_unix(name), decision


def _new_stand_in(context: Context, own: socket.socket, path: bytes, decision: Decision) -> Generator[Action, Outcome, bytes]:
    opened = yield from ask(OpenUnix(path, int(socket.SOCK_DGRAM), 0), UnixOpened)
    inode = common.inode(own)
    name = new_name()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stand_in:
            stand_in.bind(name)
            context.relay.tell(JoinUnix(opened.stream, inode), (stand_in.fileno(),))
    except OSError as error:
        context.relay.tell(JoinUnix(opened.stream, inode))
        raise SyscallError(error.errno or errno.ENOBUFS, decision) from None
    context.sockets.unix.add(name, Peer(inode, path, opened.peer, opened.stream), datagrams=True)
    return name


def _end_stand_in(context: Context, name: bytes) -> None:
    peer = context.sockets.unix.get(name)
    if peer is not None:
        context.relay.tell(JoinUnix(peer.stream, peer.inode))
        context.sockets.unix.drop(name)


def _is_there(name: bytes) -> bool:
    # The relay closes a stand-in when the peer in the pod has gone. The next datagram is worth another look there.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        return probe.connect_ex(name) == 0


def _expect_answers(context: Context, own: socket.socket) -> Generator[Action, Outcome, None]:
    # Only a socket with a name can be answered.
    if own.getsockname():
        refused = yield from trap(_RECEIVING)
        if refused:
            context.notice("trap", "the kernel refused a further filter: addresses of received datagrams may be wrong")


# -- names ----------------------------------------------------------------------------------------------------------


def peer_name(context: Context, own: socket.socket) -> bytes | None:
    """getpeername(2): the sockaddr of the peer in the pod, or None if the kernel's answer is the right one."""
    try:
        name = own.getpeername()
    except OSError:
        return None
    peer = context.sockets.unix.get(name) if isinstance(name, bytes) else None
    return sockaddr.encode_unix(peer.peer) if peer is not None else None


def recvfrom(context: Context, task: Task, args: Args) -> Handling:
    """recvfrom(2) of a unix socket that has a peer in the pod: the sender's name there. 2 stops, 1 for all others."""
    inode = common.inode_of(task, args[0]) if context.sockets.unix else 0
    if inode not in context.sockets.unix:
        return common.LOCAL_OBJECT
    room = common.read_room(task, args[5])
    result = yield from run()
    if result < 0 or room is None:
        return Keep(_REMOTE)
    (length,) = struct.unpack("=I", task.read(args[5], 4))
    return Return(result, _REMOTE, _renamed(context, task, inode, args[4], args[5], (room, length)))


def recvmsg(context: Context, task: Task, args: Args) -> Handling:
    """recvmsg(2): as recvfrom(2) if the caller has room for the sender's name."""
    inode = common.inode_of(task, args[0]) if context.sockets.unix else 0
    if inode not in context.sockets.unix:
        return common.LOCAL_OBJECT
    return (yield from _receive_messages(context, task, inode, args, (args[1],), -1))


def recvmmsg(context: Context, task: Task, args: Args) -> Handling:
    """recvmmsg(2): as recvmsg(2) for each message."""
    inode = common.inode_of(task, args[0]) if context.sockets.unix else 0
    if inode not in context.sockets.unix:
        return common.LOCAL_OBJECT
    count = min(args[2] & 0xFFFFFFFF, _MOST_MESSAGES)
    headers = tuple(args[1] + msghdr.MMSGHDR_BYTES * index for index in range(count))
    return (yield from _receive_messages(context, task, inode, args, headers, count))


def _receive_messages(context: Context, task: Task, inode: int, args: Args, headers: tuple[int, ...], count: int) -> Handling:
    try:
        before = [msghdr.decode(task.read(header, msghdr.MSGHDR_BYTES)) for header in headers]
    except SyscallError:
        return common.BAD_ARGUMENT
    result = yield from run({2: count} if 0 <= count < args[2] & 0xFFFFFFFF else {})
    writes: list[tuple[int, bytes]] = []
    for index in range(max(result, 0) if count >= 0 else result >= 0):
        old = before[index]
        if old.name:
            length = msghdr.decode(task.read(headers[index], msghdr.MSGHDR_BYTES)).name_length
            at = headers[index] + msghdr.NAME_LENGTH_OFFSET
            writes.extend(_renamed(context, task, inode, old.name, at, (old.name_length, length)))
    return Return(result, _REMOTE, tuple(writes))


def _renamed(
    context: Context, task: Task, inode: int, where: int, length_at: int, sizes: tuple[int, int]
) -> tuple[tuple[int, bytes], ...]:
    # The kernel had `room` for an address of `length` bytes. If it is a stand-in's, the peer's comes in its place.
    room, length = sizes
    content = task.read(where, min(room, length))
    for name, peer in context.sockets.unix.named(inode):
        own_name = sockaddr.encode_unix(name)
        if length == len(own_name) and own_name.startswith(content):
            return sockaddr.value_result(where, length_at, room, sockaddr.encode_unix(peer.peer))
    return ()
