"""Urgent data through two bridges, with the kernel's sockets at both ends; and streams that stall."""

from __future__ import annotations

import fcntl
import select
import socket
import struct
from typing import Any, Callable, Tuple

import pytest
from mirrord_trace.agent.wire.messages import Urgent

Pair = Callable[[], Tuple[socket.socket, socket.socket]]
_SIOCATMARK = 0x8905


class Joined:
    """A program's socket, through client and agent, to a server's."""

    def __init__(self, world: Any, tcp_pair: Pair) -> None:
        self.world = world
        self.near, near_bridge = tcp_pair()
        self.far, far_bridge = tcp_pair()
        self.stream = world.stream()
        world.client.session.bridge(self.stream, near_bridge.dup())
        world.agent.session.bridge(self.stream, far_bridge.dup())
        near_bridge.close()
        far_bridge.close()

    def until_urgent(self, sock: socket.socket) -> None:
        poll = select.poll()
        poll.register(sock, select.POLLPRI)
        self.world.until(lambda: bool(poll.poll(0)))

    def until_readable(self, sock: socket.socket) -> None:
        self.world.until(lambda: bool(select.select([sock], [], [], 0)[0]))


@pytest.fixture
def joined(world: Any, tcp_pair: Pair) -> Joined:
    return Joined(world, tcp_pair)


def at_mark(sock: socket.socket) -> bool:
    return bool(struct.unpack("=i", fcntl.ioctl(sock.fileno(), _SIOCATMARK, bytes(4)))[0])


def read_all(joined: Joined, sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        joined.until_readable(sock)
        data += sock.recv(size - len(data))
    return data


@pytest.mark.parametrize("far_to_near", [False, True])
def test_the_mark_stays_where_it_was_set(joined: Joined, far_to_near: bool) -> None:
    source, sink = (joined.far, joined.near) if far_to_near else (joined.near, joined.far)
    source.sendall(b"before")
    source.send(b"U", socket.MSG_OOB)
    source.sendall(b"after")
    joined.until_urgent(sink)
    assert sink.recv(1, socket.MSG_OOB) == b"U"
    assert read_all(joined, sink, 6) == b"before"
    assert at_mark(sink)
    assert read_all(joined, sink, 5) == b"after"


def test_urgent_data_in_line(joined: Joined) -> None:
    joined.far.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    joined.near.sendall(b"ab")
    joined.near.send(b"U", socket.MSG_OOB)
    joined.near.sendall(b"cd")
    joined.until_urgent(joined.far)
    assert read_all(joined, joined.far, 2) == b"ab"
    assert at_mark(joined.far)
    assert read_all(joined, joined.far, 3) == b"Ucd"


def test_urgent_data_first_and_several_times(joined: Joined) -> None:
    for number in range(5):
        byte = b"%d" % number
        joined.near.send(byte, socket.MSG_OOB)
        joined.until_urgent(joined.far)
        assert at_mark(joined.far)
        assert joined.far.recv(1, socket.MSG_OOB) == byte
        joined.near.sendall(b"x" * number + b"!")
        assert read_all(joined, joined.far, number + 1) == b"x" * number + b"!"


def test_behind_bulk_that_has_to_wait(joined: Joined) -> None:
    """A mark behind more than the receiver's buffers take comes where it belongs, and the end behind it."""
    bulk = bytes(range(256)) * 8192
    joined.near.setblocking(False)
    view, sent = memoryview(bulk), 0

    def push() -> bool:
        nonlocal sent
        try:
            sent += joined.near.send(view[sent:])
        except BlockingIOError:
            joined.far.setblocking(False)
        return sent == len(bulk) or not select.select([], [joined.near], [], 0)[1]

    joined.world.until(push)
    got = bytearray()

    def move() -> bool:
        nonlocal sent
        if sent < len(bulk) and select.select([], [joined.near], [], 0)[1]:
            sent += joined.near.send(view[sent:])
            if sent == len(bulk):
                joined.near.send(b"U", socket.MSG_OOB)
                joined.near.shutdown(socket.SHUT_WR)
        if select.select([joined.far], [], [], 0)[0] and not at_mark(joined.far):
            got.extend(joined.far.recv(65536))
        return len(got) == len(bulk) and at_mark(joined.far)

    if sent == len(bulk):
        joined.near.send(b"U", socket.MSG_OOB)
        joined.near.shutdown(socket.SHUT_WR)
    joined.world.until(move)
    assert bytes(got) == bulk
    assert joined.far.recv(1, socket.MSG_OOB) == b"U"
    joined.until_readable(joined.far)
    assert joined.far.recv(1) == b""


def test_a_notice_that_is_early_or_late(world: Any, tcp_pair: Pair) -> None:
    far, far_bridge = tcp_pair()
    stream = world.stream()
    world.client.session.notify(Urgent(stream, 3, ord("U")))
    world.client.session.connection.send_data(stream, b"abcdef")
    world.round_trip()
    world.agent.session.bridge(stream, far_bridge.dup())
    far_bridge.close()
    world.until(lambda: bool(select.select([far], [], [], 0)[0]))
    assert far.recv(10) == b"abc"
    assert at_mark(far)
    world.until(lambda: bool(select.select([far], [], [], 0)[0]))
    assert far.recv(10) == b"def"
    world.client.session.notify(Urgent(stream, 2, ord("V")))  # past that place: at once
    world.until(lambda: at_mark(far))
    assert far.recv(1, socket.MSG_OOB) == b"V"
    world.client.session.notify(Urgent(stream + 1000, 0, 1))  # no such stream
    world.round_trip()


def test_a_stalled_stream_slows_no_other(world: Any, tcp_pair: Pair) -> None:
    """Nobody reads at the end of one stream, whose sender never stops; another one moves 8 MiB meanwhile."""
    stalled, moving = Joined(world, tcp_pair), Joined(world, tcp_pair)
    stalled.near.setblocking(False)
    moving.near.setblocking(False)
    block, wanted, counts = bytes(256 * 1024), 8 << 20, {"stalled": 0, "sent": 0, "got": 0}

    def is_stuck() -> bool:
        if not select.select([], [stalled.near], [], 0)[1]:
            return True
        counts["stalled"] += stalled.near.send(block)
        return False

    def move() -> bool:
        is_stuck()
        if counts["sent"] < wanted and select.select([], [moving.near], [], 0)[1]:
            counts["sent"] += moving.near.send(block)
        if select.select([moving.far], [], [], 0)[0]:
            counts["got"] += len(moving.far.recv(1 << 20))
        return counts["got"] == counts["sent"] >= wanted

    world.until(move)
    world.until(is_stuck)
    # What the kernel's buffers and one window hold, and not more.
    assert 0 < counts["stalled"] < 32 << 20
