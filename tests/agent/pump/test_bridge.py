"""Sockets joined by two sessions must behave like one connection."""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
from errno import ECONNRESET, ETIMEDOUT
from typing import Any, Callable, List, Tuple

import pytest

PairMaker = Callable[[], Tuple[socket.socket, socket.socket]]
ABORT = b"\1\0\0\0\0\0\0\0"


class Joined:
    """client socket <-> session <-> session <-> pod socket, and how each bridge ended."""

    def __init__(self, world: Any, tcp_pair: PairMaker, narrow: bool = False) -> None:
        self.world = world
        self.client, inner = tcp_pair()
        self.pod, outer = tcp_pair()
        if narrow:  # the pod's sockets take little, so that bytes wait in front of them
            outer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 131_072)
            self.pod.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 131_072)
        self.stream = world.stream()
        self.client_ends: List[int] = []
        self.pod_ends: List[int] = []
        world.client.session.bridge(self.stream, inner, self.client_ends.append)
        world.agent.session.bridge(self.stream, outer, self.pod_ends.append)
        self.client.setblocking(False)
        self.pod.setblocking(False)

    def receive(self, sock: socket.socket, size: int) -> bytes:
        """Exactly `size` bytes, or fewer at the end."""
        got = bytearray()

        def more() -> bool:
            while len(got) < size:
                try:
                    data = sock.recv(min(65536, size - len(got)))
                except BlockingIOError:
                    return False
                if not data:
                    return True
                got.extend(data)
            return True

        self.world.until(more)
        return bytes(got)

    def ended(self) -> bool:
        """Both bridges are gone."""
        return bool(self.client_ends) and bool(self.pod_ends)


@pytest.fixture
def joined(world: Any, tcp_pair: PairMaker) -> Joined:
    return Joined(world, tcp_pair)


class Sender:
    """Pushes bytes into a non-blocking socket on the world's loop, then shuts the direction down."""

    def __init__(self, world: Any, sock: socket.socket, content: bytes) -> None:
        self.world = world
        self.sock = sock
        self.left = memoryview(content)
        world.loop.watch(sock.fileno(), 2, self.ready)

    def ready(self, events: int) -> None:
        try:
            self.left = self.left[self.sock.send(self.left[:100_000]) :]
        except BlockingIOError:
            return
        if not self.left:
            self.world.loop.unwatch(self.sock.fileno())
            self.sock.shutdown(socket.SHUT_WR)


def test_bytes_both_ways(joined: Joined) -> None:
    joined.client.send(b"question")
    assert joined.receive(joined.pod, 8) == b"question"
    joined.pod.send(b"answer")
    assert joined.receive(joined.client, 6) == b"answer"


def test_half_close_then_the_other_half(joined: Joined) -> None:
    joined.client.send(b"question")
    joined.client.shutdown(socket.SHUT_WR)
    assert joined.receive(joined.pod, 100) == b"question"
    assert not joined.ended()
    joined.pod.send(b"answer")
    joined.pod.close()
    assert joined.receive(joined.client, 100) == b"answer"
    joined.world.until(joined.ended)
    assert joined.client_ends == joined.pod_ends == [0]
    assert joined.world.client.session.connection.open_streams == 0
    assert joined.world.agent.session.connection.open_streams == 0


@pytest.mark.parametrize("from_client", [True, False])
def test_reset_comes_through_behind_the_data(joined: Joined, from_client: bool) -> None:
    sock, other = (joined.client, joined.pod) if from_client else (joined.pod, joined.client)
    sock.send(b"last words")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    sock.close()
    with pytest.raises(ConnectionResetError):
        joined.receive(other, 100)
    joined.world.until(joined.ended)
    assert joined.client_ends == joined.pod_ends == [ECONNRESET]


def test_close_with_unread_bytes_is_a_reset(joined: Joined) -> None:
    joined.client.send(b"unread")
    joined.world.until(lambda: bool(select.select([joined.pod], [], [], 0)[0]))
    joined.pod.close()
    with pytest.raises(ConnectionResetError):
        joined.receive(joined.client, 1)


def test_writing_to_a_closed_peer_is_a_reset(joined: Joined) -> None:
    joined.pod.close()
    assert joined.receive(joined.client, 1) == b""

    def broken() -> bool:
        try:
            joined.client.send(b"x")
        except OSError:
            return True
        return False

    joined.world.until(broken)
    joined.world.until(joined.ended)
    assert joined.client_ends != [0]


def test_session_reset_aborts_the_socket(joined: Joined) -> None:
    joined.world.agent.session.reset(joined.stream, ETIMEDOUT)
    assert joined.pod_ends == [ETIMEDOUT]
    with pytest.raises(ConnectionResetError):
        joined.receive(joined.client, 1)
    assert joined.client_ends == [ETIMEDOUT]
    with pytest.raises(ConnectionResetError):
        joined.pod.recv(1)


def test_bulk_both_ways_at_once(joined: Joined) -> None:
    up, down = os.urandom(6_000_000), os.urandom(5_000_000)
    Sender(joined.world, joined.client, up)
    Sender(joined.world, joined.pod, down)
    got_up = bytearray()
    got_down = bytearray()

    def all_there() -> bool:
        for sock, got in ((joined.pod, got_up), (joined.client, got_down)):
            with contextlib.suppress(BlockingIOError):
                got.extend(sock.recv(200_000))
        return joined.ended()

    joined.world.until(all_there, within_s=30.0)
    for sock, got in ((joined.pod, got_up), (joined.client, got_down)):
        while data := sock.recv(1_000_000):
            got.extend(data)
    assert got_up == up
    assert got_down == down
    assert joined.client_ends == joined.pod_ends == [0]


def test_a_reader_that_stalls_stops_its_own_stream_only(world: Any, tcp_pair: PairMaker) -> None:
    stalled, lively = Joined(world, tcp_pair), Joined(world, tcp_pair)
    Sender(world, stalled.client, bytes(30_000_000))
    connection = world.client.session.connection
    world.until(lambda: connection.send_window(stalled.stream) == 0)
    for _ in range(5):
        lively.client.send(b"ping")
        assert lively.receive(lively.pod, 4) == b"ping"
        lively.pod.send(b"pong")
        assert lively.receive(lively.client, 4) == b"pong"
    bridge = world.agent.session._ends[stalled.stream]
    assert sum(map(len, bridge._pending)) <= 1 << 20
    world.loop.unwatch(stalled.client.fileno())


def test_small_pieces_that_must_wait_are_joined(world: Any, tcp_pair: PairMaker) -> None:
    pod, outer = tcp_pair()
    outer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    pod.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    stream = world.stream()
    world.agent.session.bridge(stream, outer)
    connection = world.client.session.connection
    connection.send_data(stream, bytes(connection.send_window(stream) - 10_000))
    for _ in range(10_000):
        connection.send_data(stream, b"x")
    world.round_trip()
    world.until(lambda: connection.send_window(stream) == 0)
    assert len(world.agent.session._ends[stream]._pending) <= (1 << 20) // 16_384 + 2


def test_a_stalled_socket_that_is_reset_is_noticed_without_spinning(world: Any, tcp_pair: PairMaker) -> None:
    joined = Joined(world, tcp_pair)
    Sender(world, joined.client, bytes(20_000_000))
    world.until(lambda: world.client.session.connection.send_window(joined.stream) == 0)
    world.loop.unwatch(joined.client.fileno())
    joined.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
    joined.client.close()
    world.until(joined.ended)
    assert joined.client_ends == [ECONNRESET]


def test_a_hang_up_without_credit_does_not_spin(world: Any, tcp_pair: PairMaker) -> None:
    joined = Joined(world, tcp_pair, narrow=True)
    content = bytes(3_000_000)
    sender = Sender(world, joined.client, content)
    joined.pod.shutdown(socket.SHUT_WR)  # the client's inner socket gets FIN both ways while credit is out
    world.until(lambda: world.client.session.connection.send_window(joined.stream) == 0 and not sender.left)
    bridge = world.client.session._ends[joined.stream]
    calls: List[int] = []
    ready = bridge._ready

    def counted(events: int) -> None:
        calls.append(events)
        ready(events)

    bridge._ready = counted
    bridge._update()
    passed: List[int] = []
    world.loop.call_later(0.05, lambda: passed.append(1))
    world.until(lambda: bool(passed))
    assert len(calls) < 20
    assert len(joined.receive(joined.pod, len(content) + 1)) == len(content)
    world.until(joined.ended)
    assert joined.client_ends == joined.pod_ends == [0]


@pytest.mark.parametrize("seed", range(4))
def test_cuts_of_the_transport_lose_and_double_nothing(world: Any, tcp_pair: PairMaker, seed: int) -> None:
    randomness = random.Random(seed)
    joined = Joined(world, tcp_pair)
    up, down = randomness.randbytes(3_000_000), randomness.randbytes(2_000_000)
    Sender(world, joined.client, up)
    Sender(world, joined.pod, down)
    got = {joined.pod: bytearray(), joined.client: bytearray()}
    cuts = [0]

    def step() -> bool:
        for sock, content in got.items():
            with contextlib.suppress(BlockingIOError):
                content.extend(sock.recv(randomness.randrange(1, 300_000)))
        if cuts[0] < 25 and randomness.random() < 0.5:
            cuts[0] += 1
            world.join()
        return len(got[joined.pod]) == len(up) and len(got[joined.client]) == len(down)

    world.until(step, within_s=30.0)
    assert got[joined.pod] == up
    assert got[joined.client] == down
    world.until(joined.ended)
    assert joined.client_ends == joined.pod_ends == [0]
    assert cuts[0] > 5


def test_what_an_ended_program_has_said_is_still_to_be_delivered(world: Any, tcp_pair: PairMaker) -> None:
    narrow = Joined(world, tcp_pair, narrow=True)
    session = world.agent.session
    assert not session.delivering
    # Within the window, and more than the narrow sockets take.
    narrow.client.setblocking(True)
    narrow.client.sendall(bytes(900_000))
    narrow.client.shutdown(socket.SHUT_WR)
    world.until(lambda: session.delivering)
    assert len(narrow.receive(narrow.pod, 1_000_000)) == 900_000
    assert not session.delivering
