"""Ways into the mounted pod tree for programs that have become another user (nginx's workers).

The tree is reached through /proc/PID/fd/N of the supervisor, and the kernel lets a thread follow that link only if it might
trace the process PID: the same user, and no more privileges. So for each further user there is a door, a child process that
is that user, holds the same descriptor and does nothing else. That takes root, without which no program can have become
another user under supervision.

Only a call that has failed leads here, since most users need no door; from then on the process is known to need it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
from collections.abc import Callable

from ...syscalls.mount import Mount
from ...syscalls.task import Task

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_HELD_FD = 3

User = tuple[int, int]


class Doors:
    """The doors of a session, by uid and gid. Implements `syscalls.context.Doors`."""

    def __init__(self, mount: Mount, root_fd: int, start: Callable[[int, User], int] | None = None) -> None:
        self._mount = mount
        self._root_fd = root_fd
        self._own = (os.geteuid(), os.getegid())
        self._doors: dict[User, int] = {}
        self._users: dict[int, User] = {}
        """tgid -> as which user it needs a door."""
        self._start = start or open_door

    def prefix(self, task: Task) -> bytes:
        """See `syscalls.context.Doors.prefix`."""
        user = self._users.get(task.tgid)
        return self._mount.prefix if user is None else self._path(user)

    def other(self, task: Task) -> bytes:
        """See `syscalls.context.Doors.other`. A process that has become its old self again gets its old way back."""
        user = task.credentials()
        if user == self._own:
            return self._mount.prefix if self._users.pop(task.tgid, None) is not None else b""
        if self._users.get(task.tgid) == user:
            return b""
        if user not in self._doors:
            pid = self._start(self._root_fd, user)
            if pid <= 0:
                return b""
            self._doors[user] = pid
        self._users[task.tgid] = user
        return self._path(user)

    def close(self) -> None:
        """End all doors."""
        for pid in self._doors.values():
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        self._doors.clear()
        self._users.clear()

    def _path(self, user: User) -> bytes:
        return b"/proc/%d/fd/%d" % (self._doors[user], _HELD_FD)


def open_door(root_fd: int, user: User) -> int:
    """Start a door for this user; returns its pid, or 0 if it could not become that user."""
    ready, done = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _stand(root_fd, user, done, parent)
    os.close(done)
    is_open = os.read(ready, 1) == b"."
    os.close(ready)
    if not is_open:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return 0
    return pid


def _stand(root_fd: int, user: User, done: int, parent: int) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, set(signal.valid_signals()))
        libc = ctypes.CDLL(None)
        # Out of the way first: any of them may be the number that is wanted.
        held, done = fcntl.fcntl(root_fd, fcntl.F_DUPFD, 10), fcntl.fcntl(done, fcntl.F_DUPFD, 10)
        os.dup2(held, _HELD_FD)
        os.setgroups([])
        os.setresgid(user[1], user[1], user[1])
        os.setresuid(user[0], user[0], user[0])
        # Both are reset by the change of user.
        libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        os.write(done, b".")
        os.closerange(0, _HELD_FD)
        os.closerange(_HELD_FD + 1, 1 << 16)
        while os.getppid() == parent:
            signal.pause()
    finally:
        os._exit(0)
