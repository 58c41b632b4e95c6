"""A process in the tool's group that nobody else knows: a signal that it gets, too, was sent to the whole group.

As tracer/doorbell.py, without a tracer: it takes all signals and tells those that some process has sent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from typing import NoReturn

from ..forking import fork
from ..tracer.doorbell import SENT

_PR_SET_PDEATHSIG = 1

_ASK = signal.SIGRTMAX
"""From the supervisor: answer, once all signals that came before have been told. The kernel hands out lower ones first."""

_ANSWER = 0


class Witness:
    """The process; `remove` ends it, and so does the supervisor's death. UsageError if there may be no further process."""

    def __init__(self) -> None:
        self._noticed: set[int] = set()
        read, write = os.pipe()
        self._told = open(read, "rb", buffering=0)  # noqa: SIM115
        parent = os.getpid()
        self.pid = fork()
        if self.pid == 0:
            _watch(write, parent)
        os.close(write)
        self._told.read(1)  # from now on it takes signals

    def has_got(self, number: int) -> bool:
        """Whether a signal that the tool got was sent to its whole process group. Asked once for each signal.

        Waits for the answer, which takes a moment; if somebody has killed the witness, there is none, and it is False.
        """
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)  # the whole group may have been stopped, and the tool alone continued
            os.kill(self.pid, _ASK)
        while told := self._told.read(1):
            if told[0] == _ANSWER:
                break
            self._noticed.add(told[0])
        has_got = number in self._noticed
        self._noticed.discard(number)
        return has_got

    def remove(self) -> None:
        """End the process and reap it."""
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        self._told.close()


def _watch(told: int, parent: int) -> NoReturn:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.dup2(told, 3)
        os.closerange(0, 3)
        os.closerange(4, 1 << 16)
        os.write(3, bytes([_ANSWER]))
        while os.getppid() == parent:
            taken = signal.sigwaitinfo(signal.valid_signals())
            if taken.si_signo == _ASK:
                os.write(3, bytes([_ANSWER]))
            elif taken.si_code in SENT and taken.si_pid != parent:
                os.write(3, bytes([taken.si_signo]))
    finally:
        os._exit(0)
