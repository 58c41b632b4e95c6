"""What a wait status means: every status of waitpid(2) under PTRACE_SEIZE is exactly one of these stops.

Each class says how the tracee is restarted from it. `classify` is pure; equal statuses give the same object, so the
hot path costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from . import ptrace

STOPPING_SIGNALS = frozenset({signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU})


@dataclass(frozen=True)
class SeccompStop:
    """PTRACE_EVENT_SECCOMP: before a call that the filter selects. PTRACE_CONT runs it; PTRACE_SYSCALL stops at its exit."""


@dataclass(frozen=True)
class SyscallStop:
    """Syscall-entry or -exit stop, after PTRACE_SYSCALL. PTRACE_CONT."""


@dataclass(frozen=True)
class SignalDeliveryStop:
    """`signal` is about to be delivered. PTRACE_CONT with that number delivers it, with 0 it is lost."""

    signal: int


@dataclass(frozen=True)
class GroupStop:
    """The process was stopped by `signal`. PTRACE_LISTEN keeps it stopped until SIGCONT."""

    signal: int


@dataclass(frozen=True)
class TrapStop:
    """PTRACE_EVENT_STOP with SIGTRAP: a new task's first stop, the end of a group-stop, or PTRACE_INTERRUPT. PTRACE_CONT."""


@dataclass(frozen=True)
class ExecStop:
    """PTRACE_EVENT_EXEC: the new program is in place, nothing of it has run. PTRACE_CONT."""


@dataclass(frozen=True)
class NewTaskStop:
    """PTRACE_EVENT_FORK, VFORK or CLONE, in the parent: the event message is the new tid. PTRACE_CONT."""

    event: int


@dataclass(frozen=True)
class Ended:
    """The task is gone (reaped by this wait): exit code, or the signal that killed it, and whether core was dumped."""

    exit_code: int
    signal: int
    core: bool


Stop = SeccompStop | SyscallStop | SignalDeliveryStop | GroupStop | TrapStop | ExecStop | NewTaskStop | Ended

_known: dict[int, Stop] = {}


def classify(status: int) -> Stop:
    """The stop that a wait status reports."""
    stop = _known.get(status)
    if stop is None:
        stop = _known[status] = _classify(status)
    return stop


def _classify(status: int) -> Stop:
    if os.WIFEXITED(status):
        return Ended(os.WEXITSTATUS(status), 0, False)
    if os.WIFSIGNALED(status):
        return Ended(-1, os.WTERMSIG(status), os.WCOREDUMP(status))
    number = os.WSTOPSIG(status) & 0xFF
    event = status >> 16
    if event == ptrace.EVENT_SECCOMP:
        return SeccompStop()
    if event == ptrace.EVENT_STOP:
        return GroupStop(number) if number in STOPPING_SIGNALS else TrapStop()
    if event == ptrace.EVENT_EXEC:
        return ExecStop()
    if event in (ptrace.EVENT_FORK, ptrace.EVENT_VFORK, ptrace.EVENT_CLONE):
        return NewTaskStop(event)
    if number == signal.SIGTRAP | 0x80:
        return SyscallStop()
    return SignalDeliveryStop(number)


SECCOMP_STATUS = ptrace.EVENT_SECCOMP << 16 | signal.SIGTRAP << 8 | 0x7F
"""The wait status of every seccomp stop, for the hot path."""

SYSCALL_STATUS = (signal.SIGTRAP | 0x80) << 8 | 0x7F
"""The wait status of every syscall stop, for the hot path of `supervisor/attach`."""
