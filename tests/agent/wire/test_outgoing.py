"""What goes out next."""

from __future__ import annotations

from typing import List, Tuple

import pytest
from mirrord_trace.agent.wire import frames
from mirrord_trace.agent.wire.errors import RemoteProtocolError
from mirrord_trace.agent.wire.outgoing import FRAME_OVERHEAD_BYTES, Outgoing
from mirrord_trace.agent.wire.streams import Stream


def parse(data: bytes) -> List[Tuple[int, int, int, int]]:
    out = []
    position = 0
    while position < len(data):
        word, stream, sequence = frames.HEADER.unpack_from(data, position)
        out.append((word >> 24, stream, sequence, word & 0xFFFFFF))
        position += frames.HEADER_BYTES + (word & 0xFFFFFF)
    return out


def taken(outgoing: Outgoing, max_bytes: int = 1 << 20) -> List[Tuple[int, int, int, int]]:
    return parse(b"".join(outgoing.take(max_bytes)))


def stream_with(outgoing: Outgoing, number: int, frames_queued: int, size: int) -> Stream:
    stream = Stream(number, 1 << 20)
    for _ in range(frames_queued):
        outgoing.stream_data(stream, bytes(size))
    return stream


def test_numbers_are_given_at_the_way_out() -> None:
    outgoing = Outgoing(1 << 20, 1000)
    stream_with(outgoing, 1, 1, 10)
    outgoing.control(frames.NOTICE, 0, b"n")
    assert taken(outgoing) == [(frames.NOTICE, 0, 1, 1), (frames.DATA, 1, 2, 10)]
    assert outgoing.sent == 2


def test_neither_control_nor_data_starves() -> None:
    outgoing = Outgoing(1 << 20, 1000)
    stream_with(outgoing, 1, 50, 100)
    for _ in range(50):
        outgoing.control(frames.NOTICE, 0, bytes(100))
    first = [kind for kind, *_ in taken(outgoing, 1200)]
    assert first[0] == frames.NOTICE
    assert 4 <= first.count(frames.DATA) <= 7
    assert 4 <= first.count(frames.NOTICE) <= 7


def test_backlogs_count_what_waits() -> None:
    outgoing = Outgoing(1 << 20, 1000)
    stream = stream_with(outgoing, 1, 2, 1500)
    outgoing.control(frames.NOTICE, 0, bytes(2500))
    assert (outgoing.backlog, outgoing.control_backlog) == (3000, 2500)
    outgoing.drop(stream)
    assert (outgoing.backlog, outgoing.control_backlog) == (0, 2500)
    assert [length for *_, length in taken(outgoing)] == [1000, 1000, 500]
    assert (outgoing.backlog, outgoing.control_backlog) == (0, 0)


def test_a_stream_speaks_only_after_its_open_went_out() -> None:
    outgoing = Outgoing(1 << 20, 1000)
    outgoing.control(frames.NOTICE, 0, bytes(1000))
    stream = Stream(1, 100)
    outgoing.open(stream)
    outgoing.stream_data(stream, b"x")
    outgoing.stream_end(stream, frames.EOF)
    assert [kind for kind, *_ in taken(outgoing, 100)] == [frames.NOTICE]
    assert [kind for kind, *_ in taken(outgoing, 1)] == [frames.OPEN]
    assert [kind for kind, *_ in taken(outgoing)] == [frames.DATA, frames.EOF]


def test_data_stops_at_the_limit_and_control_does_not() -> None:
    outgoing = Outgoing(3 * (100 + FRAME_OVERHEAD_BYTES), 1000)
    stream_with(outgoing, 1, 5, 100)
    assert len(taken(outgoing)) == 3
    outgoing.control(frames.NOTICE, 0, b"n")
    assert len(taken(outgoing)) == 1
    outgoing.acknowledge(4)
    assert len(taken(outgoing)) == 2


def test_replay_comes_first_and_unchanged() -> None:
    outgoing = Outgoing(1 << 20, 10000)
    outgoing.control(frames.NOTICE, 0, b"a")
    stream_with(outgoing, 1, 1, 5000)
    before = b"".join(outgoing.take(1 << 20))
    outgoing.unsequenced(frames.PONG, 1)
    outgoing.control(frames.NOTICE, 0, b"b")
    outgoing.restart(0)
    again = b"".join(outgoing.take(1 << 20))
    assert again.startswith(before)
    assert parse(again)[len(parse(before)) :] == [(frames.NOTICE, 0, 3, 1)]
    outgoing.acknowledge(3)
    outgoing.restart(3)
    assert outgoing.take(1 << 20) == []


def test_impossible_acknowledgements() -> None:
    outgoing = Outgoing(1 << 20, 1000)
    outgoing.control(frames.NOTICE, 0, b"a")
    outgoing.take(100)
    outgoing.acknowledge(1)
    for count in (0, 2):
        with pytest.raises(RemoteProtocolError):
            outgoing.acknowledge(count)
        with pytest.raises(RemoteProtocolError):
            outgoing.restart(count)


def test_idle_means_that_nothing_would_be_taken() -> None:
    outgoing = Outgoing(1 << 20, 1000)
    assert outgoing.idle
    for fill in (
        lambda: stream_with(outgoing, 1, 1, 10),
        lambda: outgoing.control(frames.NOTICE, 0, b"n"),
        lambda: outgoing.unsequenced(frames.ACK, 0),
        lambda: outgoing.restart(0),  # replays all of it
    ):
        fill()
        assert not outgoing.idle
        assert taken(outgoing)
        assert outgoing.idle
