"""The process between the supervisor and the program: it sees that nothing of the program outlives the supervisor.

Without a supervisor the calls that a filter selects fail with ENOSYS. So the program is started by this process, to which
everything that loses its parent comes (PR_SET_CHILD_SUBREAPER), and which the kernel tells of the supervisor's death
(PR_SET_PDEATHSIG): then it kills all that descends from it, until nothing is left. It also waits for the program, tells
the supervisor how it stops and ends, and ends itself when no descendant is left.

It has a session of its own, lest a SIGKILL to the tool's whole process group ends it as well, and lest it keeps that group
from being an orphaned one (credentials(7)) when the shell has ended. It takes no signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable
from typing import NoReturn

from ..descendants import children, descendants
from ..forking import fork, limited

NAME = "mirrord-guard"
"""Of the process, by which others know that what descends from it is supervised, though it has no tracer."""

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36
_WALL = 0x40000000
_EVENTS_FD = 3

DEATH = signal.SIGRTMAX
"""What the kernel sends when the supervisor has died, and the supervisor to have the rest killed."""

_PAUSE_S = 0.01


def start_guard(program: Callable[[], NoReturn]) -> tuple[int, int, int]:
    """Start the guard, and by it `program` (run in the first process). Returns the guard's pid, the program's, and a pipe.

    On the pipe come the program's wait statuses, one a line; its end is the end of the last descendant. UsageError if
    there may be no further process.
    """
    events, told = os.pipe()
    supervisor = os.getpid()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard = fork()
    if guard == 0:
        _guard(program, told, supervisor)
    os.close(told)
    line = b""
    while (piece := os.read(events, 1)) not in (b"", b"\n"):
        line += piece
    if not line:
        os.close(events)
        os.waitpid(guard, 0)
        raise limited()
    return guard, int(line), events


def end_guard(guard: int, ours: set[int]) -> None:
    """Have the guard kill all that is left, and wait until it has. Does nothing if it has been reaped already.

    If somebody has killed the guard, what it had comes to the supervisor, as the next subreaper, and is killed here:
    all children of this process that are not `ours`.
    """
    with contextlib.suppress(ChildProcessError):
        pid, status = os.waitpid(guard, os.WNOHANG)
        if pid == 0:
            os.kill(guard, DEATH)
            _, status = os.waitpid(guard, 0)
        while os.WIFSIGNALED(status) and (left := children(os.getpid()) - ours):
            for pid in left:
                for each in (pid, *descendants(pid)):
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(each, signal.SIGKILL)
                os.waitpid(pid, _WALL)


def _guard(program: Callable[[], NoReturn], told: int, supervisor: int) -> NoReturn:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, int(DEATH), 0, 0, 0)
        first = os.fork()
        if first == 0:
            os.close(told)
            program()
        os.setsid()
        os.dup2(told, _EVENTS_FD)
        os.closerange(_EVENTS_FD + 1, 1 << 20)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.close(null)
        _tell(b"%d" % first)
        _watch(first, supervisor)
    finally:
        os._exit(0)


def _watch(first: int, supervisor: int) -> None:
    while _reap(first, supervisor):
        # It may have died before it could be told of.
        if os.getppid() != supervisor or signal.sigwaitinfo({signal.SIGCHLD, DEATH}).si_signo == DEATH:
            _kill_all()
            return


def _reap(first: int, supervisor: int) -> bool:
    # False: no descendant is left.
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED | _WALL)
        except ChildProcessError:
            return False
        if pid == 0:
            return True
        if pid == first:
            _tell(b"%d" % status)
            if os.WIFCONTINUED(status) and os.getppid() == supervisor:
                os.kill(supervisor, signal.SIGCONT)  # it has stopped with the program


def _tell(line: bytes) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(_EVENTS_FD, line + b"\n")


def _kill_all() -> None:
    own = os.getpid()
    while True:
        for pid in descendants(own):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG | _WALL)[0]:
                continue
        except ChildProcessError:
            return
        time.sleep(_PAUSE_S)
