"""Seqpacket and datagram sockets over a session's stream: whole messages, waiting senders, ends."""

from __future__ import annotations

import contextlib
import os
import socket
from errno import EOPNOTSUPP, EPROTO
from typing import Any, List, Optional, Tuple

import pytest
from mirrord_trace.agent.pump.packets import MAX_MESSAGE_BYTES, PART_BYTES, Packets

_LARGE = os.urandom(200_000)


class _Joined:
    # A program's socket, joined on both sides, and the server's in the pod; `near` and `far` are the ends between.
    def __init__(
        self, world: Any, program: Tuple[socket.socket, socket.socket], server: Tuple[socket.socket, socket.socket]
    ) -> None:
        self.world = world
        self.passed: List[str] = []
        self.ends: List[Tuple[str, int]] = []
        self.stream = world.stream()
        self.program, near = program
        self.server, far = server
        self.near = self._join(world.client, near, "client")
        self.far = self._join(world.agent, far, "agent")
        self.program.setblocking(False)
        self.server.setblocking(False)

    def _join(self, side: Any, sock: socket.socket, name: str) -> Packets:
        packets = Packets(
            side.session,
            self.stream,
            sock,
            lambda errno: self.ends.append((name, errno)),
            lambda: self.passed.append(name),
        )
        side.session.join(self.stream, packets)
        return packets

    def receives(self, sock: socket.socket, size: int = MAX_MESSAGE_BYTES) -> bytes:
        received: List[bytes] = []

        def look() -> bool:
            with contextlib.suppress(BlockingIOError):
                if not received:
                    received.append(sock.recv(size))
            return bool(received)

        self.world.until(look)
        return received[0]

    def over(self) -> List[Tuple[str, int]]:
        self.world.until(lambda: len(self.ends) == 2)
        return sorted(self.ends)

    def close(self) -> None:
        self.program.close()
        self.server.close()


def _connected(world: Any) -> _Joined:
    return _Joined(
        world,
        *(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)),  # type: ignore[arg-type]
    )


def _name(sock: socket.socket) -> bytes:
    sock.bind(b"\0mirrord-trace-test-" + os.urandom(8).hex().encode())
    name = sock.getsockname()
    assert isinstance(name, bytes)
    return name


def _datagrams(world: Any, *, named: bool = True) -> _Joined:
    # As relay and agent make them: a stand-in that is not connected here, a connected socket there.
    stand_in, program, server, far = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(4))
    program.connect(_name(stand_in))
    if named:
        _name(program)
    far.connect(_name(server))
    server.connect(_name(far))
    return _Joined(world, (program, stand_in), (server, far))


@pytest.mark.parametrize("message", [b"one", b"", _LARGE], ids=["short", "empty", "large"])
def test_messages_keep_their_borders(world: Any, message: bytes) -> None:
    joined = _connected(world)
    joined.program.send(message)
    joined.program.send(b"next")
    assert joined.receives(joined.server) == message
    assert joined.receives(joined.server) == b"next"
    joined.server.send(message)
    assert joined.receives(joined.program) == message
    joined.close()


def test_a_message_of_several_frames(world: Any) -> None:
    joined = _connected(world)
    joined.program.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE_BYTES)
    size = PART_BYTES * 2
    if joined.program.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) < 2 * size:
        size = PART_BYTES + 1
    message = os.urandom(size)
    joined.program.send(message)
    assert joined.receives(joined.server) == message
    joined.close()


def test_the_end_is_no_empty_message(world: Any) -> None:
    joined = _connected(world)
    joined.program.send(b"")
    joined.program.send(b"last")
    joined.program.shutdown(socket.SHUT_WR)
    assert [joined.receives(joined.server) for _ in range(3)] == [b"", b"last", b""]
    assert not joined.ends
    joined.server.send(b"still")
    assert joined.receives(joined.program) == b"still"
    joined.server.close()
    assert joined.receives(joined.program) == b""
    assert joined.over() == [("agent", 0), ("client", 0)]
    joined.close()


@pytest.mark.parametrize("make", [_connected, _datagrams], ids=["seqpacket", "datagram"])
def test_who_sends_too_fast_waits_and_nothing_is_lost(world: Any, make: Any) -> None:
    joined: _Joined = make(world)
    sent: List[int] = []
    full: List[Optional[bool]] = []

    def send_on() -> bool:
        if len(full) >= 50:
            return True
        try:
            for _ in range(100):
                joined.program.send(b"%d " % len(sent) + bytes(9000))
                sent.append(1)
        except BlockingIOError:
            full.append(True)
        return len(full) >= 50

    world.until(send_on)
    assert len(sent) < 2000
    for number in range(len(sent)):
        assert joined.receives(joined.server).startswith(b"%d " % number)
    joined.close()


@pytest.mark.parametrize("make", [_connected, _datagrams], ids=["seqpacket", "datagram"])
def test_passed_descriptors_break_it(world: Any, make: Any) -> None:
    joined: _Joined = make(world)
    world.round_trip()
    before = len(os.listdir("/proc/self/fd"))
    with open(os.devnull, "rb") as null:
        socket.send_fds(joined.program, [b"x"], [null.fileno()])
    assert joined.over() == [("agent", EOPNOTSUPP), ("client", EOPNOTSUPP)]
    assert joined.passed == ["client"]
    assert len(os.listdir("/proc/self/fd")) == before - 2
    joined.close()


def test_a_named_program_is_answered(world: Any) -> None:
    joined = _datagrams(world)
    joined.program.send(b"question")
    assert joined.receives(joined.server) == b"question"
    joined.server.send(b"answer")
    assert joined.receives(joined.program) == b"answer"
    joined.close()


def test_an_answer_to_a_program_without_a_name_is_dropped(world: Any) -> None:
    joined = _datagrams(world, named=False)
    joined.program.send(b"question")
    assert joined.receives(joined.server) == b"question"
    joined.server.send(b"answer")
    joined.program.send(b"again")
    assert joined.receives(joined.server) == b"again"
    with pytest.raises(BlockingIOError):
        joined.program.recv(10)
    assert not joined.ends
    joined.close()


def test_a_server_that_has_gone_refuses(world: Any) -> None:
    joined = _datagrams(world)
    joined.server.close()
    joined.program.send(b"to nobody")
    assert joined.over()[0][1] != 0
    with pytest.raises(ConnectionRefusedError):
        joined.program.send(b"again")
    joined.close()


def test_what_a_closed_program_has_sent_still_arrives(world: Any) -> None:
    joined = _datagrams(world)
    for number in range(5):
        joined.program.send(b"%d" % number)
    joined.program.close()
    assert joined.near.settled()
    joined.near.end_after_reading()
    assert [joined.receives(joined.server) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    assert joined.over() == [("agent", 0), ("client", 0)]
    joined.close()


def test_a_message_beyond_the_bound_breaks_the_stream(world: Any) -> None:
    joined = _connected(world)
    part = b"\1" + bytes(PART_BYTES)
    for _ in range(MAX_MESSAGE_BYTES // PART_BYTES + 2):
        world.client.session.connection.send_data(joined.stream, part)
    world.client.session.flush_soon()
    assert ("agent", EPROTO) in joined.over()
    joined.close()
