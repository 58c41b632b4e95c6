"""Events are told apart by their class."""

from __future__ import annotations

from typing import get_args

from mirrord_trace.agent.wire.events import Event, StreamReset


def test_the_set_is_closed_and_stream_events_name_their_stream_first() -> None:
    names = {cls.__name__: cls._fields for cls in get_args(Event)}
    assert names.pop("MessageReceived") == ("message", "request_id", "reply_to")
    assert {fields[0] for fields in names.values()} == {"stream"}


def test_values() -> None:
    assert StreamReset(3, 104).errno == 104
