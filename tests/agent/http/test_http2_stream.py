from __future__ import annotations

from mirrord_trace.agent.http.http2_side import Side
from mirrord_trace.agent.http.http2_stream import Stream, facts_of


def test_facts():
    facts = facts_of([(b":method", b"GET"), (b":path", b"/a?b"), (b":authority", b"pod"), (b"x", b"y")])
    assert (facts.method, facts.target, facts.headers) == (b"GET", b"/a?b", [(b"x", b"y"), (b"host", b"pod")])
    assert facts_of([(b":authority", b"pod"), (b"host", b"other")]).headers == [(b"host", b"other")]
    assert facts_of([]).method == b""


def test_a_stream_is_finished_when_both_directions_are():
    stream = Stream(Side(0, "peer", is_client=False), 1, [(b":method", b"GET")], 1)
    assert not stream.finished
    stream.request.done = True
    assert not stream.finished
    stream.answer = stream.request
    assert stream.finished
