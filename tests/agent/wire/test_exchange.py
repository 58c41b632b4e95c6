"""Requests and replies of one end, without frames' headers, streams or a transport."""

from __future__ import annotations

from typing import List, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.wire import exchange as exchange_module
from mirrord_trace.agent.wire import frames
from mirrord_trace.agent.wire.codec import encode
from mirrord_trace.agent.wire.errors import LocalProtocolError, RemoteProtocolError
from mirrord_trace.agent.wire.events import MessageReceived
from mirrord_trace.agent.wire.exchange import Exchange
from mirrord_trace.agent.wire.frames import MORE, NOTICE, REPLY, REQUEST
from mirrord_trace.agent.wire.messages import Done, GetPod, Log, Message

DONE = memoryview(encode(Done()))


def receive(end: Exchange, kind: int, ident: int, message: Message) -> Optional[MessageReceived]:
    return end.received(kind, ident, memoryview(encode(message)))


def test_what_goes_out_is_what_comes_in() -> None:
    client, agent = Exchange(), Exchange()
    kind, ident, payload = client.to_send(GetPod(), client.new_request_id(), 0)
    assert (kind, client.open_requests) == (REQUEST, 1)
    assert agent.received(kind, ident, memoryview(payload)) == MessageReceived(GetPod(), ident, 0)
    assert agent.open_requests == 0
    kind, ident, payload = agent.to_send(Done(), 0, ident)
    assert kind == REPLY
    assert client.received(kind, ident, memoryview(payload)) == MessageReceived(Done(), 0, ident)
    assert client.open_requests == 0
    kind, ident, payload = client.to_send(Log(10, "x"), 0, 0)
    assert (kind, ident) == (NOTICE, 0)
    assert agent.received(kind, ident, memoryview(payload)) == MessageReceived(Log(10, "x"), 0, 0)


def test_an_id_is_free_again_with_the_reply() -> None:
    end = Exchange()
    for _ in range(3):
        end.to_send(GetPod(), 7, 0)
        end.received(REPLY, 7, DONE)
        receive(end, REQUEST, 7, GetPod())
        end.to_send(Done(), 0, 7)


def test_new_ids_pass_over_those_under_way_and_begin_again_at_one() -> None:
    end = Exchange()
    end.to_send(GetPod(), 1, 0)
    assert [end.new_request_id(), end.new_request_id()] == [2, 3]
    end._next_request = 0xFFFFFFFF
    assert [end.new_request_id(), end.new_request_id()] == [0xFFFFFFFF, 2]


def test_what_must_not_be_sent_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_REQUESTS", 1)
    end = Exchange()
    receive(end, REQUEST, 5, GetPod())
    end.to_send(GetPod(), 1, 0)
    for request_id, reply_to in ((1, 5), (1, 0), (2, 0), (0, 6)):
        with pytest.raises(LocalProtocolError):
            end.to_send(Done(), request_id, reply_to)
    assert end.open_requests == 1
    assert end.to_send(Done(), 0, 5)[0] == REPLY
    with pytest.raises(LocalProtocolError, match="not waiting"):
        end.to_send(Done(), 0, 5)


def test_a_message_that_cannot_be_encoded_is_not_under_way() -> None:
    end = Exchange()
    receive(end, REQUEST, 5, GetPod())
    with pytest.raises(LocalProtocolError):
        end.to_send(Log(-(2**80), "x"), 1, 0)
    with pytest.raises(LocalProtocolError):
        end.to_send(Log(-(2**80), "x"), 0, 5)
    assert end.open_requests == 0
    assert end.to_send(Done(), 0, 5)[0] == REPLY


def test_messages_of_the_relay_link_do_not_travel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "CHANNEL_NUMBERS", range(0))
    with pytest.raises(LocalProtocolError, match="does not travel"):
        Exchange().to_send(Done(), 0, 0)
    with pytest.raises(RemoteProtocolError, match="does not travel"):
        Exchange().received(NOTICE, 0, DONE)


@given(st.text(max_size=300), st.lists(st.integers(0, 400), max_size=6))
def test_however_a_message_is_cut(text: str, cuts: List[int]) -> None:
    payload = memoryview(encode(Log(20, text)))
    ends = sorted({0, len(payload), *(cut for cut in cuts if cut < len(payload))})
    end = Exchange()
    for at in range(len(ends) - 2):
        assert end.received(NOTICE | MORE, 0, payload[ends[at] : ends[at + 1]]) is None
    assert end.received(NOTICE, 0, payload[ends[-2] :]) == MessageReceived(Log(20, text), 0, 0)
    assert end.received(NOTICE, 0, DONE) == MessageReceived(Done(), 0, 0)


def test_nothing_may_lie_between_the_parts_of_a_message() -> None:
    for kind, ident in ((NOTICE, 0), (REPLY, 1), (REQUEST, 2), (REQUEST | MORE, 2)):
        end = Exchange()
        end.received(REQUEST | MORE, 1, DONE[:1])
        with pytest.raises(RemoteProtocolError, match="inside"):
            end.received(kind, ident, DONE)


def test_a_message_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_MESSAGE_BYTES", 100)
    end = Exchange()
    end.received(NOTICE | MORE, 0, memoryview(bytes(100)))
    with pytest.raises(RemoteProtocolError, match="too large"):
        end.received(NOTICE | MORE, 0, memoryview(b"x"))


def test_a_reply_to_nothing() -> None:
    end = Exchange()
    receive(end, REQUEST, 1, GetPod())  # the peer's, of the same number
    with pytest.raises(RemoteProtocolError, match="not asked"):
        end.received(REPLY, 1, DONE)


def test_the_peers_requests_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_REQUESTS", 2)
    end = Exchange()
    receive(end, REQUEST, 1, GetPod())
    with pytest.raises(RemoteProtocolError, match="under way"):
        receive(end, REQUEST, 1, GetPod())
    receive(end, REQUEST, 2, GetPod())
    with pytest.raises(RemoteProtocolError, match="under way"):
        receive(end, REQUEST, 3, GetPod())
