"""The tool's own signals while it supervises a process that is not its child: all that end programs ask it to let go.

As in tracer/own_signals.py they are blocked and taken by one thread. Ctrl-Z does nothing, since a stopped tracer would
stop the programs that it traces.
"""

from __future__ import annotations

import signal
from collections.abc import Callable

from ..tracer.own_signals import TakenSignals

_ENDING = frozenset({signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM})


class EndSignals(TakenSignals):
    """Calls `end` at each that ends programs."""

    taken = _ENDING | {signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH}

    def __init__(self, end: Callable[[], None], tick: Callable[[], None]) -> None:
        super().__init__(tick)
        self._end = end

    def _got(self, taken: signal.struct_siginfo) -> None:
        if taken.si_signo in _ENDING:
            self._end()
