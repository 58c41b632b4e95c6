"""Ways into the mounted pod tree for programs that have become somebody else: nginx's workers, sandboxes.

The tree is reached through /proc/PID/fd/N of the supervisor, and the kernel lets a thread follow that link only if it might
trace the process PID (ptrace(2), "Ptrace access mode checking"): the same user in the same user namespace, and no fewer
capabilities. So for everybody else there is a door, a child process that is that user in that namespace, has no capability,
holds the same descriptor and does nothing else. Another user takes root; a user namespace takes what made it, which is
the same user or root.

Only a call that has failed leads here, since most programs need no door; from then on the process is known to need it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import struct
from collections.abc import Callable
from typing import NamedTuple

from ...syscalls.mount import Mount
from ...syscalls.task import Credentials, Task
from .tracee import credentials_of

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_CLONE_NEWUSER = 0x10000000
_CAPABILITY_VERSION_3 = 0x20080522
_HELD_FD = 3


class User(NamedTuple):
    """For whom one door is. `namespace`: inode of the user namespace."""

    uid: int
    gid: int
    namespace: int


class Doors:
    """The doors of a session. Implements `syscalls.context.Doors`."""

    def __init__(self, mount: Mount, root_fd: int, start: Callable[[int, User, int], int] | None = None) -> None:
        self._mount = mount
        self._root_fd = root_fd
        self._own = credentials_of(os.getpid())
        self._doors: dict[User, int] = {}
        self._users: dict[int, User] = {}
        """tgid -> as which user it needs a door."""
        self._start = start or open_door

    def prefix(self, task: Task) -> bytes:
        """See `syscalls.context.Doors.prefix`."""
        user = self._users.get(task.tgid)
        return self._mount.prefix if user is None else self._path(user)

    def other(self, task: Task) -> bytes:
        """See `syscalls.context.Doors.other`. A process that has become its old self again gets its old way back.

        Waits for the start of a door, some milliseconds, once for each user.
        """
        credentials = task.credentials()
        if self._may_look_at_us(credentials):
            return self._mount.prefix if self._users.pop(task.tgid, None) is not None else b""
        user = User(credentials.uid, credentials.gid, credentials.user_namespace)
        if self._users.get(task.tgid) == user:
            return b""
        if user not in self._doors:
            pid = self._start(self._root_fd, user, task.tid)
            if pid <= 0:
                return b""
            self._doors[user] = pid
        self._users[task.tgid] = user
        return self._path(user)

    def _may_look_at_us(self, credentials: Credentials) -> bool:
        lacking = self._own.permitted & ~credentials.permitted
        return credentials._replace(permitted=0) == self._own._replace(permitted=0) and not lacking

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


def open_door(root_fd: int, user: User, tid: int) -> int:
    """Start a door for this user, who is that of the thread `tid`; returns its pid, or 0 if it could not become that user."""
    ready, done = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _stand(root_fd, user, tid, done, parent)
    os.close(done)
    is_open = os.read(ready, 1) == b"."
    os.close(ready)
    if not is_open:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)
        return 0
    return pid


def _stand(root_fd: int, user: User, tid: int, done: int, parent: int) -> None:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, set(signal.valid_signals()))
        libc = ctypes.CDLL(None)
        # Out of the way first: any of them may be the number that is wanted.
        held, done = fcntl.fcntl(root_fd, fcntl.F_DUPFD, 10), fcntl.fcntl(done, fcntl.F_DUPFD, 10)
        os.dup2(held, _HELD_FD)
        _become(libc, user, tid)
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


def _become(libc: ctypes.CDLL, user: User, tid: int) -> None:
    if os.stat("/proc/self/ns/user").st_ino != user.namespace:
        namespace = os.open(f"/proc/{tid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        if libc.setns(namespace, _CLONE_NEWUSER):
            raise PermissionError
        # /proc tells a reader everybody's numbers as they are in the reader's namespace.
        user = User(*credentials_of(tid)[:2], user.namespace)
    # Who may be forbidden to (setgroups in user_namespaces(7)) keeps what does not matter to the kernel here.
    with contextlib.suppress(PermissionError):
        os.setgroups([])
    if os.getresgid() != (user.gid,) * 3:
        os.setresgid(user.gid, user.gid, user.gid)
    if os.getresuid() != (user.uid,) * 3:
        os.setresuid(user.uid, user.uid, user.uid)
    if libc.capset(struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24)):
        raise PermissionError
