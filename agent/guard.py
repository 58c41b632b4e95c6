"""A parent that outlives the worker: clean-up after the worker was killed, and the duties of a container's init.

    guard ──fork──> worker (everything else)

The worker may die at any instruction (SIGKILL, out of memory). Rules that the kernel does not tie to it by itself are
then removed by the guard, which does next to nothing and so has little to die of. If the guard is the one that is
killed, the worker gets SIGTERM (PR_SET_PDEATHSIG) and cleans up itself. As process 1 of a container the guard also
reaps what gets orphaned there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from types import FrameType
from typing import Callable, Optional

from . import kernel

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GRACE_S = 5


def run_guarded(work: Callable[[], int], cleanup: Callable[[], None], detach: Callable[[], None]) -> int:
    """Run `work` in a child, then `cleanup` here unless it returned 0; the child's exit status (128 + N after signal N).

    `detach` is called here at once: it closes this process's copies of the worker's sockets, which would otherwise keep
    connections open that the worker has closed. SIGTERM is passed on to the worker; SIGINT and SIGHUP are ignored, they
    are meant for people's programs.
    """
    # Until each side has its handlers, signals wait.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    guard_pid = os.getpid()
    worker = os.fork()
    if worker == 0:
        _become_worker(guard_pid, work)
    detach()
    kernel.set_process_name(b"mirrord-guard")
    _install_handlers(worker)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)
    status = _wait(worker)
    if status != 0:
        cleanup()
    return status


def _become_worker(guard_pid: int, work: Callable[[], int]) -> None:
    status = 1
    try:
        kernel.set_parent_death_signal(signal.SIGTERM)
        kernel.set_process_name(b"mirrord-agent")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # `work` unblocks SIGTERM when it can handle it. If the guard was gone before the prctl, there is nobody to
        # work for.
        if os.getppid() == guard_pid:
            status = work()
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _install_handlers(worker: int) -> None:
    def end(number: int, frame: Optional[FrameType]) -> None:
        _kill(worker, signal.SIGTERM)
        signal.alarm(_GRACE_S)

    def kill(number: int, frame: Optional[FrameType]) -> None:
        _kill(worker, signal.SIGKILL)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGALRM, kill)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _kill(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _wait(worker: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == worker:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)
