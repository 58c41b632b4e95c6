"""The line of the file benchmark gives what it got, in order and whole; not before its time, by a clock of the test's."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.delay import ARRIVED_LIMIT_BYTES, Line, delayed


def taken(line: Line, count: int = 1 << 30) -> bytes:
    """Up to `count` bytes of what has arrived, as a socket would take it."""
    content = b"".join(line.arrived())[:count]
    line.took(len(content))
    return content


def test_bytes_come_out_when_their_time_has_come() -> None:
    line = Line(5.0)
    line.put(b"one", 100.0)
    line.put(b"two", 101.0)
    assert line.next_at_s == 105.0
    line.advance(104.9)
    assert line.arrived() == []
    line.advance(105.0)
    assert taken(line) == b"one"
    assert (line.next_at_s, line.is_empty) == (106.0, False)
    line.advance(200.0)
    assert taken(line) == b"two"
    assert (line.next_at_s, line.is_empty) == (None, True)


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=20), st.lists(st.integers(1, 30), min_size=1, max_size=100))
def test_nothing_is_lost_or_out_of_order_however_little_is_taken(pieces: list[bytes], counts: list[int]) -> None:
    line = Line(1.0)
    for number, piece in enumerate(pieces):
        line.put(piece, number)
    found = b""
    for number, count in enumerate(counts):
        line.advance(number)
        found += taken(line, count)
        assert len(found) <= sum(map(len, pieces[:number]))
    line.advance(1000.0)
    while piece := taken(line):
        found += piece
    assert found == b"".join(pieces)
    assert line.is_empty


def test_what_is_on_its_way_has_no_limit_but_what_is_not_taken_has() -> None:
    line = Line(1.0)
    for _ in range(ARRIVED_LIMIT_BYTES // 1024 * 2):
        line.put(bytes(1024), 0.0)
    assert line.takes_more
    line.advance(1.0)
    assert not line.takes_more
    taken(line)
    while piece := taken(line):
        assert piece
    assert line.takes_more


def test_two_sockets_far_apart() -> None:
    contents = os.urandom(3_000_001), os.urandom(2_000_003)
    near, (far, other_end) = None, socket.socketpair()
    near, process = delayed(other_end, 0.005)

    def send(sock: socket.socket, content: bytes) -> None:
        sock.sendall(content)
        sock.shutdown(socket.SHUT_WR)

    with near, far:
        senders = [threading.Thread(target=send, args=pair) for pair in zip((near, far), contents, strict=True)]
        for sender in senders:
            sender.start()
        found = [b"", b""]
        for index, sock in enumerate((far, near)):
            while piece := sock.recv(1 << 20):
                found[index] += piece
        for sender in senders:
            sender.join()
    assert tuple(found) == contents
    assert process.wait(10) == 0


def test_the_line_ends_with_its_ends() -> None:
    far, other_end = socket.socketpair()
    near, process = delayed(other_end, 0.005)
    near.sendall(b"never read")
    near.close()
    far.close()
    with contextlib.suppress(OSError):
        far.recv(1)
    assert process.wait(10) == 0
