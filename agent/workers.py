"""A few threads for calls that may block on a slow disk or a dead file server, so that the loop never does.

The threads are daemons: a call that hangs for ever in the kernel must not keep the agent from exiting.
"""

from __future__ import annotations

import queue
import threading
from typing import Callable

from .pump.loop import Loop

Outcome = Callable[[], None]
"""What the loop's thread is to do with the result of a piece of work."""


class Workers:
    """A fixed number of threads, each started when it is first needed, and calling `prepare` first; that must not raise."""

    def __init__(self, loop: Loop, threads: int = 4, prepare: Callable[[], None] = lambda: None) -> None:
        self._loop = loop
        self._limit = threads
        self._prepare = prepare
        self._threads = 0
        # Threads that wait, minus work that waits.
        self._idle = 0
        self._lock = threading.Lock()
        self._work: "queue.SimpleQueue[Callable[[], Outcome]]" = queue.SimpleQueue()

    def submit(self, work: Callable[[], Outcome]) -> None:
        """Run `work` on a thread, then what it returns on the loop. `work` must not raise."""
        with self._lock:
            self._idle -= 1
            start = self._idle < 0 and self._threads < self._limit
            if start:
                self._threads += 1
                self._idle += 1
        self._work.put(work)
        if start:
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        self._prepare()
        while True:
            outcome = self._work.get()()
            with self._lock:
                self._idle += 1
            self._loop.call_threadsafe(outcome)
