from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Any

import pytest
from mirrord_trace.agent.wire.errors import LocalProtocolError
from mirrord_trace.agent.wire.messages import Done, Failed, LinkTarget, Message, ReadLink
from mirrord_trace.supervisor.fuse.waiting import DEADLINE_S, NO_DEADLINE_S, Outcome, Work, ask, failure, run

Settle = Callable[[Outcome], None]


class Later:
    """Something to wait for, whose outcome the test decides. Settling it twice is the test's way of being wrong."""

    def __init__(self) -> None:
        self.settles: list[Settle] = []

    def __call__(self, settle: Settle) -> None:
        self.settles.append(settle)


def waits_for(start: Callable[[Settle], None]) -> Work[Any]:
    return (yield start)


def outcomes(work: Work[Any]) -> list[Any]:
    found: list[Any] = []
    run(work, found.append)
    return found


def test_work_that_waits_for_nothing() -> None:
    def work() -> Work[int]:
        yield from ()
        return 7

    assert outcomes(work()) == [7]


def test_outcome_at_once() -> None:
    assert outcomes(waits_for(lambda settle: settle(7))) == [7]


def test_outcome_later() -> None:
    later = Later()
    found = outcomes(waits_for(later))
    assert found == []
    later.settles[0](7)
    assert found == [7]


@pytest.mark.parametrize("at_once", [True, False])
def test_an_oserror_is_raised_where_the_work_stands(at_once: bool) -> None:
    later = Later()
    caught = []

    def work() -> Work[str]:
        try:
            yield (lambda settle: settle(failure(errno.ENOENT))) if at_once else later
        except FileNotFoundError as error:
            caught.append(error.errno)
        return "went on"

    found = outcomes(work())
    if not at_once:
        later.settles[0](failure(errno.ENOENT))
    assert (found, caught) == (["went on"], [errno.ENOENT])


def test_an_oserror_that_nobody_catches_is_the_result() -> None:
    later = Later()
    found = outcomes(waits_for(later))
    later.settles[0](failure(errno.EACCES))
    assert [error.errno for error in found] == [errno.EACCES]


def test_only_the_first_outcome_counts() -> None:
    later = Later()

    def work() -> Work[tuple[int, int]]:
        return (yield later), (yield later)

    found = outcomes(work())
    later.settles[0](1)
    later.settles[0](99)
    later.settles[1](2)
    later.settles[1](99)
    assert found == [(1, 2)]


def test_many_outcomes_at_once_need_no_stack() -> None:
    def work() -> Work[int]:
        total = 0
        for _ in range(10_000):
            total += yield lambda settle: settle(1)
        return total

    assert sys.getrecursionlimit() < 10_000
    assert outcomes(work()) == [10_000]


def test_many_outcomes_one_after_the_other_need_no_stack_either() -> None:
    later = Later()

    def work() -> Work[int]:
        for _ in range(10_000):
            yield later
        return 7

    found = outcomes(work())
    while later.settles:
        later.settles.pop()(None)
    assert found == [7]


# -- what must not happen -------------------------------------------------------------------------------------------


def test_work_that_violates_the_protocol_is_eio() -> None:
    def work() -> Work[None]:
        yield from ()
        raise LocalProtocolError("too many of them")

    (error,) = outcomes(work())
    assert (error.errno, error.strerror) == (errno.EIO, "too many of them")


def test_a_start_that_violates_the_protocol_is_eio_where_the_work_stands() -> None:
    """Session.request raises for what cannot be encoded: the work must be able to clean up."""

    def start(settle: Settle) -> None:
        raise LocalProtocolError("out of range")

    ended = []

    def work() -> Work[None]:
        try:
            yield start
        finally:
            ended.append(True)

    (error,) = outcomes(work())
    assert (error.errno, ended) == (errno.EIO, [True])


@pytest.mark.parametrize("at_once", [True, False])
def test_a_bug_in_the_work_costs_one_request(at_once: bool, capfd: pytest.CaptureFixture[str]) -> None:
    later = Later()

    def work() -> Work[None]:
        yield (lambda settle: settle(None)) if at_once else later
        raise KeyError("bug")

    found = outcomes(work())
    if not at_once:
        later.settles[0](None)  # the session's callback: it must not see the KeyError
    assert [error.errno for error in found] == [errno.EIO]
    assert "KeyError: 'bug'" in capfd.readouterr().err


def test_a_bug_in_a_start_costs_one_request(capfd: pytest.CaptureFixture[str]) -> None:
    def start(settle: Settle) -> None:
        raise KeyError("bug")

    (error,) = outcomes(waits_for(start))
    assert error.errno == errno.EIO
    assert "KeyError: 'bug'" in capfd.readouterr().err


def test_a_bug_in_done_does_not_reach_who_settles(capfd: pytest.CaptureFixture[str]) -> None:
    """One piece of work settles what others wait for, and has to go on after each."""
    waiting: list[Settle] = []
    found: list[str] = []

    def answers_others() -> Work[str]:
        yield from ()
        for settle in waiting:
            settle("news")
        return "done"

    def fails(result: object) -> None:
        raise KeyError("bug")

    run(waits_for(waiting.append), fails)
    run(waits_for(waiting.append), found.append)
    run(answers_others(), found.append)
    assert found == ["news", "done"]
    assert "KeyError: 'bug'" in capfd.readouterr().err


# -- asking ---------------------------------------------------------------------------------------------------------


class Session:
    def __init__(self) -> None:
        self.asked: list[tuple[Message, Callable[[Message], None], float]] = []

    def request(self, message: Message, on_reply: Callable[[Message], None], deadline_s: float) -> None:
        self.asked.append((message, on_reply, deadline_s))


def asked(answer: Message, deadline_s: float = DEADLINE_S) -> Any:
    session = Session()
    found = outcomes(ask(session, ReadLink(b"/link"), LinkTarget, deadline_s))  # type: ignore[arg-type]
    ((message, on_reply, deadline),) = session.asked
    assert (message, deadline) == (ReadLink(b"/link"), deadline_s)
    on_reply(answer)
    return found[0]


def test_the_reply_is_what_ask_returns() -> None:
    assert asked(LinkTarget(b"to")) == LinkTarget(b"to")
    assert asked(LinkTarget(b"to"), NO_DEADLINE_S) == LinkTarget(b"to")


@pytest.mark.parametrize(
    ("answer", "code"), [(Failed(errno.ENOENT), errno.ENOENT), (Failed(0), errno.EIO), (Done(), errno.EIO)]
)
def test_failures_and_replies_of_another_kind(answer: Message, code: int) -> None:
    assert asked(answer).errno == code
