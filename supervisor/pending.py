"""Which signals a thread has to take, by /proc, and whether any of them means that it is to end what it is about.

A file operation that waits for the pod is not interrupted by signals, as on a local disk. But who wants to be rid of a program
whose pod does not answer must not have to wait for the pod.
"""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

_PF_EXITING = 0x4
_FLAGS, _EXIT_CODE = 6, 49
"""Fields of /proc/PID/stat behind the program's name."""

_IS_X86 = os.uname().machine == "x86_64"
_READING = frozenset((b"0", b"17", b"19", b"295", b"327") if _IS_X86 else (b"63", b"65", b"67", b"69", b"286"))
"""read(2), pread(2), readv(2), preadv(2), preadv2(2)."""


def _mask(*numbers: int) -> int:
    return sum(1 << number - 1 for number in numbers)


_KILL = _mask(signal.SIGKILL)
_HARMLESS = _mask(
    signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH,
    signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU,
)  # fmt: skip
_ENDING = _mask(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP)


class Pending(NamedTuple):
    """`is_killed`: it runs no instruction of its own any more, or is gone.

    `is_ending`: it has a signal to take that ends it, though a tracer may see to it that it does not. `is_asked`: it has a
    handler for a signal by which users get rid of programs: SIGINT, SIGTERM, SIGQUIT, SIGHUP.
    """

    is_killed: bool = False
    is_ending: bool = False
    is_asked: bool = False


NOTHING = Pending()


class Signals(NamedTuple):
    """What /proc/TID/status says of a thread. `own`, `shared`: pending for it, and for its process."""

    state: bytes
    own: int
    shared: int
    blocked: int
    ignored: int
    caught: int


def signals_of(tid: int) -> Signals:
    """OSError if the thread has gone, or may not be looked at."""
    with open(f"/proc/{tid}/status", "rb") as status:
        fields = {line[:6]: line.split()[1] for line in status if line.startswith((b"Sig", b"Shd", b"State"))}
    names = (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt")
    return Signals(fields[b"State:"], *(int(fields[name], 16) for name in names))


def pending_of(tid: int, blocked: int | None = None) -> Pending:
    """What waits for a thread. `blocked`: its own signal mask, where it has another one for the moment."""
    try:
        signals = signals_of(tid)
    except (FileNotFoundError, ProcessLookupError):
        return Pending(is_killed=tid > 0)
    except OSError:
        return NOTHING
    waiting = signals.own | signals.shared
    taken = waiting & ~(signals.blocked if blocked is None else blocked) & ~signals.ignored
    is_killed = bool(waiting & _KILL) or signals.state in (b"Z", b"X")
    return Pending(is_killed, bool(taken & ~signals.caught & ~_HARMLESS), bool(taken & signals.caught & _ENDING))


def is_dying_of_a_signal(tid: int) -> bool:
    """Whether the thread is on its way out because of a signal: the kernel closes its files."""
    try:
        with open(f"/proc/{tid}/stat", "rb") as stat:
            fields = stat.read().rpartition(b")")[2].split()
    except OSError:
        return False
    return bool(int(fields[_FLAGS]) & _PF_EXITING and int(fields[_EXIT_CODE]) & 0x7F)


def is_reading(tid: int) -> bool:
    """Whether the thread is in a read(2), as far as we may know: not in a page fault, which cannot fail for a while."""
    try:
        with open(f"/proc/{tid}/syscall", "rb") as call:
            return call.read().split()[0] in _READING
    except OSError:
        return False
