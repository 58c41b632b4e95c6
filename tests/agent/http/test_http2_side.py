from __future__ import annotations

import itertools

import pytest
from h2 import events
from hyperframe.frame import GoAwayFrame, PingFrame, SettingsFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.http.actions import POD, Send
from mirrord_trace.agent.http.http2_side import BadHttp2, Side

HELLO = SettingsFrame(0, settings={3: 7}).serialize()
GOAWAY = GoAwayFrame(0, last_stream_id=5, error_code=0).serialize()
PING = PingFrame(0, opaque_data=b"12345678").serialize()


def side():
    made = Side(3, POD, is_client=True)
    made.flush([])
    return made


@settings(deadline=None)
@given(st.sets(st.integers(1, len(HELLO + GOAWAY + PING) - 1)))
def test_goaway_is_for_us_and_not_for_h2(cuts):
    stream = HELLO + GOAWAY + PING
    one = side()
    happened = []
    places = sorted({0, *cuts, len(stream)})
    for begin, end in itertools.pairwise(places):
        happened += one.receive(stream[begin:end])
    assert one.last_stream == 5
    kinds = [type(event) for event in happened]
    assert events.ConnectionTerminated not in kinds
    assert {events.RemoteSettingsChanged, events.PingReceived} <= set(kinds)
    out = []
    one.flush(out)
    assert [type(action) for action in out] == [Send]
    assert out[0].connection == 3


def test_what_is_not_http_2_is_known_at_once():
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\xff" * 9):
        with pytest.raises(BadHttp2):
            side().receive(answer)
    one = side()
    with pytest.raises(BadHttp2):
        one.receive(HELLO + b"\0\0\1\0\0\0\0\0\0x")


def test_how_many_streams_there_may_be():
    one = side()
    one.receive(SettingsFrame(0, settings={3: 1}).serialize())
    assert one.may_open()
    one.h2.send_headers(1, [(b":method", b"GET")])
    assert not one.may_open()
    one.reset(1, 8)
    one.reset(99, 8)
    assert one.may_open()


def test_extended_connect_is_offered():
    peer, one = Side(0, "peer", is_client=False), side()
    peer.offer_connect(one)
    assert peer.h2.local_settings.get(8, 0) == 0
    one.receive(SettingsFrame(0, settings={8: 1}).serialize())
    peer.offer_connect(one)
    peer.flush(out := [])
    assert SettingsFrame(0, settings={8: 1}).serialize() in out[0].data
