"""How long a request of the kernel waits for the pod: as long as it takes, unless its requester has a signal that ends it.

The kernel tells once, and once only, that a signal has come for a requester (INTERRUPT); it may have been a harmless one. Then
the requester sleeps until it is answered, SIGKILL or not. So who has been told of is looked at again and again. Two have to be
looked at although nothing is told: a page that is read for a reader who waits for the page, and the close(2) of an ending
program.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from ...agent.pump.loop import Loop, Timer
from ..pending import Pending, is_dying_of_a_signal, pending_of
from .protocol import Op, Request

TICK_S = 0.1
PATIENCE_S = 1.0
"""So long a request has to be under way to be given up for what is not SIGKILL: no call is to fail while the pod answers."""

_UNTOLD = (Op.READ, Op.FLUSH)


class _Waiting:
    # `is_told`: an INTERRUPT has come. `looks`: so many times in a row its requester had a signal that ends it.
    __slots__ = ("began_s", "is_told", "looks", "request")

    def __init__(self, request: Request, began_s: float) -> None:
        self.request = request
        self.began_s = began_s
        self.is_told = False
        self.looks = 0


class Patience:
    """The requests under way. `give_up(request)` is called for those whose requester is to wait no longer.

    `may_fail(request)`: whether somebody who goes on afterwards may do without the answer.
    """

    def __init__(
        self,
        loop: Loop,
        give_up: Callable[[Request], None],
        may_fail: Callable[[Request], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._give_up = give_up
        self._may_fail = may_fail
        self._clock = clock
        self._under_way: dict[int, _Waiting] = {}
        self._given_up_s: dict[int, float] = {}
        self._timer: Timer | None = None
        self._next_s = math.inf

    def __len__(self) -> int:
        return len(self._under_way)

    def begun(self, request: Request) -> None:
        """It is being worked on."""
        self._under_way[request.unique] = _Waiting(request, self._clock())
        if request.op in _UNTOLD and self._timer is None:
            self._plan(PATIENCE_S)

    def get(self, unique: int) -> Request | None:
        """The request, if somebody waits for it."""
        waiting = self._under_way.get(unique)
        return waiting.request if waiting is not None else None

    def ended(self, unique: int) -> bool:
        """It is done. False if it has been given up."""
        return self._under_way.pop(unique, None) is not None

    def told(self, unique: int) -> None:
        """A signal has come for who waits for this request."""
        waiting = self._under_way.get(unique)
        if waiting is None:
            return
        waiting.is_told = True
        if waiting.request.op != Op.FLUSH and pending_of(waiting.request.pid).is_killed:
            self._end(waiting)
        else:
            self._plan(TICK_S)

    def give_up(self, tid: int) -> None:
        """The tool wants a thread to come back that makes a call for somebody else, or has its signals held back."""
        for waiting in list(self._under_way.values()):
            if waiting.request.pid == tid:
                self._end(waiting)

    def close(self) -> None:
        """No more looks."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, waiting: _Waiting) -> None:
        now_s = self._clock()
        del self._under_way[waiting.request.unique]
        self._given_up_s = {tid: at_s for tid, at_s in self._given_up_s.items() if now_s - at_s < PATIENCE_S}
        self._given_up_s[waiting.request.pid] = now_s
        self._give_up(waiting.request)

    # -- looking again ------------------------------------------------------------------------------------------------------

    def _plan(self, delay_s: float) -> None:
        next_s = self._clock() + delay_s
        if self._timer is not None:
            if self._next_s <= next_s:
                return
            self._timer.cancel()
        self._next_s = next_s
        self._timer = self._loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now_s = self._clock()
        seen: dict[int, Pending] = {}
        looked_at = [waiting for waiting in self._under_way.values() if waiting.is_told or waiting.request.op in _UNTOLD]
        for waiting in looked_at:
            if self._is_over(waiting, now_s, seen):
                self._end(waiting)
        if looked_at:
            is_soon = any(waiting.is_told or now_s - waiting.began_s >= PATIENCE_S for waiting in looked_at)
            self._plan(TICK_S if is_soon else PATIENCE_S)

    def _is_over(self, waiting: _Waiting, now_s: float, seen: dict[int, Pending]) -> bool:
        request = waiting.request
        is_old = now_s - waiting.began_s >= PATIENCE_S
        if not (waiting.is_told or is_old):
            return False
        pending = seen.get(request.pid)
        if pending is None:
            pending = seen[request.pid] = pending_of(request.pid)
        # Also in good order a program ends by SIGKILL for its threads, and what it has written shall be in the pod then.
        if request.op == Op.FLUSH and not is_old:
            return False
        if pending.is_killed or (request.op == Op.FLUSH and is_dying_of_a_signal(request.pid)):
            return True
        wants = pending.is_ending or (pending.is_asked and self._may_fail(request))
        # Another thread of the process may be just about to take it.
        waiting.looks = waiting.looks + 1 if wants else 0
        return waiting.looks > 1 and (is_old or request.pid in self._given_up_s)
