from __future__ import annotations

from hyperframe.frame import GoAwayFrame, SettingsFrame
from mirrord_trace.agent.http.actions import CLIENT, Close, Open
from mirrord_trace.agent.http.decide import Decider
from mirrord_trace.agent.http.http2_copies import Http2Copies
from mirrord_trace.agent.http.http2_side import Side
from mirrord_trace.agent.http.http2_stream import Stream
from wires import ME, rules_of


def stream(number=1):
    return Stream(Side(0, "peer", is_client=False), number, [(b":method", b"POST")], number)


def test_one_connection_for_all_until_it_shuts_down():
    copies, out = Http2Copies(Decider(rules_of(ME), True, lambda: True)), []
    copies.begin(stream(1), out)
    copies.begin(stream(3), out)
    assert out == [Open(1, CLIENT, copy=True)]
    assert copies.has(1)
    shut = SettingsFrame(0).serialize() + GoAwayFrame(0, last_stream_id=3, error_code=0).serialize()
    copies.received(1, shut, out)
    copies.begin(stream(5), out)
    assert out[1:] == [Close(1), Open(2, CLIENT, copy=True)]


def test_what_is_no_http_2_is_closed():
    copies, out = Http2Copies(Decider(rules_of(ME), True, lambda: True)), []
    one = stream()
    copies.begin(one, out)
    copies.received(1, b"HTTP/1.1 400 Bad Request\r\n\r\n", out)
    assert out[-1] == Close(1)
    assert not copies
    copies.data(one, b"more")
    copies.ended(one)
    copies.reset(one)
    copies.close(out)
