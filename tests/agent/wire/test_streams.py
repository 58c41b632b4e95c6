"""Credit of one stream."""

from __future__ import annotations

import pytest
from mirrord_trace.agent.wire.errors import LocalProtocolError, RemoteProtocolError
from mirrord_trace.agent.wire.streams import Stream


def test_receiving_spends_the_window_and_consuming_gives_it_back_in_quarters() -> None:
    stream = Stream(1, 100)
    stream.take_in(60)
    assert stream.receive_window == 40
    assert stream.consumed(24) == 0
    assert stream.consumed(1) == 25
    assert stream.receive_window == 65
    with pytest.raises(LocalProtocolError):
        stream.consumed(36)
    with pytest.raises(RemoteProtocolError):
        stream.take_in(66)


def test_no_credit_for_a_direction_that_has_ended() -> None:
    stream = Stream(1, 100)
    stream.take_in(100)
    stream.eof_received = True
    assert stream.consumed(100) == 0
    with pytest.raises(RemoteProtocolError):
        stream.take_in(1)


def test_credit_cannot_exceed_the_window() -> None:
    stream = Stream(1, 100)
    stream.send_window -= 30
    stream.credited(30)
    for size in (0, 1):
        with pytest.raises(RemoteProtocolError):
            stream.credited(size)
