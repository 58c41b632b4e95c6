"""For modules of messages: what goes in comes out."""

from __future__ import annotations

import dataclasses
from types import ModuleType

from mirrord_trace.agent.wire.codec import CHANNEL_NUMBERS, decode, encode, number_of
from mirrord_trace.agent.wire.values import Message

_VALUES = {"int": 7, "bytes": b"name", "bool": True}


def messages_of(module: ModuleType) -> list[type[Message]]:
    """Its messages."""
    classes = [cls for cls in vars(module).values() if isinstance(cls, type) and issubclass(cls, Message)]
    return [cls for cls in classes if cls is not Message]


def comes_out_as_it_went_in(cls: type[Message]) -> None:
    """Encode and decode one, and see that it travels on the channel."""
    message = cls(*[_VALUES[str(field.type)] for field in dataclasses.fields(cls)])  # type: ignore[arg-type]
    assert decode(encode(message)) == message
    assert number_of(cls) in CHANNEL_NUMBERS
