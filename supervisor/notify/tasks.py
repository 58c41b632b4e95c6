"""Who makes the calls: threads that nobody has announced, since no event tells of forks, executions and ends.

A thread is looked up by its tid when it makes its first call, and kept until it is found to be gone, or its number to be
another's (`Tasks.recheck`). That a number is used again sooner does not happen: the kernel counts them up.

That a thread is about to execute a program is seen, by its notification; that it has, is not. Only the leader's number may be
another program's then, since the thread that executes takes it and all others die. So a call of the leader's is a new
program's if the thread that called execve(2) is the leader, or is there no more.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from ...syscalls.actions import OutOfReach, SyscallError
from ..descendants import descendants, parent_of, started_at, tasks_of
from ..errors import TraceeGone
from ..pending import signals_of
from ..tracer.space import AddressSpace, read_by_number
from ..tracer.tracee import Process, Tracee
from .skipped import Skipped

if TYPE_CHECKING:
    from .listener import Listener, Notification

R = TypeVar("R")


class CurrentMemory(AddressSpace):
    """The memory that a thread has now. Nothing is kept open: it may have executed another program since the last call."""

    def _read_some(self, tid: int, address: int, size_bytes: int) -> bytes:
        try:
            return read_by_number(tid, address, size_bytes)
        except OutOfReach:
            return self._by_file(tid, os.O_RDONLY, lambda fd: os.pread(fd, size_bytes, address))

    def _write_by_file(self, tid: int, address: int, content: bytes) -> None:
        if self._by_file(tid, os.O_RDWR, lambda fd: os.pwrite(fd, content, address)) < len(content):
            raise SyscallError(errno.EFAULT)

    def _by_file(self, tid: int, flags: int, use: Callable[[int], R]) -> R:
        try:
            fd = os.open(f"/proc/{tid}/mem", flags | os.O_CLOEXEC)
        except (FileNotFoundError, ProcessLookupError):
            raise TraceeGone(tid) from None
        except OSError as error:
            raise OutOfReach(error.errno or errno.EACCES) from None
        try:
            return use(fd)
        except (OSError, OverflowError):
            raise SyscallError(errno.EFAULT) from None
        finally:
            os.close(fd)


class Tasks:
    """The threads by tid, and what their processes run.

    `programs`: tgid -> what the process runs, where /proc/PID/exe says another thing (see `Task.program_of`).
    """

    def __init__(self, guard: int) -> None:
        self.programs: dict[int, bytes] = {}
        self.on_new: Callable[[int], None] = lambda tid: None
        """Called with every tid that is looked up: it may be another program's than before."""
        self.skipped: Skipped | None = None
        """Whose calls are let through untouched; None if nobody's."""
        self._guard = guard
        self._known: dict[int, Tracee] = {}
        self._started: dict[int, int] = {}
        """Tid -> when it was started."""
        self._loaders: dict[int, str] = {}
        self._executing: dict[int, set[int]] = {}
        """tgid -> its threads that have called execve(2), which may not be over."""

    def called(self, note: Notification, listener: Listener) -> Tracee:
        """The thread that waits for the answer to `note`; TraceeGone if it has ended."""
        tid = note.tid
        known = self._known.get(tid)
        if known is not None and (known.tgid not in self._executing or self._is_unconcerned(known)):
            return known
        tgid = known.tgid if known is not None else _group_of(tid)
        callers = self._executing.get(tgid)
        if callers is None:
            return self.get(tid)
        callers.discard(tid)
        callers.intersection_update([caller for caller in callers if os.path.exists(f"/proc/{tgid}/task/{caller}")])
        # Only now: a leader that waits still has not been replaced when the others were looked for.
        if not listener.is_valid(note.id):
            raise TraceeGone(tid)
        if callers:
            return self.get(tid)
        del self._executing[tgid]
        return self._after_exec(tid, tgid)

    def executes(self, task: Tracee) -> None:
        """The thread may be going to execute another program."""
        self._executing.setdefault(task.tgid, set()).add(task.tid)

    def _is_unconcerned(self, task: Tracee) -> bool:
        return task.tid != task.tgid and task.tid not in self._executing[task.tgid]

    def _after_exec(self, tid: int, tgid: int) -> Tracee:
        for task in [task for task in self._known.values() if task.tgid == tgid]:
            del self._known[task.tid]
        self._check_program(tgid)
        if self.skipped is not None:
            self.skipped.executed(tgid, tid, self.programs.get(tgid, b""))
        return self.get(tid)

    def get(self, tid: int) -> Tracee:
        """The thread as it was looked up last; TraceeGone if it has ended."""
        known = self._known.get(tid)
        if known is None:
            self._started[tid] = started_at(tid)
            process = Process(_group_of(tid), CurrentMemory(), self.programs)
            self._check_program(process.tgid)
            process.is_skipped = self._is_skipped(process.tgid, tid)
            known = self._known[tid] = Tracee(tid, process)
            self.on_new(tid)
        return known

    def _is_skipped(self, tgid: int, tid: int) -> bool:
        if self.skipped is None:
            return False
        program = self.programs.get(tgid, b"")
        if tgid in self._executing:
            return self.skipped.meanwhile(tid, program)
        return self.skipped.of(tgid, tid, program)

    def settled(self, tid: int) -> Tracee | None:
        """The thread, if it is known and its process is not about to execute another program."""
        known = self._known.get(tid)
        return known if known is not None and known.tgid not in self._executing else None

    def forget(self) -> None:
        """Look everybody up anew."""
        self._known.clear()

    def recheck(self) -> list[int]:
        """Now and then: forget threads that have gone. Their numbers, which may be others' by now."""
        gone = [tid for tid, started in self._started.items() if not started or started_at(tid) != started]
        for tid in gone:
            del self._started[tid]
            self._known.pop(tid, None)
        return gone

    @property
    def tracees(self) -> dict[int, int]:
        """All threads that are supervised now (tid -> tgid), for who wants to look at all of them."""
        return {tid: pid for pid in descendants(self._guard) for tid in tasks_of(pid)}

    def executed(self, tgid: int, program: bytes) -> None:
        """The process runs `program`, by way of what /proc/PID/exe says."""
        self.programs[tgid] = program
        self._loaders[tgid] = _executable(tgid)

    # A child runs what its parent runs, until it executes something else.
    def _check_program(self, tgid: int) -> None:
        if not self.programs:
            return
        executable = _executable(tgid)
        if tgid not in self.programs:
            parent = parent_of(tgid)
            if parent in self.programs and self._loaders.get(parent) == executable:
                self.executed(tgid, self.programs[parent])
        elif self._loaders.get(tgid) != executable:
            del self.programs[tgid]


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def _group_of(tid: int) -> int:
    try:
        with open(f"/proc/{tid}/status", "rb") as status:
            for line in status:
                if line.startswith(b"Tgid:"):
                    return int(line.split()[1])
    except OSError as error:
        if error.errno in (errno.EMFILE, errno.ENFILE):
            raise OutOfReach(error.errno) from None
    raise TraceeGone(tid)


def has_own_signal(tid: int) -> bool:
    """Whether a signal waits for this very thread, which it does not block."""
    try:
        signals = signals_of(tid)
    except OSError:
        return False
    return bool(signals.own & ~signals.blocked)
