"""When a stop is the repetition of a rewound call."""

from __future__ import annotations

from collections.abc import Generator
from typing import cast

import pytest
from mirrord_trace.supervisor.tracer.call import RESTARTS, ActiveCall, Phase
from mirrord_trace.syscalls.actions import Handling

_ARGS = (1, 2, 3, 4, 5, 6)


def _call() -> ActiveCall:
    def nothing() -> Generator[None, None, None]:
        yield

    return ActiveCall(257, _ARGS, 0x4000, 0x7FFF0000, "openat", cast(Handling, nothing()))


def test_a_call_starts_at_its_entry_with_nothing_taken() -> None:
    call = _call()
    assert (call.phase, call.words, call.slots, call.ask_id, call.fd, call.answer) == (Phase.ENTRY, None, [], 0, -1, None)


def test_the_same_call_from_the_same_place_is_the_repetition() -> None:
    assert _call().is_same(257, _ARGS, 0x4000, 0x7FFF0000)


@pytest.mark.parametrize(
    ("sysno", "args", "ip", "sp"),
    [
        (258, _ARGS, 0x4000, 0x7FFF0000),
        (257, (1, 2, 3, 4, 5, 7), 0x4000, 0x7FFF0000),
        (257, _ARGS, 0x4002, 0x7FFF0000),
        (257, _ARGS, 0x4000, 0x7FFEF000),
    ],
    ids=["another call", "other arguments", "another place", "a signal handler's stack"],
)
def test_anything_else_is_not(sysno: int, args: tuple[int, int, int, int, int, int], ip: int, sp: int) -> None:
    assert not _call().is_same(sysno, args, ip, sp)


def test_restarts_are_the_kernels_own_codes() -> None:
    assert {-512, -513, -514, -516} == RESTARTS
