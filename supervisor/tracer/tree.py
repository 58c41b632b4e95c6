"""Who is who in the tree of supervised tasks: which threads make a process, which share memory.

A new task is announced twice, in either order (ptrace(2)): by its parent's fork event and by its own first stop. It
runs only once the parent's event has said what it shares with the parent, or the parent has died.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ...syscalls.actions import OutOfReach, SyscallError
from . import ptrace
from .arch import Arch
from .space import AddressSpace
from .tracee import Process, Tracee

_CLONE_VM = 0x100
_CLONE_THREAD = 0x10000


class Tree:
    """All supervised tasks by tid."""

    def __init__(self, arch: Arch) -> None:
        self.tracees: dict[int, Tracee] = {}
        self.unclaimed: set[int] = set()
        """Tasks that have stopped for the first time before their parent announced them."""
        self.programs: dict[int, bytes] = {}
        """tgid -> what the process runs, where that is not what its /proc/PID/exe says (syscalls/files/mounted/execve.py)."""
        self.skips: Callable[[int, bytes], bool] = lambda tgid, program: False
        """Whether a process that runs `program` (see `programs`; as a rule empty) is skipped (skipping.py)."""
        self._arch = arch
        self._numbers = arch.syscall_numbers

    def add_root(self, tid: int) -> Tracee:
        """The first process."""
        tracee = self.tracees[tid] = Tracee(tid, Process(tid, AddressSpace(), self.programs))
        return tracee

    def add(self, tid: int, tgid: int) -> Tracee:
        """A task that was there before its tracer was. Group leaders first: a process is known by them."""
        leader = self.tracees.get(tgid)
        process = leader.process if leader is not None else Process(tgid, AddressSpace(), self.programs)
        if leader is None:
            process.is_skipped = self.skips(tgid, b"")
        tracee = self.tracees[tid] = Tracee(tid, process)
        return tracee

    def announce(self, parent: Tracee, tid: int) -> bool:
        """At the parent's fork event. True if the new task has already stopped and must be set going.

        A task that was adopted before this event may have ended and been reaped: then there is nothing to announce.
        """
        if tid not in self.tracees and (tid in self.unclaimed or _is_unreaped(tid)):
            flags = self._clone_flags(parent, tid)
            if flags & _CLONE_THREAD:
                process = parent.process
            else:
                space = parent.space if flags & _CLONE_VM else parent.space.fork()
                process = Process(tid, space, self.programs)
                process.traps, process.is_skipped = parent.process.traps, parent.is_skipped
                self._runs(tid, self.programs.get(parent.tgid, b""))
            self.tracees[tid] = Tracee(tid, process)
        was_waiting = tid in self.unclaimed
        self.unclaimed.discard(tid)
        return was_waiting

    def has_parent(self, tid: int) -> bool:
        """Whether the process that made this new task is still there to announce it (or it is a thread of one)."""
        status = _status(tid)
        return status.get(b"Tgid") in self.tracees or status.get(b"PPid") in self.tracees

    def adopt_orphans(self) -> list[Tracee]:
        """Take in the unclaimed whose parent may have died before its event: what they share is read from /proc."""
        adopted = []
        for tid in self.unclaimed:
            tgid = _status(tid).get(b"Tgid", tid)
            adopted.append(self.add(tid, tgid))
        self.unclaimed.clear()
        return adopted

    def executed(self, tid: int) -> list[Tracee]:
        """At an exec stop: the thread has become `tid`, alone, with new memory. Returns those that it replaces."""
        replaced = [tracee for tracee in self.tracees.values() if tracee.tgid == tid]
        traps: frozenset[str] = frozenset()
        program = b""
        for tracee in replaced:
            traps, program = tracee.process.traps, tracee.process.next_program
            del self.tracees[tracee.tid]
        self._runs(tid, program)
        process = Process(tid, AddressSpace(), self.programs)
        process.traps, process.is_skipped = traps, self.skips(tid, program)
        self.tracees[tid] = Tracee(tid, process)
        return replaced

    # Also takes away what an ended process with the same number has left.
    def _runs(self, tgid: int, program: bytes) -> None:
        if program:
            self.programs[tgid] = program
        else:
            self.programs.pop(tgid, None)

    def _clone_flags(self, parent: Tracee, tid: int) -> int:
        words = self._arch.registers(parent.tid)
        sysno = self._arch.sysno(words)
        first = words[self._arch.argument_index(0)]
        if sysno == self._numbers["clone"]:
            return first
        if sysno == self._numbers["clone3"]:
            try:
                return int.from_bytes(parent.read(first, 8), "little")
            except (SyscallError, OutOfReach):
                # Another thread has unmapped the arguments meanwhile, or nobody may look.
                return _CLONE_THREAD if _status(tid).get(b"Tgid") == parent.tgid else 0
        return _CLONE_VM if sysno == self._numbers.get("vfork") else 0


def _is_unreaped(tid: int) -> bool:
    # Whether waitpid(2) still knows the task.
    try:
        os.waitid(os.P_PID, tid, os.WEXITED | os.WSTOPPED | os.WNOHANG | os.WNOWAIT | ptrace.WALL)
    except ChildProcessError:
        return False
    return True


def _status(tid: int) -> dict[bytes, int]:
    # Tgid and PPid of a task; empty if it has gone.
    try:
        with open(f"/proc/{tid}/status", "rb") as status:
            lines = [line.split() for line in status if line.startswith((b"Tgid:", b"PPid:"))]
    except OSError:
        return {}
    return {line[0][:-1]: int(line[1]) for line in lines}
