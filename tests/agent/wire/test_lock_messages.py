"""Messages for locks: what goes in comes out."""

from __future__ import annotations

import pytest
from mirrord_trace.agent.wire import lock_messages
from mirrord_trace.agent.wire.values import Message
from round_trips import comes_out_as_it_went_in, messages_of


@pytest.mark.parametrize("cls", messages_of(lock_messages), ids=lambda cls: cls.__name__)
def test_a_message_comes_out_as_it_went_in(cls: type[Message]) -> None:
    comes_out_as_it_went_in(cls)
