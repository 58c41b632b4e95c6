from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fakekernel import Clock
from mirrord_trace.supervisor.fuse import patience
from mirrord_trace.supervisor.fuse.patience import Patience
from mirrord_trace.supervisor.fuse.protocol import Op, Request
from mirrord_trace.supervisor.pending import NOTHING, Pending

KILLED, ENDING, ASKED = Pending(is_killed=True), Pending(is_ending=True), Pending(is_asked=True)


class _Timer:
    def __init__(self, at_s: float, callback: Callable[[], None]) -> None:
        self.at_s = at_s
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Waiters:
    """Requests on a loop whose time passes when the test says so. `pending`: what threads have to take."""

    def __init__(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = clock
        self.timers: list[_Timer] = []
        self.pending: dict[int, Pending] = {}
        self.dying: set[int] = set()
        self.looks = 0
        self.over: list[int] = []
        self.may_fail = True
        monkeypatch.setattr(patience, "pending_of", self._pending_of)
        monkeypatch.setattr(patience, "is_dying_of_a_signal", lambda tid: tid in self.dying)
        loop: Any = self
        self.patience = Patience(loop, lambda request: self.over.append(request.unique), lambda request: self.may_fail, clock)

    def _pending_of(self, tid: int) -> Pending:
        self.looks += 1
        return self.pending.get(tid, NOTHING)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> _Timer:
        self.timers.append(_Timer(self.clock() + delay_s, callback))
        return self.timers[-1]

    def begin(self, unique: int, op: Op = Op.LOOKUP, tid: int = 7) -> None:
        self.patience.begun(Request(op, unique, 1, tid, memoryview(b"")))

    def passes(self, seconds: float) -> None:
        end_s = self.clock() + seconds
        while due := [timer for timer in self.timers if not timer.is_cancelled and timer.at_s <= end_s + 1e-9]:
            first = min(due, key=lambda timer: timer.at_s)
            self.timers.remove(first)
            self.clock.now_s = max(self.clock.now_s, first.at_s)
            first.callback()
        self.clock.now_s = end_s

    @property
    def planned(self) -> int:
        return sum(not timer.is_cancelled for timer in self.timers)


@pytest.fixture
def waiters(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Waiters:
    return Waiters(clock, monkeypatch)


def test_who_is_killed_waits_no_longer(waiters: Waiters) -> None:
    waiters.begin(2)
    waiters.pending[7] = KILLED
    waiters.patience.told(2)
    assert waiters.over == [2]
    assert not waiters.patience.ended(2)
    assert len(waiters.patience) == 0


def test_the_only_notice_may_be_of_a_harmless_signal(waiters: Waiters) -> None:
    waiters.begin(2)
    waiters.patience.told(2)
    waiters.passes(5)
    assert waiters.over == []
    waiters.pending[7] = KILLED
    waiters.passes(0.1)
    assert waiters.over == [2]


@pytest.mark.parametrize("pending", [ENDING, ASKED])
def test_other_signals_end_what_has_waited_for_long(waiters: Waiters, pending: Pending) -> None:
    waiters.begin(2)
    waiters.pending[7] = pending
    waiters.patience.told(2)
    waiters.passes(0.9)
    assert waiters.over == []
    waiters.passes(0.2)
    assert waiters.over == [2]


def test_a_signal_that_is_gone_at_the_next_look_was_for_another_thread(waiters: Waiters) -> None:
    waiters.begin(2)
    waiters.patience.told(2)
    waiters.passes(2)
    for _ in range(3):
        waiters.pending[7] = ENDING
        waiters.passes(0.1)
        waiters.pending[7] = NOTHING
        waiters.passes(0.1)
    assert waiters.over == []


def test_who_goes_on_needs_the_answer(waiters: Waiters) -> None:
    waiters.may_fail = False
    for unique, tid in ((2, 7), (4, 8)):
        waiters.begin(unique, Op.WRITE, tid)
        waiters.patience.told(unique)
    waiters.pending.update({7: ASKED, 8: ENDING})
    waiters.passes(3)
    assert waiters.over == [4]


def test_the_next_request_of_the_same_thread_need_not_be_old(waiters: Waiters) -> None:
    """A page that could not be read is asked for once more by the same read(2)."""
    waiters.pending[7] = ENDING
    waiters.begin(2, Op.READ)
    waiters.passes(1.2)
    assert waiters.over == [2]
    waiters.begin(4, Op.READ)
    waiters.patience.told(4)
    waiters.passes(0.3)
    assert waiters.over == [2, 4]


def test_of_reads_nobody_is_told(waiters: Waiters) -> None:
    waiters.begin(2, Op.READ)
    waiters.begin(4, Op.LOOKUP, 8)
    waiters.pending.update({7: KILLED, 8: KILLED})
    waiters.passes(0.9)
    assert waiters.over == []
    waiters.passes(0.5)
    assert waiters.over == [2]


def test_a_program_that_dies_of_a_signal_does_not_wait_for_what_it_has_written(waiters: Waiters) -> None:
    waiters.begin(2, Op.FLUSH)
    waiters.begin(4, Op.FLUSH, 8)
    waiters.dying.add(8)
    waiters.passes(1.5)
    assert waiters.over == [4]


def test_what_was_written_is_waited_for_a_while_by_whoever_ends(waiters: Waiters) -> None:
    waiters.begin(2, Op.FLUSH)
    waiters.pending[7] = KILLED
    waiters.dying.add(7)
    waiters.patience.told(2)
    waiters.passes(0.9)
    assert waiters.over == []
    waiters.passes(0.3)
    assert waiters.over == [2]


def test_what_is_answered_is_not_given_up(waiters: Waiters) -> None:
    waiters.begin(2)
    assert waiters.patience.ended(2)
    waiters.pending[7] = KILLED
    waiters.patience.told(2)
    assert waiters.over == []
    assert waiters.planned == 0


def test_notices_that_come_faster_than_looks_do_not_put_them_off(waiters: Waiters) -> None:
    waiters.begin(2)
    waiters.patience.told(2)
    for unique in range(4, 64, 2):
        waiters.begin(unique, tid=8)
        waiters.patience.told(unique)
        waiters.passes(0.05)
    waiters.pending[7] = KILLED
    for unique in range(64, 74, 2):
        waiters.begin(unique, tid=8)
        waiters.patience.told(unique)
        waiters.passes(0.05)
    assert waiters.over == [2]


def test_without_anything_to_look_at_there_are_no_looks(waiters: Waiters) -> None:
    waiters.begin(2)
    waiters.begin(4, Op.SETLKW)
    assert waiters.planned == 0
    waiters.begin(6, Op.READ)
    assert waiters.patience.ended(6)
    waiters.passes(1)
    assert waiters.planned == 0
    assert waiters.looks == 0


def test_by_order_of_the_tool(waiters: Waiters) -> None:
    waiters.begin(2)
    waiters.begin(4, tid=8)
    waiters.patience.give_up(7)
    assert waiters.over == [2]


def test_closed(waiters: Waiters) -> None:
    waiters.begin(2, Op.READ)
    waiters.patience.close()
    waiters.patience.close()
    assert waiters.planned == 0
