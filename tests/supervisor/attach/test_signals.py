"""Which signals to the tool end it, and which do nothing."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from attaching import until
from mirrord_trace.supervisor.attach.signals import EndSignals
from rig import apart


@apart
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_that_end(number: int) -> None:
    ended = threading.Event()
    _taking(ended, threading.Event())
    os.kill(os.getpid(), number)
    assert ended.wait(10)


@apart
def test_signals_that_do_not() -> None:
    ended, ticked = threading.Event(), threading.Event()
    signals = _taking(ended, ticked)
    for number in (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
        os.kill(os.getpid(), number)
    until(lambda: not signal.sigpending())
    assert ticked.wait(10)
    signals.stop()
    assert not ended.is_set()


def _taking(ended: threading.Event, ticked: threading.Event) -> EndSignals:
    EndSignals.block()
    signals = EndSignals(ended.set, ticked.set)
    signals.start()
    return signals
