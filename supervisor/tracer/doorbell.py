"""Wakes the tracer out of waitpid(2).

The tracer sleeps in waitpid for the next stop of any tracee; nothing but a child's change of state ends that sleep
without a race. So there is a child whose state anybody of the same user can change: it only pauses, the tracer is its
tracer too, and a SIGUSR1 sent to it shows up as one more stop. Several rings before the tracer looks are one ring.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

from ..errors import UsageError
from . import ptrace

_PR_SET_PDEATHSIG = 1
RING = signal.SIGUSR1


FORBIDDEN = (
    "the kernel forbids tracing: mirrord-trace itself runs under a tracer (strace, gdb, mirrord-trace), Yama's "
    "ptrace_scope is 3, or a sandbox has no ptrace; see mirrord-trace doctor"
)


class Doorbell:
    """A process that exists to be rung; the tracer must be the thread that creates it."""

    def __init__(self) -> None:
        ready, done = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            _pause_for_ever(done, parent)
        os.close(done)
        os.read(ready, 1)
        os.close(ready)
        try:
            ptrace.seize(self.pid, ptrace.OPTION_EXITKILL)
        except PermissionError:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, ptrace.WALL)
            raise UsageError(FORBIDDEN) from None

    def ring(self) -> None:
        """Make the tracer's waitpid return. Any thread or process of the same user; never blocks."""
        ring(self.pid)

    def answered(self) -> None:
        """After the stop: let it pause again."""
        ptrace.cont(self.pid)

    def remove(self) -> None:
        """End the process and reap it."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):  # somebody else may have killed it
            os.kill(self.pid, signal.SIGKILL)
            # A ring that nobody has answered may be reported first.
            while not _has_ended(os.waitpid(self.pid, ptrace.WALL)[1]):
                continue


def _has_ended(status: int) -> bool:
    return os.WIFEXITED(status) or os.WIFSIGNALED(status)


def ring(pid: int) -> None:
    """Ring the doorbell process `pid`; nothing happens if it has gone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, RING)


def _pause_for_ever(done: int, parent: int) -> None:
    # Every signal but the ring is blocked: terminal signals reach the whole process group, this one included.
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, set(signal.valid_signals()) - {RING})
        signal.signal(RING, signal.SIG_DFL)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.dup2(done, 3)
        os.closerange(0, 3)
        os.write(3, b".")
        os.closerange(3, 1 << 16)
        while os.getppid() == parent:
            signal.pause()
    finally:
        os._exit(0)
