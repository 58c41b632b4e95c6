"""epoll(7): one thread, callbacks, nothing else.

Level-triggered. Callbacks run in the order in which the kernel reports; what `call_soon` queued runs before the next
wait. An exception from a callback leaves `run`: it is a bug, and hiding it would leave a session half alive.

An fd number is not a file. While one batch of events is worked off, a callback may close fd 7 and another open a new
fd 7; the event that is still to come belongs to the old one. So a watch made during a batch gets no event of that
batch: level-triggered readiness will show again.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import time
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Tuple

READ = 1
WRITE = 2
URGENT = 4
"""Urgent data of a TCP socket (EPOLLPRI)."""

_MAX_EVENTS = 256
_SWEEP_AT = 64
_WITHOUT_URGENT = (0, select.EPOLLIN, select.EPOLLOUT, select.EPOLLIN | select.EPOLLOUT)
_TO_EPOLL = (*_WITHOUT_URGENT, *(mask | select.EPOLLPRI for mask in _WITHOUT_URGENT))
_BROKEN = select.EPOLLHUP | select.EPOLLERR


class Timer:
    """A callback to come; `Loop.call_later` makes it."""

    __slots__ = ("_callback", "_timers")

    def __init__(self, timers: _Timers, callback: Callable[[], None]) -> None:
        self._timers = timers
        self._callback: Optional[Callable[[], None]] = callback

    def cancel(self) -> None:
        """Not to be called any more. Cancelling twice, or after it was called, is allowed."""
        if self._callback is not None:
            self._callback = None
            self._timers.cancelled += 1

    @property
    def cancelled(self) -> bool:
        """Whether it will not be called (any more)."""
        return self._callback is None

    def fire(self) -> None:
        """Call it, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()


class _Timers:
    # A heap by time. Most timers are deadlines, cancelled long before: once these are the majority they are swept out.

    def __init__(self) -> None:
        self.cancelled = 0
        self._heap: List[Tuple[float, int, Timer]] = []
        self._order = itertools.count()

    def add(self, when: float, callback: Callable[[], None]) -> Timer:
        if self.cancelled > _SWEEP_AT and self.cancelled * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if not entry[2].cancelled]
            heapq.heapify(self._heap)
            self.cancelled = 0
        timer = Timer(self, callback)
        heapq.heappush(self._heap, (when, next(self._order), timer))
        return timer

    def next_at(self) -> Optional[float]:
        # When the next live timer is due.
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
            self.cancelled -= 1
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Timer:
        return heapq.heappop(self._heap)[2]


class _Watch:
    __slots__ = ("batch", "callback", "events")

    def __init__(self, events: int, callback: Callable[[int], None], batch: int) -> None:
        self.events = events
        self.callback = callback
        self.batch = batch


class Loop:
    """One event loop. Everything but `call_threadsafe` belongs to the thread that runs it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._watches: Dict[int, _Watch] = {}
        self._timers = _Timers()
        self._soon: Deque[Callable[[], None]] = deque()
        self._from_threads: Deque[Callable[[], None]] = deque()
        self._batch = 0
        self._running = False
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._wake_read, READ, self._woken)

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(READ | WRITE | URGENT mask)` while `fd` is ready for `events`; replaces the fd's earlier watch.

        A hang-up or error counts as both, and is reported even if `events` is 0. The fd must be unwatched before it
        is closed.
        """
        known = self._watches.get(fd)
        if known is None:
            self._epoll.register(fd, _TO_EPOLL[events])
            self._watches[fd] = _Watch(events, callback, self._batch)
            return
        if known.events != events:
            self._epoll.modify(fd, _TO_EPOLL[events])
            known.events = events
        known.callback = callback

    def unwatch(self, fd: int) -> None:
        """No more events of `fd`, those already collected included. An fd that is not watched is ignored."""
        if self._watches.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call back once, `delay_s` from now."""
        return self._timers.add(time.monotonic() + delay_s, callback)

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call back once, before the next wait."""
        self._soon.append(callback)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        """`call_soon` from any thread."""
        self._from_threads.append(callback)
        with contextlib.suppress(BlockingIOError):  # the pipe is full of wake-ups already
            os.write(self._wake_write, b"\0")

    def run(self) -> None:
        """Work until `stop`."""
        self._running = True
        while self._running:
            self._run_soon()
            if self._running:
                self._run_batch()
            self._run_timers()

    def stop(self) -> None:
        """Let `run` return after the callback that runs now."""
        self._running = False

    def close(self) -> None:
        """Give the loop's own descriptors back."""
        self._watches.clear()
        self._epoll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _run_soon(self) -> None:
        soon = self._soon
        for _ in range(len(soon)):  # what these add comes after the next look at the descriptors
            soon.popleft()()
            if not self._running:
                return

    def _run_batch(self) -> None:
        ready = self._epoll.poll(self._timeout(), _MAX_EVENTS)
        self._batch += 1
        for fd, mask in ready:
            watch = self._watches.get(fd)
            if watch is None or watch.batch == self._batch:
                continue
            if mask & _BROKEN:
                events = READ | WRITE
            else:
                events = (READ if mask & select.EPOLLIN else 0) | (WRITE if mask & select.EPOLLOUT else 0)
            if mask & select.EPOLLPRI:
                events |= URGENT
            watch.callback(events)
            if not self._running:
                return

    def _timeout(self) -> float:
        if self._soon:
            return 0.0
        due = self._timers.next_at()
        return -1.0 if due is None else max(0.0, due - time.monotonic())

    def _run_timers(self) -> None:
        now = time.monotonic()
        due = self._timers.next_at()
        while self._running and due is not None and due <= now:
            self._timers.pop().fire()
            due = self._timers.next_at()

    def _woken(self, events: int) -> None:
        os.read(self._wake_read, 65536)
        for _ in range(len(self._from_threads)):
            self._from_threads.popleft()()
