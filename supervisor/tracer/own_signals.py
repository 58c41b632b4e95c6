"""Signals sent to the tool itself, as opposed to the program.

From the terminal, Ctrl-C, Ctrl-\\ and Ctrl-Z reach the whole foreground process group: the program gets its own copy
and decides; the tool must neither die nor hand it on a second time. A signal that somebody sends to the tool's pid is
meant for the program, as with any wrapper, and is passed on. SIGCONT to the tool continues the program as well.

All signals are blocked in the tool and taken by one thread in sigtimedwait(2), because a handler could run between the
tracer's last look and its waitpid(2), and be noticed a program's life too late.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable

_PASSED_ON = {
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
    signal.SIGCONT,
}  # fmt: skip
_TAKEN = _PASSED_ON | {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_TICK_S = 0.1
_WATCH_S = 0.05

SI_USER = 0
SI_QUEUE = -1
SI_TKILL = -6


class OwnSignals:
    """A thread that takes the tool's signals, and ticks while it is at it."""

    def __init__(self, pass_on: Callable[[int], None], tick: Callable[[], None]) -> None:
        self._pass_on = pass_on
        self._tick = tick
        self._ended = False
        self._thread = threading.Thread(target=self._take, name="signals", daemon=True)

    @staticmethod
    def block() -> None:
        """Block what the thread will take. Call before any other thread exists."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _TAKEN)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread: a signal of our own wakes it."""
        self._ended = True
        if self._thread.ident is not None and self._thread.is_alive():
            signal.pthread_kill(self._thread.ident, signal.SIGWINCH)
        self._thread.join()

    def _take(self) -> None:
        own = os.getpid()
        while not self._ended:
            taken = signal.sigtimedwait(_TAKEN, _TICK_S)
            if taken is None:
                self._tick()
            elif taken.si_signo in _PASSED_ON and taken.si_code in (SI_USER, SI_QUEUE, SI_TKILL) and taken.si_pid != own:
                self._pass_on(taken.si_signo)


def stop_like(program: int) -> None:
    """Stop the tool as its program is stopped; returns when somebody has continued one of the two.

    A stopped tool cannot see that the program alone gets SIGCONT. A child watches that for it.
    """
    tool = os.getpid()
    watcher = os.fork()
    if watcher == 0:
        try:
            _continue_with(program, tool)
        finally:
            os._exit(0)
    os.kill(tool, signal.SIGSTOP)
    with contextlib.suppress(ProcessLookupError):
        os.kill(watcher, signal.SIGKILL)
    os.waitpid(watcher, 0)


def _continue_with(program: int, tool: int) -> None:
    # SIGCONT stays pending for a program whose tracer does not run.
    while os.getppid() == tool:
        if continues(program):
            os.kill(tool, signal.SIGCONT)
        time.sleep(_WATCH_S)


def continues(pid: int) -> bool:
    """Whether SIGCONT has been sent to a stopped process whose tracer has not let it take that yet."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            pending = [int(line.split()[1], 16) for line in status if line.startswith(b"ShdPnd:")]
    except OSError:
        return False
    return any(mask >> signal.SIGCONT - 1 & 1 for mask in pending)
