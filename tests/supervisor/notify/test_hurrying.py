from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Message
from mirrord_trace.supervisor.notify import hurrying
from mirrord_trace.supervisor.notify.hurrying import Hurrying
from mirrord_trace.supervisor.pending import NOTHING, Pending
from mirrord_trace.supervisor.tracer import impatience
from mirrord_trace.supervisor.tracer.impatience import Impatience
from mirrord_trace.syscalls.requests import GiveUpFor


class Calls:
    """`pending`: what thread 7 has to take, by its own mask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        self.told: list[Message] = []
        self.pending = NOTHING
        self.masks: list[int | None] = []
        context: Any = SimpleNamespace(relay=SimpleNamespace(tell=self.told.append))
        self.hurrying = Hurrying(context, Impatience(lambda: self.now_s))
        for module in (hurrying, impatience):
            monkeypatch.setattr(module, "pending_of", self._pending_of)

    def _pending_of(self, tid: int, blocked: int | None) -> Pending:
        assert tid == 7
        self.masks.append(blocked)
        return self.pending

    def call(self, *, worker: int = 0, mask: int | None = None, is_borrowed: bool = False) -> Any:
        class Call(SimpleNamespace):
            __hash__ = object.__hash__

        borrowed = SimpleNamespace(mask=mask) if is_borrowed else None
        return Call(
            task=SimpleNamespace(tid=7), worker=worker, is_away=not is_borrowed, borrowed=borrowed, waits_since_s=self.now_s
        )


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    return Calls(monkeypatch)


def test_a_worker_comes_back_for_who_is_asked_to_end(calls: Calls) -> None:
    call = calls.call(worker=50)
    calls.hurrying.look(call)
    calls.pending = Pending(is_asked=True)
    calls.hurrying.look(call)
    assert calls.told == []
    calls.now_s += 1
    calls.hurrying.look(call)
    assert calls.told == [GiveUpFor(50)]


def test_a_worker_comes_back_for_who_is_gone(calls: Calls) -> None:
    call = calls.call()
    calls.hurrying.unwanted(call)
    calls.hurrying.tick()
    assert calls.told == [], "it has not begun"
    call.worker = 50
    calls.hurrying.tick()
    assert calls.told == [GiveUpFor(50)]
    call.is_away = False
    calls.hurrying.tick()
    calls.hurrying.unwanted(call)
    assert calls.told == [GiveUpFor(50)]


@pytest.mark.parametrize("pending", [Pending(is_asked=True), Pending(is_ending=True)])
def test_a_borrowed_thread_is_judged_by_its_own_mask(calls: Calls, pending: Pending) -> None:
    call = calls.call(is_borrowed=True)
    calls.pending = pending
    calls.now_s += 2
    calls.hurrying.look(call)
    assert calls.masks == [], "its signals are not held back yet"
    call.borrowed.mask = 0x40
    call.waits_since_s = calls.now_s
    calls.hurrying.look(call)
    assert calls.told == []
    calls.now_s += 1
    calls.hurrying.look(call)
    assert calls.told == [GiveUpFor(7)]
    assert set(calls.masks) == {0x40}
