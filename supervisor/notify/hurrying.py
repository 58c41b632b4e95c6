"""Has calls end that wait in the mounted tree where the signals of the thread that they are for are not to be seen.

Those are calls that a worker makes in the thread's place, and those of a borrowed thread, whose signals are held back. The
relay gives up on what waits in the tree by looking at who waits there (fuse/patience.py); here it has to be told.
"""

from __future__ import annotations

from ...syscalls.context import Context
from ...syscalls.requests import GiveUpFor
from ..pending import pending_of
from ..tracer.impatience import Impatience
from .calls import NotifiedCall


class Hurrying:
    """Of one session."""

    def __init__(self, context: Context, impatience: Impatience) -> None:
        self._context = context
        self._impatience = impatience
        self._unwanted: set[NotifiedCall] = set()

    def look(self, call: NotifiedCall) -> None:
        """Now and then, at a call that is made by a worker or by its own thread, borrowed."""
        tid = call.task.tid
        if call.borrowed is None:
            if self._impatience.is_over(tid, call):
                self._come_back(call)
        elif call.borrowed.mask is not None:
            mask = call.borrowed.mask
            is_over = self._impatience.is_over(tid, call, blocked=mask)
            if is_over or (self._impatience.has_waited(call) and pending_of(tid, mask).is_ending):
                self._wait_no_longer(tid)

    def unwanted(self, call: NotifiedCall) -> None:
        """Nobody waits for the call any more: a worker that makes it, or is about to, comes back."""
        if call.is_away:
            self._unwanted.add(call)
            self._come_back(call)

    def tick(self) -> None:
        """Now and then: a worker that had not begun to wait may do so now."""
        self._unwanted = {call for call in self._unwanted if call.is_away}
        for call in self._unwanted:
            self._come_back(call)

    def _come_back(self, call: NotifiedCall) -> None:
        if call.is_away and call.worker:
            self._wait_no_longer(call.worker)

    def _wait_no_longer(self, tid: int) -> None:
        self._context.relay.tell(GiveUpFor(tid))
