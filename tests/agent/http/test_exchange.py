from __future__ import annotations

from mirrord_trace.agent.http.actions import POD
from mirrord_trace.agent.http.answers import Answer
from mirrord_trace.agent.http.bodies import framing
from mirrord_trace.agent.http.exchange import Exchange, Link
from mirrord_trace.agent.http.heads import request_head
from wires import get


def test_an_exchange_begins_with_nothing_to_repeat():
    head = request_head(get())
    exchange = Exchange(head, Link(1, POD), framing(head.length), Answer(head), b"")
    assert exchange.retry == b""
    assert exchange.copy is None
    assert exchange.body.done
    assert not exchange.eof_sent
    assert exchange.link is not None
    assert not exchange.link.used
