"""The messages of the link between tracer and relay travel as they are, under numbers that the agent never uses."""

from __future__ import annotations

import pytest
from callers import address
from mirrord_trace.agent.wire import messages
from mirrord_trace.agent.wire.codec import decode, encode
from mirrord_trace.syscalls import requests
from mirrord_trace.syscalls.requests import (
    AwaitRoutes,
    Counts,
    EndConnect,
    Foretell,
    GetCounts,
    GiveUpFor,
    Head,
    JoinUnix,
    Listen,
    Lost,
    Mounted,
    NamesLearnt,
    NotMounted,
    NotStarted,
    OpenUnix,
    PathStat,
    PeerRefused,
    ProbePing,
    ReadHead,
    Ready,
    ReceiveUdp,
    RouteSocket,
    StartConnect,
    StatPath,
    UdpPeer,
    UnixOpened,
    Verdict,
    WatchTree,
)
from script import STAT

FOUR = address("10.96.0.20", 80)
SIX = address("fd00::20", 65535)

EXAMPLES: list[messages.Message] = [
    StartConnect(1, FOUR, SIX, 2**64 - 1, SIX, True, (1, 9, 1)),
    EndConnect(1),
    OpenUnix(b"\0bus", 5, 20_000),
    UnixOpened(7, b"/run/\xff"),
    JoinUnix(7, 4711),
    Verdict(2**40, 111, SIX, FOUR),
    UdpPeer(3, 6, SIX, 40123, True),
    PeerRefused(3, SIX),
    NamesLearnt(("a.example", "a"), (FOUR.ip, SIX.ip), 2**31 - 1),
    ProbePing(6),
    Listen(2**32 - 1, FOUR, 8080, True, False, "{}", True),
    ReceiveUdp(4711, FOUR, 53, True),
    GetCounts(),
    Counts(1, 2**40, 0),
    Ready(40000, 0, 2**32 - 1),
    WatchTree(b"/app/\xff", True),
    Lost("the channel is gone"),
    NotStarted("no such pod", 64),
    RouteSocket(2**32 - 1, 4711),
    AwaitRoutes(4711),
    Mounted(2**40),
    NotMounted("no /dev/fuse"),
    StatPath(b"/app/\xff", True),
    PathStat(0, STAT, 1000, 2**63 - 1),
    Foretell(b"/app", False, True, True),
    ReadHead(b"/app/x"),
    GiveUpFor(4711),
    Head(0, b"#!/bin/sh", b"/lib64/ld.so"),
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
