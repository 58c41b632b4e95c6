"""Wakes the tracer out of waitpid(2).

The tracer sleeps in waitpid for the next stop of any tracee; nothing but a child's change of state ends that sleep
without a race. So there is a child whose state anybody of the same user can change: it only pauses, the tracer is its
tracer too, and a SIGUSR1 sent to it shows up as one more stop. Several rings before the tracer looks are one ring.

It is a witness as well: it belongs to the tool's process group and nobody else knows it, so a signal that both the tool
and the doorbell get was sent to the whole group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal

from ..errors import UsageError
from ..forking import fork
from . import ptrace

_PR_SET_PDEATHSIG = 1
RING = signal.SIGUSR1

# si_code of signals that a process has sent; the kernel's own (from the terminal) have others.
SI_USER = 0
SI_QUEUE = -1
SI_TKILL = -6
SENT = (SI_USER, SI_QUEUE, SI_TKILL)

FORBIDDEN = (
    "the kernel forbids tracing: mirrord-trace itself runs under a tracer (strace, gdb, mirrord-trace), Yama's "
    "ptrace_scope is 3, or a sandbox has no ptrace; see mirrord-trace doctor"
)


class Doorbell:
    """A process that exists to be rung; the tracer must be the thread that creates it."""

    def __init__(self) -> None:
        self._noticed: set[int] = set()
        self._foretold: set[int] = set()
        ready, done = os.pipe()
        parent = os.getpid()
        self.pid = fork()
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
        self._listen()

    def _listen(self) -> None:
        # From now on every signal is a stop, at which it is taken away, so that none can do anything to the process.
        self.ring()
        os.waitpid(self.pid, ptrace.WALL)
        ptrace.set_signal_mask(self.pid, 0)
        self.answered()

    def notice(self, number: int) -> None:
        """At a stop by another signal than RING: remember it if some process has sent it."""
        if number in self._foretold:
            self._foretold.discard(number)
        elif ptrace.signal_code(self.pid) in SENT:
            self._noticed.add(number)

    def has_got(self, number: int) -> bool:
        """At a ring: whether a signal that the tool got was sent to its whole process group. Asked once for each signal.

        Never so for RING itself, which does not tell who has sent it.
        """
        was_noticed = number in self._noticed
        self._noticed.discard(number)
        is_pending = number != RING and pending(self.pid, number)
        if is_pending:
            self._foretold.add(number)
        return was_noticed or is_pending

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


def pending(pid: int, number: int) -> bool:
    """Whether a signal to the process waits to be taken, by it or by its tracer."""
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            masks = [int(line.split()[1], 16) for line in status if line.startswith(b"ShdPnd:")]
    except OSError:
        return False
    return any(mask >> number - 1 & 1 for mask in masks)


def _pause_for_ever(done: int, parent: int) -> None:
    # Every signal but the ring is blocked until the tracer is there to take it.
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
