from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from mirrord_trace.supervisor.pending import NOTHING, Pending, is_dying_of_a_signal, is_reading, pending_of

_HELD_BACK = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
signal.signal(signal.SIGINT, lambda number, frame: None)
signal.signal(signal.SIGUSR1, lambda number, frame: None)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
print("ready", flush=True)
input()
"""

Held = subprocess.Popen[bytes]


@pytest.fixture
def held() -> Iterator[Held]:
    """A process that blocks all signals; it has handlers for SIGINT and SIGUSR1, and ignores SIGHUP."""
    with subprocess.Popen([sys.executable, "-c", _HELD_BACK], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


@pytest.mark.parametrize(
    ("number", "pending"),
    [
        (signal.SIGINT, Pending(is_asked=True)),
        (signal.SIGTERM, Pending(is_ending=True)),
        (signal.SIGUSR2, Pending(is_ending=True)),
        (signal.SIGUSR1, NOTHING),
        (signal.SIGHUP, NOTHING),
        (signal.SIGURG, NOTHING),
        (signal.SIGCHLD, NOTHING),
    ],
)
def test_what_a_signal_means(held: Held, number: int, pending: Pending) -> None:
    os.kill(held.pid, number)
    assert pending_of(held.pid) == NOTHING, "it blocks them"
    assert pending_of(held.pid, blocked=0) == pending
    assert pending_of(held.pid, blocked=1 << number - 1) == NOTHING


def test_who_is_gone_is_killed(held: Held) -> None:
    assert pending_of(held.pid) == NOTHING
    held.kill()
    os.waitid(os.P_PID, held.pid, os.WEXITED | os.WNOWAIT)
    assert pending_of(held.pid).is_killed, "a zombie"
    held.wait()
    assert pending_of(held.pid).is_killed
    assert pending_of(0) == NOTHING, "nobody whom we could see"


@pytest.mark.parametrize(
    ("end", "is_of_a_signal"), [(lambda held: held.terminate(), False), (lambda held: held.kill(), True)]
)
def test_who_is_dying_of_a_signal(held: Held, end: Callable[[Held], None], is_of_a_signal: bool) -> None:
    assert not is_dying_of_a_signal(held.pid)
    end(held)
    if not is_of_a_signal:
        assert held.stdin is not None
        held.stdin.close()  # it ends by itself
    os.waitid(os.P_PID, held.pid, os.WEXITED | os.WNOWAIT)
    assert is_dying_of_a_signal(held.pid) == is_of_a_signal
    held.wait()
    assert not is_dying_of_a_signal(held.pid)


def test_who_is_in_a_read(held: Held) -> None:
    try:
        with open(f"/proc/{held.pid}/syscall", "rb") as call:
            call.read()
    except PermissionError:
        pytest.skip("this needs a look at another process's call (Yama ptrace_scope)")
    while not is_reading(held.pid):  # the test's time limit ends this
        pass
    assert not is_reading(1 << 30)
