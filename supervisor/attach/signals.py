"""The tool's own signals while it supervises a process that is not its child: all that end programs ask it to let go.

As in tracer/own_signals.py they are blocked and taken by one thread. Ctrl-Z does nothing, since a stopped tracer would
stop the programs that it traces.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from ..forking import start

_ENDING = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_TAKEN = _ENDING | {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH}
_TICK_S = 0.1


class EndSignals:
    """A thread that waits for them, and ticks while it is at it."""

    def __init__(self, end: Callable[[], None], tick: Callable[[], None]) -> None:
        self._end = end
        self._tick = tick
        self._ended = False
        self._thread = threading.Thread(target=self._take, name="signals", daemon=True)

    @staticmethod
    def block() -> None:
        """Block what the thread will take. Call before any other thread exists."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)

    def start(self) -> None:
        """Start the thread."""
        start(self._thread)

    def stop(self) -> None:
        """End the thread: a signal of our own wakes it."""
        self._ended = True
        if self._thread.ident is not None and self._thread.is_alive():
            signal.pthread_kill(self._thread.ident, signal.SIGWINCH)
        self._thread.join()

    def _take(self) -> None:
        while not self._ended:
            taken = signal.sigtimedwait(_TAKEN, _TICK_S)
            if taken is None:
                self._tick()
            elif taken.si_signo in _ENDING:
                self._end()
