from __future__ import annotations

from typing import Any

import pytest
from mirrord_trace.supervisor.pending import NOTHING, Pending
from mirrord_trace.supervisor.tracer import impatience
from mirrord_trace.supervisor.tracer.call import ActiveCall
from mirrord_trace.supervisor.tracer.impatience import Impatience


class Threads:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.asked: set[int] = set()
        self.impatience = Impatience(lambda: self.now_s)
        monkeypatch.setattr(
            impatience, "pending_of", lambda tid, blocked: Pending(is_asked=True) if tid in self.asked else NOTHING
        )

    def waiting(self) -> ActiveCall:
        handling: Any = None
        call = ActiveCall(0, (0, 0, 0, 0, 0, 0), 0, 0, "stat", handling)
        self.impatience.waits(call)
        return call


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Threads:
    return Threads(monkeypatch)


def test_a_call_that_has_waited_for_long_ends(threads: Threads) -> None:
    call = threads.waiting()
    threads.now_s += 5
    threads.impatience.waits(call)  # for the next thing
    assert not threads.impatience.is_over(7, call)
    threads.asked.add(7)
    assert not threads.impatience.is_over(7, call, has_signal=False)
    assert threads.impatience.is_over(7, call)


def test_a_call_that_is_made_again_after_the_handler_ends_later(threads: Threads) -> None:
    call = threads.waiting()
    threads.asked.add(7)
    assert not threads.impatience.is_over(7, call)
    threads.asked.clear()
    threads.now_s += 0.9
    assert not threads.impatience.is_over(7, call, has_signal=False)
    threads.now_s += 0.2
    assert threads.impatience.is_over(7, call, has_signal=False)
    assert not threads.impatience.is_over(8, call, has_signal=False)


def test_the_next_calls_do_not_wait_until_the_pod_answers(threads: Threads) -> None:
    call = threads.waiting()
    threads.asked.add(7)
    threads.now_s += 2
    assert threads.impatience.is_over(7, call)
    threads.asked.clear()
    assert threads.impatience.is_over(7, threads.waiting(), has_signal=False)
    threads.impatience.answered(0)  # somebody else's, or late: the pod is slow
    call = threads.waiting()
    assert not threads.impatience.is_over(7, call, has_signal=False)
    threads.now_s += 1
    assert threads.impatience.is_over(7, call, has_signal=False)
    threads.impatience.answered(7)
    assert not threads.impatience.is_over(7, call, has_signal=False)


def test_it_is_forgotten_at_some_time(threads: Threads) -> None:
    threads.asked.add(7)
    assert not threads.impatience.is_over(7, threads.waiting())
    threads.asked.clear()
    call = threads.waiting()
    threads.now_s += 11
    assert not threads.impatience.is_over(7, call, has_signal=False)
