"""A supervised thread: what the kernel calls a task, seen from its tracer. Implements `syscalls.task.Task`."""

from __future__ import annotations

import ctypes
import errno
import os
from os import pread
from typing import TYPE_CHECKING

from ...syscalls.abi.flags import AT_FDCWD
from ...syscalls.actions import OutOfReach, SyscallError
from ...syscalls.task import Credentials
from ...syscalls.views import View
from ..errors import TraceeGone
from ..pending import signals_of
from . import look
from .space import SHORT_STRING_BYTES, AddressSpace

if TYPE_CHECKING:
    from .call import ActiveCall

_SYS_PIDFD_OPEN = 434
_SYS_PIDFD_GETFD = 438
_PIDFD_THREAD = os.O_EXCL

_libc = ctypes.CDLL(None, use_errno=True)


def duplicate_of(tgid: int, fd: int) -> int:
    """pidfd_getfd(2) of a process that need not be stopped; OSError as the kernel's."""
    pidfd = os.pidfd_open(tgid)
    try:
        copy = _syscall(_SYS_PIDFD_GETFD, pidfd, ctypes.c_int(fd).value, 0)
    finally:
        os.close(pidfd)
    if copy < 0:
        raise OSError(-copy, os.strerror(-copy))
    return copy


def credentials_of(tid: int) -> Credentials:
    """See `Task.credentials`. Raises TraceeGone."""
    try:
        with open(f"/proc/{tid}/status", "rb") as status:
            fields = dict(line.split(b":", 1) for line in status if line.startswith((b"Uid:", b"Gid:", b"CapPrm:")))
        namespace = os.stat(f"/proc/{tid}/ns/user").st_ino
    except PermissionError:  # it has closed itself (PR_SET_DUMPABLE)
        namespace = 0
    except OSError:
        raise TraceeGone(tid) from None
    return Credentials(int(fields[b"Uid"].split()[3]), int(fields[b"Gid"].split()[3]), int(fields[b"CapPrm"], 16), namespace)


class Process:
    """What the threads of one thread group share."""

    def __init__(self, tgid: int, space: AddressSpace, programs: dict[int, bytes] | None = None) -> None:
        self.tgid = tgid
        self.space = space
        self.programs = programs if programs is not None else {}
        """See `Tree.programs`."""
        self.next_program = b""
        """What `programs` is to have for this process once its execve(2) has succeeded."""
        self.traps: frozenset[str] = frozenset()
        """Calls that stop by filters added later (see driver, `Trap`)."""
        self.is_skipped = False
        """Whether its calls are let through untouched (skipping.py). Known before it has any thread."""


class Tracee:
    """One task. Slots only: there may be thousands, and the loop touches one at every stop."""

    __slots__ = ("call", "is_skipped", "process", "space", "tgid", "tid")

    def __init__(self, tid: int, process: Process) -> None:
        self.tid = tid
        self.tgid = process.tgid
        self.process = process
        self.space = process.space
        self.is_skipped = process.is_skipped
        self.call: ActiveCall | None = None

    def read(self, address: int, size_bytes: int) -> bytes:
        """See `Task.read`."""
        return self.space.read(self.tid, address, size_bytes)

    def read_string(self, address: int, limit: int = 4096) -> bytes:
        """See `Task.read_string`. Almost every stop reads one short path, hence the way round `AddressSpace`."""
        memory = self.space.memory
        if memory >= 0 and limit >= SHORT_STRING_BYTES:
            try:
                content = pread(memory, SHORT_STRING_BYTES, address)
            except (OSError, OverflowError):
                raise SyscallError(errno.EFAULT) from None
            end = content.find(0)
            if end >= 0:
                return content[:end]
        return self.space.read_string(self.tid, address, limit)

    def write(self, address: int, content: bytes) -> None:
        """See `Task.write`."""
        self.space.write(self.tid, address, content)

    def file_key(self, fd: int) -> tuple[int, int] | None:
        """See `Task.file_key`."""
        return look.file_key(b"/proc/%d/fd/%d" % (self.tid, fd))

    def duplicate(self, fd: int) -> int:
        """See `Task.duplicate`: pidfd_getfd(2).

        The pidfd names this thread (PIDFD_THREAD, Linux 6.9), which also works once the group leader has exited;
        older kernels only have process pidfds.
        """
        pidfd = _syscall(_SYS_PIDFD_OPEN, self.tid, _PIDFD_THREAD)
        if pidfd < 0:
            pidfd = _syscall(_SYS_PIDFD_OPEN, self.tgid, 0)
        if pidfd == -errno.ESRCH:
            raise TraceeGone(self.tid)
        if pidfd < 0:
            raise OutOfReach(-pidfd)
        try:
            copy = _syscall(_SYS_PIDFD_GETFD, pidfd, ctypes.c_int(fd).value, 0)
        finally:
            os.close(pidfd)
        if copy < 0:
            if copy == -errno.ESRCH:
                raise TraceeGone(self.tid)
            raise SyscallError(-copy) if copy == -errno.EBADF else OutOfReach(-copy)
        return copy

    def current_directory(self) -> bytes:
        """See `Task.current_directory`."""
        try:
            return os.readlink(f"/proc/{self.tid}/cwd".encode())
        except OSError:
            return b"/"

    def device(self, fd: int) -> int | None:
        """See `Task.device`."""
        return look.device(self._link(fd))

    def may_be_directory(self, fd: int) -> bool:
        """See `Task.may_be_directory`."""
        return look.may_be_directory(self._link(fd))

    def path_of(self, fd: int) -> bytes:
        """See `Task.path_of`."""
        try:
            return os.readlink(self._link(fd))
        except OSError:
            return b""

    def _link(self, fd: int) -> bytes:
        return b"/proc/%d/cwd" % self.tid if fd == AT_FDCWD else b"/proc/%d/fd/%d" % (self.tid, fd)

    def credentials(self) -> Credentials:
        """See `Task.credentials`."""
        return credentials_of(self.tid)

    def has_own(self, view: View) -> bool:
        """See `Task.has_own`."""
        return look.has_own(self.tid, view)

    def program_of(self, pid: int) -> bytes:
        """See `Task.program_of`."""
        return self.process.programs.get(pid, b"")

    def will_execute(self, program: bytes) -> None:
        """See `Task.will_execute`."""
        self.process.next_program = program

    def has_pending_signal(self) -> bool:
        """Whether a signal that would be acted on waits for this (parked) thread."""
        try:
            signals = signals_of(self.tid)
        except OSError:
            return False
        return bool((signals.own | signals.shared) & ~signals.blocked & ~signals.ignored)


def _syscall(*arguments: int) -> int:
    result = int(_libc.syscall(*arguments))
    return result if result >= 0 else -ctypes.get_errno()
