"""Unix sockets of the pod: opened there, joined with what the tracer hands over, and ended with the program's."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from errno import ENOENT
from typing import Any

import pytest
from mirrord_trace.agent.pump.packets import Packets
from mirrord_trace.agent.pump.unix_bridge import UnixBridge
from mirrord_trace.agent.wire.messages import ConnectUnix, Failed, Message, UnixConnected
from mirrord_trace.supervisor.relay import unix
from mirrord_trace.supervisor.relay.unix import UnixTraffic, unix_inodes
from mirrord_trace.syscalls.requests import JoinUnix, OpenUnix, UnixOpened


@dataclass
class Traffic:
    """The relay's part, and servers of the pod whose sockets the test holds."""

    pod: Any
    inodes: set[int] | None = field(default_factory=set)
    notices: list[str] = field(default_factory=list)
    servers: list[socket.socket] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.unix = UnixTraffic(self.pod.loop, self.pod.session, inodes=lambda: self.inodes, notice=self.notices.append)
        self.pod.answers[ConnectUnix] = self._serve

    def _serve(self, request: ConnectUnix, reply: Callable[[Message], None]) -> None:
        inside, server = socket.socketpair(socket.AF_UNIX, request.kind)
        server.settimeout(20)
        self.servers.append(server)
        reply(UnixConnected(b"/real" + request.path))
        kind = UnixBridge if request.kind == socket.SOCK_STREAM else Packets
        self.pod.agent.join(request.stream, kind(self.pod.agent, request.stream, inside, None, lambda: None))

    def opens(self, kind: int) -> Message:
        """The reply to an open."""
        replies: list[Message] = []
        self.unix.open(OpenUnix(b"/x", int(kind), 5), replies.append)
        self.pod.until(lambda: replies)
        return replies[0]

    def joins(self, kind: int) -> tuple[int, socket.socket]:
        """Stream and program's socket of a connection."""
        opened = self.opens(kind)
        assert isinstance(opened, UnixOpened)
        if kind != socket.SOCK_DGRAM:
            program, near = socket.socketpair(socket.AF_UNIX, kind)
        else:
            program, near = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
            near.bind(b"\0mirrord-trace-test-" + os.urandom(8).hex().encode())
            program.connect(near.getsockname())
        assert isinstance(self.inodes, set)
        inode = os.fstat(program.fileno()).st_ino
        self.inodes.add(inode)
        self.unix.join(JoinUnix(opened.stream, inode), near.detach())
        return opened.stream, program

    def arrives(self, sock: socket.socket) -> bytes:
        """The next that comes."""
        sock.setblocking(False)
        got: list[bytes] = []

        def look() -> bool:
            try:
                got.append(sock.recv(1000))
            except BlockingIOError:
                return False
            return True

        self.pod.until(look)
        return got[0]


@pytest.fixture
def traffic(pod: Any) -> Iterator[Traffic]:
    """One."""
    traffic = Traffic(pod)
    yield traffic
    traffic.unix.close()
    for server in traffic.servers:
        server.close()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_opened_and_joined(traffic: Traffic, kind: socket.SocketKind) -> None:
    _, program = traffic.joins(kind)
    with program:
        program.send(b"question")
        assert traffic.arrives(traffic.servers[0]) == b"question"
    (asked,) = traffic.pod.asked
    assert isinstance(asked, ConnectUnix)
    assert (asked.path, asked.kind, asked.patience_ms) == (b"/x", kind, 5)


def test_the_peers_name_and_the_pods_errno(traffic: Traffic) -> None:
    opened = traffic.opens(socket.SOCK_STREAM)
    assert isinstance(opened, UnixOpened)
    assert opened.peer == b"/real/x"
    traffic.pod.answers[ConnectUnix] = lambda message, reply: reply(Failed(ENOENT))
    assert traffic.opens(socket.SOCK_STREAM) == Failed(ENOENT)


def test_what_nobody_joins_is_closed_in_the_pod(traffic: Traffic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix, "JOIN_WITHIN_S", 0.01)
    traffic.opens(socket.SOCK_STREAM)
    assert traffic.arrives(traffic.servers[0]) == b""


def test_what_nobody_wants_is_closed_in_the_pod(traffic: Traffic) -> None:
    opened = traffic.opens(socket.SOCK_STREAM)
    assert isinstance(opened, UnixOpened)
    traffic.unix.join(JoinUnix(opened.stream, 1), -1)
    assert traffic.arrives(traffic.servers[0]) == b""
    one, other = socket.socketpair()
    with one:
        traffic.unix.join(JoinUnix(opened.stream, 1), other.detach())
        assert one.recv(1) == b""


def test_datagrams_of_a_program_that_has_closed_arrive_and_then_it_ends(traffic: Traffic) -> None:
    _, program = traffic.joins(socket.SOCK_DGRAM)
    traffic.unix.sweep()
    program.send(b"last words")
    program.close()
    traffic.inodes = None
    traffic.unix.sweep()  # nothing is known: nothing ends
    traffic.inodes = set()
    traffic.unix.sweep()
    assert traffic.arrives(traffic.servers[0]) == b"last words"
    traffic.pod.until(lambda: not traffic.unix._datagrams)


def test_what_was_sent_before_the_end_of_the_program_arrives(traffic: Traffic) -> None:
    _, program = traffic.joins(socket.SOCK_DGRAM)
    program.send(b"last words")
    program.close()
    traffic.unix.close()
    assert traffic.arrives(traffic.servers[0]) == b"last words"


def test_a_new_connect_ends_the_former_stand_in(traffic: Traffic) -> None:
    stream, program = traffic.joins(socket.SOCK_DGRAM)
    with program:
        traffic.unix.join(JoinUnix(stream, 1), -1)
        traffic.pod.until(lambda: not traffic.unix._datagrams)
        with pytest.raises(ConnectionRefusedError):
            program.send(b"x")


def test_descriptors_are_told_once(traffic: Traffic) -> None:
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        _, program = traffic.joins(kind)
        with program, open(os.devnull, "rb") as null:
            socket.send_fds(program, [b"x"], [null.fileno()])
            assert traffic.arrives(program) == b""
    (line,) = traffic.notices
    assert "SCM_RIGHTS" in line


def test_inodes_of_this_machine() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        inode = os.fstat(own.fileno()).st_ino
        assert inode in (unix_inodes() or ())
    assert inode not in (unix_inodes() or ())
