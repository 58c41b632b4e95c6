"""fork(2) and threads where the limit of processes may be reached: one line instead of an internal error."""

from __future__ import annotations

import os
import threading

from .errors import UsageError

_LIMITED = "cannot start a further {}: the limit of processes is reached (ulimit -u, or the pids cgroup)"


def limited(what: str = "process") -> UsageError:
    """What to raise where the kernel allows no further process, or thread."""
    return UsageError(_LIMITED.format(what))


def fork() -> int:
    """fork(2). UsageError if there may be no further process."""
    try:
        return os.fork()
    except BlockingIOError:  # EAGAIN
        raise limited() from None


def start(thread: threading.Thread) -> None:
    """Start a thread. UsageError if there may be none."""
    try:
        thread.start()
    except RuntimeError:
        raise limited("thread") from None
