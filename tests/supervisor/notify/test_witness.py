"""Who else gets a signal that the tool gets."""

from __future__ import annotations

import os
import signal

from mirrord_trace.supervisor.notify.witness import Witness
from rig import apart


def _sent(pid: int, *numbers: int) -> None:
    """By a process that is not the supervisor."""
    if os.fork() == 0:
        for number in numbers:
            os.kill(pid, number)
        os._exit(0)
    os.wait()


@apart
def test_each_signal_is_told_once() -> None:
    witness = Witness()
    assert os.getpgid(witness.pid) == os.getpgrp()
    _sent(witness.pid, signal.SIGTERM, signal.SIGHUP)
    assert not witness.has_got(signal.SIGINT)
    assert witness.has_got(signal.SIGTERM)
    assert witness.has_got(signal.SIGHUP)
    assert not witness.has_got(signal.SIGHUP)
    witness.remove()


@apart
def test_stopped_with_the_group_and_then_killed() -> None:
    witness = Witness()
    _sent(witness.pid, signal.SIGSTOP, signal.SIGTERM)
    assert witness.has_got(signal.SIGTERM)
    _sent(witness.pid, signal.SIGKILL)
    assert not witness.has_got(signal.SIGTERM)
    witness.remove()
