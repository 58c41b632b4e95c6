"""Messages for watches: what goes in comes out."""

from __future__ import annotations

import dataclasses

import pytest
from mirrord_trace.agent.wire import watch_messages
from mirrord_trace.agent.wire.codec import CHANNEL_NUMBERS, decode, encode, number_of
from mirrord_trace.agent.wire.values import Message

OWN = [
    cls for cls in vars(watch_messages).values() if isinstance(cls, type) and issubclass(cls, Message) and cls is not Message
]
VALUES = {"int": 7, "bytes": b"name", "bool": True}


@pytest.mark.parametrize("cls", OWN, ids=lambda cls: cls.__name__)
def test_a_message_comes_out_as_it_went_in(cls: type) -> None:
    message = cls(*[VALUES[str(field.type)] for field in dataclasses.fields(cls)])
    assert decode(encode(message)) == message
    assert number_of(cls) in CHANNEL_NUMBERS
