"""A bound on the time that a filter may take.

An expression like `(a+)+$` takes for ever on the right subject, and here strangers choose the subjects, while everything
else of the agent waits. Python's engine looks for signals every few thousand steps and lets an exception of their handler
through, so a timer ends it. The timer counts the processor time of the process (ITIMER_VIRTUAL), not the clock's: a busy
node is no reason to give up.
"""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Optional

from .filters import Facts, Filter

LIMIT_S = 0.1
"""Of processor time, for one request."""


class Patient:
    """A filter that matches nothing any more once it has taken longer than `LIMIT_S`, with one line in the agent's log.

    It is not tried again, because each further try would cost everybody as much. Bounded in the main thread only, where
    signals are handled; there it uses SIGVTALRM.
    """

    def __init__(self, judge: Filter) -> None:
        self._judge = judge
        self._given_up = False

    def match(self, facts: Facts) -> Optional[bool]:
        """As the filter."""
        if self._given_up:
            return False
        if threading.current_thread() is not threading.main_thread():
            return self._judge.match(facts)
        before = signal.signal(signal.SIGVTALRM, _on_signal)
        try:
            try:
                signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
                return self._judge.match(facts)
            finally:
                signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        except _TooLong:
            self._given_up = True
            print("an HTTP filter takes too long: it matches nothing from now on", file=sys.stderr, flush=True)
            return False
        finally:
            signal.signal(signal.SIGVTALRM, before)


class _TooLong(Exception):
    pass


def _on_signal(number: int, frame: Optional[FrameType]) -> None:
    raise _TooLong
