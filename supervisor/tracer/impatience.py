"""Whose calls shall not wait for the pod's answer any longer.

A thread that waits takes its signals, and its call is then made again, as if nothing had been. But to whom a user says SIGINT,
SIGTERM, SIGQUIT or SIGHUP, and who has a handler for it (Python, for one), shall not have to wait for a pod that does not
answer: a call that has waited for long ends with EINTR, and so do the thread's next ones, until the pod answers one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from ..pending import pending_of
from .call import ActiveCall

PATIENCE_S = 1.0
_FORGOTTEN_S = 10.0
"""By then the thread is about something else, and the number may be another thread's one day."""


class _Asked(NamedTuple):
    # When it was asked to end; whether a call of it has been ended since, and none answered.
    at_s: float
    has_ended: bool


class Impatience:
    """Of the threads of one session."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._asked: dict[int, _Asked] = {}

    def waits(self, call: ActiveCall) -> None:
        """The call begins to wait, or has begun to."""
        call.waits_since_s = call.waits_since_s or self._clock()

    def has_waited(self, call: ActiveCall) -> bool:
        """Whether it has waited for long."""
        return self._clock() - call.waits_since_s >= PATIENCE_S

    def answered(self, tid: int) -> None:
        """The pod has answered the thread; 0: one that waits no more."""
        self._asked.pop(tid, None)
        self._asked = {other: _Asked(asked.at_s, False) for other, asked in self._asked.items()}

    def is_over(self, tid: int, call: ActiveCall, has_signal: bool = True, blocked: int | None = None) -> bool:
        """Whether the waiting call is to end. Asked now and then. `has_signal` False: there is none to look for.

        `blocked`: as for `pending_of`.
        """
        now_s = self._clock()
        if has_signal and pending_of(tid, blocked).is_asked:
            self._asked[tid] = _Asked(now_s, tid in self._asked and self._asked[tid].has_ended)
        asked = self._asked.get(tid)
        if asked is None or now_s - asked.at_s > _FORGOTTEN_S:
            return False
        if not asked.has_ended and not self.has_waited(call):
            return False
        self._asked[tid] = _Asked(asked.at_s, True)
        return True
