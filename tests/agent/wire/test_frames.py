"""The header and the datagram payload."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.wire import frames
from mirrord_trace.agent.wire.errors import LocalProtocolError, RemoteProtocolError
from mirrord_trace.agent.wire.frames import check_header, pack_datagram, unpack_datagram
from mirrord_trace.agent.wire.messages import Address


def test_layout() -> None:
    assert frames.HEADER.pack(frames.DATA << 24 | 3, 1, 2) == bytes.fromhex("05000003 00000001 00000002")


@pytest.mark.parametrize(
    ("kind", "length", "stream", "sequence"),
    [
        (frames.DATA, 1, 1, 1),
        (frames.DATA, frames.MAX_PAYLOAD_BYTES, 1, 0),
        (frames.NOTICE, 1, 0, 1),
        (frames.REQUEST | frames.MORE, 1, 1, 1),
        (frames.ACK, 8, 0, 0),
        (frames.EOF, 0, 1, 1),
    ],
)
def test_sound_headers(kind: int, length: int, stream: int, sequence: int) -> None:
    check_header(kind << 24 | length, stream, sequence)


@pytest.mark.parametrize(
    ("kind", "length", "stream", "sequence"),
    [
        (0, 0, 0, 0),
        (12, 0, 0, 0),
        (frames.DATA | frames.MORE, 1, 1, 1),
        (frames.DATA, 0, 1, 1),
        (frames.DATA, frames.MAX_PAYLOAD_BYTES + 1, 1, 1),
        (frames.DATA, 1, 0, 1),
        (frames.NOTICE, 1, 1, 1),
        (frames.ACK, 7, 0, 0),
        (frames.ACK, 8, 0, 1),
        (frames.PING, 8, 1, 0),
        (frames.EOF, 1, 1, 1),
    ],
)
def test_impossible_headers(kind: int, length: int, stream: int, sequence: int) -> None:
    with pytest.raises(RemoteProtocolError):
        check_header(kind << 24 | length, stream, sequence)


@given(st.sampled_from([4, 16]).flatmap(lambda n: st.binary(min_size=n, max_size=n)), st.integers(0, 65535), st.binary())
def test_datagrams_come_back(ip: bytes, port: int, payload: bytes) -> None:
    assert unpack_datagram(pack_datagram(Address(ip, port), payload)) == (Address(ip, port), payload)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_datagram_or_refused(data: bytes) -> None:
    try:
        peer, payload = unpack_datagram(memoryview(data))
    except RemoteProtocolError:
        return
    assert pack_datagram(peer, payload) == data


@pytest.mark.parametrize("peer", [Address(b"123", 1), Address(b"1234", 65536), Address(b"1234", -1)])
def test_no_such_address(peer: Address) -> None:
    with pytest.raises(LocalProtocolError):
        pack_datagram(peer, b"")
