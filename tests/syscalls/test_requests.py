"""The messages of the link between tracer and relay travel as they are, under numbers that the agent never uses."""

from __future__ import annotations

import pytest
from callers import address
from mirrord_trace.agent.wire import messages
from mirrord_trace.agent.wire.codec import decode, encode
from mirrord_trace.syscalls import requests
from mirrord_trace.syscalls.requests import (
    Counts,
    GetCounts,
    Listen,
    Lost,
    NotStarted,
    Ready,
    StartConnect,
    UdpPeer,
    Verdict,
)

FOUR = address("10.96.0.20", 80)
SIX = address("fd00::20", 65535)

EXAMPLES: list[messages.Message] = [
    StartConnect(1, FOUR, SIX),
    Verdict(2**40, 111, SIX, FOUR),
    UdpPeer(3, 6, SIX),
    Listen(2**32 - 1, FOUR, 8080),
    GetCounts(),
    Counts(1, 2**40, 0),
    Ready(40000, 0),
    Lost("the channel is gone"),
    NotStarted("no such pod", 64),
]


@pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)
def test_they_travel(message: messages.Message) -> None:
    assert decode(encode(message)) == message


def test_there_is_an_example_of_each() -> None:
    own = {cls for cls in messages.MESSAGES.values() if cls.__module__ == requests.__name__}
    assert own == {type(message) for message in EXAMPLES}


def test_their_numbers_begin_at_200() -> None:
    for number, cls in messages.MESSAGES.items():
        if cls.__module__ in (requests.__name__, messages.__name__):
            assert (number >= 200) is (cls.__module__ == requests.__name__)
