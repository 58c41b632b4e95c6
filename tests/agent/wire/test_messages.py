"""The list of messages."""

from __future__ import annotations

import msgpack
import pytest
from mirrord_trace.agent.wire import messages
from mirrord_trace.agent.wire.codec import CHANNEL_NUMBERS, encode
from mirrord_trace.agent.wire.messages import MESSAGES, Done, Message, message


def test_every_message_is_a_frozen_dataclass_that_the_codec_knows() -> None:
    for number, cls in MESSAGES.items():
        assert issubclass(cls, Message)
        assert vars(cls)["__dataclass_params__"].frozen
        if not vars(cls)["__dataclass_fields__"]:
            assert encode(cls()) == b"\x91" + msgpack.packb(number)


def test_those_of_this_module_travel_on_the_channel() -> None:
    own = {number for number, cls in MESSAGES.items() if cls.__module__ == messages.__name__}
    assert own <= set(CHANNEL_NUMBERS)


def test_a_number_is_given_once() -> None:
    with pytest.raises(ValueError, match="Done"):
        message(1)(Message)
    assert MESSAGES[1] is Done
