"""Work that waits without blocking: generators that yield what they wait for, run on the relay's event loop.

A request of the kernel takes as many round trips as it takes; its code reads as if it blocked:

    reply = yield from ask(session, StatFs(path))

What is yielded is a function that gets a callback and arranges for it to be called once with the outcome. An outcome that is
an OSError is raised where the generator stands. Any other exception is a bug of ours, and costs that one request: its
traceback is shown, and its outcome is EIO.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from ...agent.pump.session import Session
from ...agent.wire.errors import LocalProtocolError
from ...agent.wire.messages import Failed, Message
from ..relay.report import say_traceback

Outcome = Any
"""Whatever the start function's callback is given."""

Start = Callable[[Callable[[Outcome], None]], None]
"""What a generator yields: begin something, and call back once, now or later."""

T = TypeVar("T")
M = TypeVar("M", bound=Message)
Work = Generator[Start, Outcome, T]

DEADLINE_S = 60.0
"""For what the pod answers by itself."""

NO_DEADLINE_S = 365 * 86400.0
"""For what waits for somebody else in the pod: locks, FIFOs."""


def run(work: Work[T], done: Callable[[T | OSError], None]) -> None:
    """Run `work` until it ends; `done` gets what it returned, or the OSError that it raised."""
    _go_on(work, done, None)


# Outcomes that come at once do not make the stack deeper.
def _go_on(work: Work[Any], done: Callable[[Any], None], outcome: Outcome) -> None:
    while True:
        try:
            start = work.throw(outcome) if isinstance(outcome, OSError) else work.send(outcome)
        except StopIteration as stop:
            _end(done, stop.value)
            return
        except Exception as error:
            _end(done, _as_failure(error))
            return
        wait = _Wait(work, done)
        try:
            start(wait.settle)
        except Exception as error:
            wait.settle(_as_failure(error))
        if not wait.is_settled:
            wait.goes_on = True
            return
        outcome = wait.outcome


def _as_failure(error: Exception) -> OSError:
    if isinstance(error, OSError):
        return error
    if not isinstance(error, LocalProtocolError):
        say_traceback()
    return OSError(errno.EIO, str(error))


# Who settles an outcome may have others to settle: a bug of one must not reach them.
def _end(done: Callable[[Any], None], result: Any) -> None:
    try:
        done(result)
    except Exception:
        say_traceback()


class _Wait:
    """One outcome: taken by `_go_on` if it is there when the start function returns, else it makes the work go on."""

    __slots__ = ("done", "goes_on", "is_settled", "outcome", "work")

    def __init__(self, work: Work[Any], done: Callable[[Any], None]) -> None:
        self.work = work
        self.done = done
        self.goes_on = False
        self.is_settled = False
        self.outcome: Outcome = None

    def settle(self, outcome: Outcome) -> None:
        if self.is_settled:
            return
        self.is_settled = True
        self.outcome = outcome
        if self.goes_on:
            _go_on(self.work, self.done, outcome)


def failure(code: int) -> OSError:
    """An errno to raise."""
    return OSError(code, os.strerror(code))


def ask(session: Session, request: Message, reply: type[M], deadline_s: float = DEADLINE_S) -> Work[M]:
    """Ask the agent. OSError with the pod's errno if it fails, EIO for a reply of another kind."""

    def start(settle: Callable[[Outcome], None]) -> None:
        session.request(request, settle, deadline_s)

    answer = yield start
    if isinstance(answer, Failed):
        raise failure(answer.errno or errno.EIO)
    if not isinstance(answer, reply):
        raise failure(errno.EIO)
    return answer
