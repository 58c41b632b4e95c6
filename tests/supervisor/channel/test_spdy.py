from __future__ import annotations

import struct
import zlib

import pytest
from fakespdy import GOAWAY, PING, RST_STREAM, SYN_REPLY, SYN_STREAM, control, data
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.channel import spdy
from mirrord_trace.supervisor.channel.spdy import Answer, Event, GoneAway, Spdy, SpdyBroken, StreamData, StreamEnd, StreamReset

WINDOW_UPDATE, SETTINGS, HEADERS = 9, 4, 8


def plain(events: list[Event]) -> list[object]:
    """Views as bytes, and neighbouring pieces of one stream as one."""
    found: list[object] = []
    for event in events:
        if isinstance(event, StreamData):
            last = found[-1] if found else None
            if isinstance(last, tuple) and last[0] == "data" and last[1] == event.stream:
                found[-1] = ("data", event.stream, last[2] + bytes(event.data))
            else:
                found.append(("data", event.stream, bytes(event.data)))
        else:
            found.append(event)
    return found


def test_the_dictionary_is_the_standards() -> None:
    assert (len(spdy.DICTIONARY), zlib.adler32(spdy.DICTIONARY)) == (1423, 0xE3C6A7C2)


def test_streams_are_opened_with_one_compressor() -> None:
    core = Spdy()
    inflate = zlib.decompressobj(zdict=spdy.DICTIONARY)
    for number, headers in ((1, {"port": "80", "streamtype": "error"}), (3, {"port": "80"})):
        stream, frame = core.open_stream(headers)
        assert stream == number
        word, flags_and_length, named, parent = struct.unpack_from("!IIII", frame)
        assert (word, flags_and_length, named, parent) == (0x80030001, len(frame) - 8, number, 0)
        block = inflate.decompress(frame[18:])
        expected = struct.pack("!I", len(headers))
        for name, value in headers.items():
            expected += struct.pack("!I", len(name)) + name.encode() + struct.pack("!I", len(value)) + value.encode()
        assert block == expected
    assert core.open_stream({}, ended=True)[1][4] == 1


def test_what_we_send() -> None:
    assert spdy.data_header(3, 0x010203) == bytes([0, 0, 0, 3, 0, 1, 2, 3])
    assert spdy.data_header(3, 0, ended=True) == bytes([0, 0, 0, 3, 1, 0, 0, 0])


def test_what_a_server_says() -> None:
    stream = struct.pack("!I", 3)
    said = b"".join(
        (
            control(SYN_REPLY, stream + b"headers"),
            control(SETTINGS, bytes(12)),
            data(3, b"one"),
            control(WINDOW_UPDATE, stream + bytes(4)),
            control(PING, struct.pack("!I", 2)),
            control(PING, struct.pack("!I", 1)),
            control(12, b""),
            data(3, b"two", flags=1),
            data(1, b"", flags=1),
            control(HEADERS, struct.pack("!I", 5), flags=1),
            control(RST_STREAM, stream + struct.pack("!I", 5)),
            control(GOAWAY, struct.pack("!II", 3, 2)),
        )
    )
    core = opened()
    assert plain(core.receive(memoryview(said))) == [
        ("data", 3, b"one"),
        Answer(control(PING, struct.pack("!I", 2))),
        ("data", 3, b"two"),
        StreamEnd(3),
        StreamEnd(1),
        StreamEnd(5),
        StreamReset(3, 5),
        GoneAway(2),
    ]


@pytest.mark.parametrize(
    "said",
    [
        control(SYN_STREAM, bytes(10)),
        control(RST_STREAM, bytes(7)),
        control(SYN_REPLY, b"", flags=1),
        control(PING, b""),
        control(GOAWAY, bytes(4)),
        struct.pack("!HHI", 0x8002, PING, 4) + bytes(4),
        struct.pack("!HHI", 0x8003, SYN_REPLY, spdy.CONTROL_LIMIT_BYTES + 1),
        data(0, b"x"),
        data(2, b"x"),
        data(7, b"x"),
        b"HTTP/1.1 400 Bad Request",
    ],
)
def test_what_no_server_may_say(said: bytes) -> None:
    for pieces in ([said + bytes(8)], [bytes([byte]) for byte in said + bytes(8)]):
        assert outcome(pieces) == ([], True)


_streams = st.integers(1, 5).map(lambda n: struct.pack("!I", n))
_frames = st.one_of(
    st.builds(data, st.sampled_from([1, 3, 5]), st.binary(max_size=40), st.sampled_from([0, 1])),
    st.builds(lambda stream, rest: control(SYN_REPLY, stream + rest), _streams, st.binary(max_size=20)),
    st.builds(lambda stream: control(RST_STREAM, stream + bytes([0, 0, 0, 5])), _streams),
    st.builds(lambda stream: control(PING, stream), _streams),
    st.builds(lambda rest: control(SETTINGS, rest), st.binary(max_size=20)),
)


def opened() -> Spdy:
    """A connection on which the streams 1, 3 and 5 were opened."""
    core = Spdy()
    for _ in range(3):
        core.open_stream({})
    return core


def outcome(pieces: list[bytes]) -> tuple[list[object], bool]:
    """All events, and whether it ended in SpdyBroken."""
    core = opened()
    events: list[Event] = []
    try:
        for piece in pieces:
            events += core.receive(memoryview(piece))
    except SpdyBroken:
        return [], True
    return plain(events), False


@given(st.lists(_frames, max_size=12).map(b"".join), st.data())
def test_cuts_make_no_difference(said: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(said)), max_size=8)))
    pieces = [said[start:end] for start, end in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    whole = outcome([said])
    assert outcome(pieces) == whole
    assert outcome([bytes([byte]) for byte in said]) == whole
    assert not whole[1]


@given(st.binary(max_size=200))
def test_any_bytes_give_events_or_are_refused(said: bytes) -> None:
    assert outcome([bytes([byte]) for byte in said])[1] == outcome([said])[1]
