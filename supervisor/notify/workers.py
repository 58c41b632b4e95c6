"""Threads that make calls which may wait for the pod, so that the loop never does.

Each has a working directory and an umask of its own (unshare(CLONE_FS)), to make a call as the thread would make it for
which it is made. They are started as they are needed and kept; the pod's file system bounds how long each call takes.
"""

from __future__ import annotations

import ctypes
import os
import queue
import threading
from collections.abc import Callable

from ..forking import start

_CLONE_FS = 0x200
MOST = 64

_libc = ctypes.CDLL(None, use_errno=True)

Work = Callable[[], None]


class Workers:
    """A pool. Work must not raise."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._count = 0

    def do(self, work: Work) -> None:
        """Have it done by some thread, soon: at once unless there are `MOST` busy ones. Called by one thread only."""
        self._waiting.put(work)
        if self._idle.acquire(blocking=False):
            return
        if self._count < MOST:
            self._count += 1
            start(threading.Thread(target=self._run, name="worker", daemon=True))

    def _run(self) -> None:
        # Even where this is refused: then all relative paths are given as absolute ones (see paths.py).
        _libc.unshare(_CLONE_FS)
        while True:
            self._waiting.get()()
            self._idle.release()


def call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char] | None) -> int:
    """syscall(2): its result or -errno. The GIL is released meanwhile."""
    converted = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(_syscall(number, *converted))
    return result if result != -1 else -ctypes.get_errno()


_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def set_directory(tid: int) -> None:
    """The calling worker's working directory becomes that of the thread `tid`. OSError as it comes."""
    fd = os.open(f"/proc/{tid}/cwd", os.O_PATH | os.O_CLOEXEC)
    try:
        os.fchdir(fd)
    finally:
        os.close(fd)
