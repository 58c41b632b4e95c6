"""Signals sent to the tool itself, as opposed to the program.

From the terminal, Ctrl-C, Ctrl-\\ and Ctrl-Z reach the whole foreground process group: the program gets its own copy
and decides; the tool must neither die nor hand it on a second time. A signal that somebody sends to the tool's pid is
meant for the program, as with any wrapper, and is passed on; sent to the whole group it has reached the program already
(see loop and doorbell). SIGCONT to the tool continues the program as well.

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

from ..forking import start
from .doorbell import SENT, pending

_PASSED_ON = frozenset({
    signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH,
    signal.SIGCONT,
})  # fmt: skip
_TICK_S = 0.1
_WATCH_S = 0.05


class TakenSignals:
    """A thread that takes signals of the tool, and ticks while it is at it. What becomes of them, subclasses say."""

    taken: frozenset[signal.Signals]

    def __init__(self, tick: Callable[[], None]) -> None:
        self._tick = tick
        self._ended = False
        self._thread = threading.Thread(target=self._take, name="signals", daemon=True)

    @classmethod
    def block(cls) -> None:
        """Block what the thread will take. Call before any other thread exists."""
        signal.pthread_sigmask(signal.SIG_BLOCK, cls.taken)

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
            taken = signal.sigtimedwait(self.taken, _TICK_S)
            if taken is None:
                self._tick()
            else:
                self._got(taken)

    def _got(self, taken: signal.struct_siginfo) -> None:
        raise NotImplementedError


class OwnSignals(TakenSignals):
    """Hands on what is meant for the program."""

    taken = _PASSED_ON | {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}

    def __init__(self, pass_on: Callable[[int], None], tick: Callable[[], None]) -> None:
        super().__init__(tick)
        self._pass_on = pass_on

    def _got(self, taken: signal.struct_siginfo) -> None:
        if taken.si_signo in _PASSED_ON and taken.si_code in SENT and taken.si_pid != os.getpid():
            _wait_for_senders()
            self._pass_on(taken.si_signo)


def _wait_for_senders() -> None:
    # kill(2) of a process group holds the kernel's list of tasks while it goes from one to the next, and setpgid(2), of
    # the group that we have anyway, waits for that: now either all have got the signal, or it was meant for us alone.
    with contextlib.suppress(PermissionError):  # of a session's leader, when it has waited
        os.setpgid(0, os.getpgrp())


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
    return pending(pid, signal.SIGCONT)
