"""connect(2), datagrams and names of unix sockets, on real sockets of the caller."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from callers import AT, FD, LENGTH_AT, Caller, number
from mirrord_trace.agent.wire.messages import Message
from mirrord_trace.syscalls.abi import msghdr
from mirrord_trace.syscalls.actions import Decision, Reason, Route, Scratch
from mirrord_trace.syscalls.net import unix
from mirrord_trace.syscalls.net.connecting import connect
from mirrord_trace.syscalls.net.datagrams import recvfrom, recvmmsg, recvmsg, sendmsg, sendto
from mirrord_trace.syscalls.net.names import getpeername, getsockname
from mirrord_trace.syscalls.net.unix_peers import NAME_BYTES
from mirrord_trace.syscalls.requests import JoinUnix, OpenUnix, UnixOpened
from script import FakeRelay, session

_REMOTE = Decision(Route.REMOTE, Reason.UNIX_STREAMS)
_PATIENCE_MS = int(1000 * unix.LONGEST_WAIT_S)
_BUFFER, _HEADER, _IOVEC = 0x3000, 0x4000, 0x5000


def named(path: bytes) -> bytes:
    """A struct sockaddr_un as the kernel returns it."""
    return struct.pack("=H", socket.AF_UNIX) + path + (b"" if path[:1] == b"\0" else b"\0")


@dataclass
class Relay(FakeRelay):
    """Keeps what it is given, as the link does."""

    joined: list[tuple[JoinUnix, socket.socket]] = field(default_factory=list)
    dropped: list[JoinUnix] = field(default_factory=list)

    def tell(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """See RelayPort."""
        assert isinstance(message, JoinUnix)
        if fds:
            self.joined.append((message, socket.socket(fileno=os.dup(fds[0]))))
        else:
            self.dropped.append(message)


class Connecting:
    """A caller, its socket and its relay."""

    def __init__(self, kind: int) -> None:
        self.own = socket.socket(socket.AF_UNIX, kind)
        self.kind = kind
        self.relay = Relay()
        self.caller = Caller(self.own, session(unix_route=_REMOTE))
        self.caller.context.relay = self.relay

    def connects(self, path: bytes = b"/run/x", peer: bytes = b"/run/x", stream: int = 1, patience_ms: int = 0) -> None:
        """It connects, with success."""
        script = self.caller.names(connect, named(path)).asks(OpenUnix(path, self.kind, patience_ms))
        script.replies(UnixOpened(stream, peer)).returns(0, {}, Reason.UNIX_STREAMS)

    def close(self) -> None:
        """Give everything back."""
        self.own.close()
        for _, sock in self.relay.joined:
            sock.close()


@pytest.fixture
def stream() -> Iterator[Connecting]:
    """With a stream socket."""
    test = Connecting(socket.SOCK_STREAM)
    yield test
    test.close()


@pytest.fixture
def dgram() -> Iterator[Connecting]:
    """With a datagram socket."""
    test = Connecting(socket.SOCK_DGRAM)
    yield test
    test.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_the_callers_own_socket_is_connected_to_the_relays(kind: int) -> None:
    test = Connecting(int(kind))
    test.connects(patience_ms=_PATIENCE_MS)
    ((message, accepted),) = test.relay.joined
    assert message == JoinUnix(1, test.caller.inode)
    test.own.send(b"question")
    assert accepted.recv(100) == b"question"
    accepted.send(b"answer")
    assert test.own.recv(100) == b"answer"
    test.close()


def test_who_does_not_wait_does_not_wait_for_a_backlog(stream: Connecting) -> None:
    stream.own.setblocking(False)
    stream.connects(patience_ms=0)


def test_a_send_timeout_is_the_limit(stream: Connecting) -> None:
    stream.own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("=qq", 1, 500_000))
    stream.connects(patience_ms=1500)


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ECONNREFUSED, errno.EACCES, errno.EPROTOTYPE, errno.EAGAIN])
def test_the_errno_is_the_pods(stream: Connecting, number: int) -> None:
    script = stream.caller.names(connect, named(b"/run/x")).asks(OpenUnix(b"/run/x", 1, _PATIENCE_MS))
    script.fails(number).raises(number)
    assert not stream.relay.joined
    with pytest.raises(OSError, match="not connected"):
        stream.own.getpeername()


def test_a_connected_or_listening_socket_is_not_connected_again(stream: Connecting) -> None:
    stream.connects(patience_ms=_PATIENCE_MS)
    stream.caller.names(connect, named(b"/run/x")).raises(errno.EISCONN, Reason.UNIX_STREAMS)
    listening = Connecting(socket.SOCK_STREAM)
    listening.own.bind(b"\0mirrord-trace-test-" + os.urandom(8).hex().encode())
    listening.own.listen()
    listening.caller.names(connect, named(b"/run/x")).raises(errno.EINVAL, Reason.UNIX_STREAMS)
    listening.close()


def test_another_thread_was_faster(stream: Connecting) -> None:
    script = stream.caller.names(connect, named(b"/run/x")).asks(OpenUnix(b"/run/x", 1, _PATIENCE_MS))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"\0mirrord-trace-test-" + os.urandom(8).hex().encode())
        listener.listen()
        stream.own.connect(listener.getsockname())
    script.replies(UnixOpened(1, b"/run/x")).raises(errno.EISCONN, Reason.UNIX_STREAMS)
    assert stream.relay.dropped == [JoinUnix(1, stream.caller.inode)]


@pytest.mark.parametrize("decision", [Decision(Route.LOCAL, Reason.NOT_INTERNET), Decision(Route.LOCAL, Reason.RELATIVE_PATH)])
def test_others_are_the_kernels(stream: Connecting, dgram: Connecting, decision: Decision) -> None:
    for test in (stream, dgram):
        test.caller.context.policy.unix_route = decision  # type: ignore[attr-defined]
        test.caller.names(connect, named(b"/run/x")).continues(decision.reason)
    dgram.caller.calls(sendto, (_BUFFER, 1, 0, AT, 9), {AT: named(b"/run/x")}).continues(decision.reason)


def test_caches_of_names_look_absent_to_datagrams_too(dgram: Connecting) -> None:
    absent = Decision(Route.MISSING, Reason.LOCAL_RESOLVER_SOCKET)
    dgram.caller.context.policy.unix_route = absent  # type: ignore[attr-defined]
    dgram.caller.names(connect, named(b"/run/x")).raises(errno.ENOENT, Reason.LOCAL_RESOLVER_SOCKET)
    dgram.caller.calls(sendto, (_BUFFER, 1, 0, AT, 9), {AT: named(b"/run/x")}).raises(errno.ENOENT)


def test_an_fd_that_is_no_unix_socket() -> None:
    with socket.socket() as tcp:
        Caller(tcp, session(unix_route=_REMOTE)).names(connect, named(b"/run/x")).continues(Reason.BAD_ARGUMENT)


def test_the_peers_name_is_the_pods_and_the_own_is_the_sockets(stream: Connecting) -> None:
    stream.connects(b"/run/link", b"/run/real", patience_ms=_PATIENCE_MS)
    expected = named(b"/run/real")
    stream.caller.asks_name(getpeername).returns(0, {AT: expected, LENGTH_AT: number(len(expected))})
    stream.caller.asks_name(getpeername, 4).returns(0, {AT: expected[:4], LENGTH_AT: number(len(expected))})
    stream.caller.asks_name(getsockname).continues(Reason.LOCAL_OBJECT)


def test_a_local_peer_has_its_own_name(stream: Connecting) -> None:
    stream.connects(patience_ms=_PATIENCE_MS)
    one, other = socket.socketpair()
    with one, other:
        Caller(one, stream.caller.context).asks_name(getpeername).continues(Reason.LOCAL_OBJECT)


# -- datagrams ------------------------------------------------------------------------------------------------------


def test_a_connected_datagram_socket(dgram: Connecting) -> None:
    dgram.connects(b"/dev/log", b"/run/log")
    ((message, stand_in),) = dgram.relay.joined
    assert message == JoinUnix(1, dgram.caller.inode)
    dgram.own.send(b"line")
    assert stand_in.recv(100) == b"line"
    expected = named(b"/run/log")
    dgram.caller.asks_name(getpeername).returns(0, {AT: expected, LENGTH_AT: number(len(expected))})


def test_a_new_connect_asks_anew_and_ends_the_former(dgram: Connecting) -> None:
    dgram.connects(b"/dev/log", b"/dev/log", 1)
    dgram.connects(b"/dev/log", b"/dev/log", 3)
    assert dgram.relay.dropped == [JoinUnix(1, dgram.caller.inode)]
    assert len(dgram.relay.joined) == 2


def _stand_in(test: Connecting, index: int = -1) -> bytes:
    name = test.relay.joined[index][1].getsockname()
    assert isinstance(name, bytes)
    assert len(name) == NAME_BYTES
    return struct.pack("=H", socket.AF_UNIX) + name


def test_sendto_asks_once(dgram: Connecting) -> None:
    to = named(b"/dev/log")
    arguments = (_BUFFER, 4, 0, AT, len(to))
    script = (
        dgram.caller.calls(sendto, arguments, {AT: to}).asks(OpenUnix(b"/dev/log", 2, 0)).replies(UnixOpened(1, b"/dev/log"))
    )
    script.runs({4: Scratch(_stand_in(dgram)), 5: NAME_BYTES + 2}).gets(4).keeps(Reason.UNIX_STREAMS)
    again = dgram.caller.calls(sendto, arguments, {AT: to}).runs({4: Scratch(_stand_in(dgram)), 5: NAME_BYTES + 2})
    again.gets(4).keeps(Reason.UNIX_STREAMS)


def test_a_stand_in_that_has_gone_is_replaced(dgram: Connecting) -> None:
    to = named(b"/dev/log")
    arguments = (_BUFFER, 4, 0, AT, len(to))
    script = (
        dgram.caller.calls(sendto, arguments, {AT: to}).asks(OpenUnix(b"/dev/log", 2, 0)).replies(UnixOpened(1, b"/dev/log"))
    )
    script.runs({4: Scratch(_stand_in(dgram)), 5: NAME_BYTES + 2}).gets(4).keeps()
    dgram.relay.joined[0][1].close()
    script = (
        dgram.caller.calls(sendto, arguments, {AT: to}).asks(OpenUnix(b"/dev/log", 2, 0)).replies(UnixOpened(3, b"/dev/log"))
    )
    script.runs({4: Scratch(_stand_in(dgram)), 5: NAME_BYTES + 2}).gets(4).keeps()
    assert dgram.relay.dropped == [JoinUnix(1, dgram.caller.inode)]


def test_sendmsg_goes_the_same_way(dgram: Connecting) -> None:
    to = named(b"/dev/log")
    header = struct.pack("=QI4xQQQQI4x", AT, len(to), _IOVEC, 1, 0, 0, 0)
    script = dgram.caller.calls(sendmsg, (_HEADER, 0), {AT: to, _HEADER: header})
    script.asks(OpenUnix(b"/dev/log", 2, 0)).replies(UnixOpened(1, b"/dev/log"))
    stand_in = _stand_in(dgram)
    message = msghdr.renamed(header, len(stand_in)) + stand_in
    script.runs({1: Scratch(message, ((msghdr.NAME_OFFSET, msghdr.MSGHDR_BYTES),))}).gets(4).keeps(Reason.UNIX_STREAMS)


def _answered(dgram: Connecting) -> bytes:
    # A bound socket that has sent: its recvmsg stops from then on. What the kernel says of the sender of an answer.
    dgram.own.bind(b"\0mirrord-trace-test-" + os.urandom(8).hex().encode())
    to = named(b"/run/d")
    script = dgram.caller.calls(sendto, (_BUFFER, 4, 0, AT, len(to)), {AT: to})
    script.asks(OpenUnix(b"/run/d", 2, 0)).replies(UnixOpened(1, b"/run/d")).traps("recvmsg", "recvmmsg").gets(0)
    script.runs({4: Scratch(_stand_in(dgram)), 5: NAME_BYTES + 2}).gets(4).keeps()
    return _stand_in(dgram)


def test_recvfrom_names_the_peer_in_the_pod(dgram: Connecting) -> None:
    sender = _answered(dgram)
    expected = named(b"/run/d")
    script = dgram.caller.calls(recvfrom, (_BUFFER, 9, 0, AT, LENGTH_AT), {AT: bytes(128), LENGTH_AT: number(128)}).runs()
    dgram.caller.task.write(AT, sender)
    dgram.caller.task.write(LENGTH_AT, number(len(sender)))
    script.gets(4).returns(4, {AT: expected, LENGTH_AT: number(len(expected))})


def test_recvfrom_of_somebody_else(dgram: Connecting) -> None:
    _answered(dgram)
    other = named(b"/run/other")
    script = dgram.caller.calls(recvfrom, (_BUFFER, 9, 0, AT, LENGTH_AT), {AT: bytes(128), LENGTH_AT: number(128)}).runs()
    dgram.caller.task.write(AT, other)
    dgram.caller.task.write(LENGTH_AT, number(len(other)))
    script.gets(4).returns(4, {})


def test_recvmsg_and_recvmmsg_name_the_peer_in_the_pod(dgram: Connecting) -> None:
    sender = _answered(dgram)
    expected = named(b"/run/d")
    header = struct.pack("=QI4xQQQQI4x", AT, 128, _IOVEC, 1, 0, 0, 0)
    for handler, arguments in ((recvmsg, (_HEADER, 0)), (recvmmsg, (_HEADER, 1, 0, 0))):
        script = dgram.caller.calls(handler, arguments, {AT: bytes(128), _HEADER: header + bytes(8)}).runs()
        dgram.caller.task.write(AT, sender)
        dgram.caller.task.write(_HEADER + msghdr.NAME_LENGTH_OFFSET, number(len(sender)))
        length_at = _HEADER + msghdr.NAME_LENGTH_OFFSET
        script.gets(1).returns(1, {AT: expected, length_at: number(len(expected))})


def test_a_socket_without_peers_in_the_pod_receives_as_ever(dgram: Connecting) -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        caller = Caller(one, dgram.caller.context)
        caller.calls(recvfrom, (_BUFFER, 9, 0, AT, LENGTH_AT)).continues(Reason.LOCAL_OBJECT)
        dgram.connects(b"/dev/log", b"/dev/log")
        assert FD in caller.task.fds
        caller.calls(recvfrom, (_BUFFER, 9, 0, AT, LENGTH_AT)).continues(Reason.LOCAL_OBJECT)
        caller.calls(recvmsg, (_HEADER, 0)).continues(Reason.LOCAL_OBJECT)
        caller.calls(recvmmsg, (_HEADER, 1, 0, 0)).continues(Reason.LOCAL_OBJECT)
