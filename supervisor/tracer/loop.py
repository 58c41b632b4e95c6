"""The tracer's loop: wait, classify, dispatch. The only thread that makes ptrace requests.

Everything that can happen arrives as a wait status of some child: stops and ends of tracees, the doorbell (the relay or
our own signal thread has something for us), and the end of the relay.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import sys
from collections import deque
from collections.abc import Callable

from ..errors import InternalError, TraceeGone
from . import privileges, ptrace
from .arch import Arch
from .compiled import Compiled
from .doorbell import RING, Doorbell
from .driver import Driver
from .launch import Launched
from .own_signals import continues, stop_like
from .stops import (
    SECCOMP_STATUS,
    Ended,
    ExecStop,
    GroupStop,
    NewTaskStop,
    SeccompStop,
    SignalDeliveryStop,
    Stop,
    SyscallStop,
    classify,
)
from .tracee import Tracee
from .tree import Tree

Post = Callable[[], None]


class Loop:
    """Supervises one program and everything it starts, until the last of it has ended."""

    def __init__(
        self,
        driver: Driver,
        tree: Tree,
        doorbell: Doorbell,
        launched: Launched,
        program: str,
        compiled: Compiled | None = None,
    ) -> None:
        self.root_end: Ended | None = None
        self.on_ring: Callable[[], None] = lambda: None
        """Called after the doorbell, and before tracees are judged by state that the relay may have changed."""
        self.on_child_end: Callable[[int], None] = lambda pid: None
        """Called with the pid of an ended child that was no tracee: the relay."""
        self._driver = driver
        self._tree = tree
        self._doorbell = doorbell
        self._launched = launched
        self._program = program
        self._compiled = compiled
        self._stops = 0
        self._posted: deque[Post] = deque()
        self._started: bool = False
        self._is_stopped = False
        self._told: set[str] = set()

    @property
    def stops(self) -> int:
        """Of all supervised threads so far."""
        return self._stops + (self._compiled.stops if self._compiled is not None else 0)

    def post(self, work: Post) -> None:
        """Have `work` done by the loop's thread. Any thread; never blocks."""
        self._posted.append(work)
        self._doorbell.ring()

    def kill_all(self, number: int) -> None:
        """Send a signal to every supervised process."""
        _send(number, {tracee.tgid for tracee in self._tree.tracees.values()}, -1)

    def pass_on(self, number: int) -> None:
        """Send a signal to the first process, or, once that has ended, to what it left behind. At a ring.

        Not to those that have got it themselves, since it was sent to the whole process group. SIGCONT only if the process
        is still stopped: the shell's goes to all of its job, and a second one could undo the next stop.
        """
        group = os.getpgrp() if self._doorbell.has_got(number) else -1
        root = self._launched.pid
        if root in self._tree.tracees:
            # Not reaped yet, so its number is still its own.
            if number != signal.SIGCONT or (self._is_stopped and not continues(root)):
                _send(number, {root}, group)
        else:
            _send(number, {tracee.tgid for tracee in self._tree.tracees.values()}, group)

    def run(self) -> Ended:
        """Until no tracee is left. Returns how the first process ended; UsageError if it could not be executed."""
        tracees = self._tree.tracees
        at_seccomp_stop = self._driver.at_seccomp_stop
        # With an observer every call takes the long way, to have something to tell.
        compiled = self._compiled if self._driver.observer is None else None
        wait = compiled.wait if compiled is not None else functools.partial(os.waitpid, -1, ptrace.WALL)
        while tracees:
            tid, status = wait()
            tracee = tracees.get(tid)
            try:
                if status == SECCOMP_STATUS and tracee is not None and self._started:
                    self._stops += 1
                    if not at_seccomp_stop(tracee):
                        self._refuse(tracee)
                else:
                    self._dispatch(tid, tracee, classify(status))
            except TraceeGone:
                # It was killed while stopped; its end is the next thing waitpid reports of it.
                if tracee is not None:
                    self._driver.abandon(tracee)
            if compiled is not None:
                self._lend(compiled, tid)
        if compiled is not None:
            self._end_rest(compiled)
        if self.root_end is None:
            raise InternalError("the first process ended unseen")
        return self.root_end

    # From a stop that has been dealt with here: the next one may be dealt with there, if no call is in progress then.
    def _lend(self, compiled: Compiled, tid: int) -> None:
        tracee = self._tree.tracees.get(tid)
        if tracee is not None and tracee.call is None and self._started:
            compiled.lend(tid, tracee.space.memory, tracee.is_skipped)

    def _end_rest(self, compiled: Compiled) -> None:
        for tid, status in compiled.rest():
            if isinstance(classify(status), Ended):
                self.on_child_end(tid)

    def _dispatch(self, tid: int, tracee: Tracee | None, stop: Stop) -> None:
        if tid == self._doorbell.pid:
            self._rung(stop)
        elif tracee is None:
            self._unknown(tid, stop)
        elif isinstance(stop, Ended):
            self._ended(tracee, stop)
        else:
            self._stops += 1
            self._stopped(tracee, stop)

    def _stopped(self, tracee: Tracee, stop: Stop) -> None:
        tid = tracee.tid
        if isinstance(stop, SyscallStop):
            self._driver.at_syscall_stop(tracee)
        elif isinstance(stop, SignalDeliveryStop):
            ptrace.cont(tid, stop.signal)
        elif isinstance(stop, GroupStop):
            self._group_stop(tracee, stop)
        elif isinstance(stop, NewTaskStop):
            child = ptrace.event_message(tid)
            if self._tree.announce(tracee, child):
                self._run_on(child)
            self._driver.run_on(tracee)
        elif isinstance(stop, ExecStop):
            for replaced in self._tree.executed(tid):
                self._driver.abandon(replaced)
                if self._compiled is not None:
                    self._compiled.take_back(replaced.tid)
            self._started = True
            self._tell(privileges.lost(tid))
            ptrace.cont(tid)
            self._adopt()
        elif isinstance(stop, SeccompStop) and self._driver.is_exec(tid):
            # Of all that our own child does before, the program itself may be the pod's.
            self._driver.at_seccomp_stop(tracee)
        else:  # TrapStop; a SeccompStop only before the program has been executed
            if tid == self._launched.pid:
                self._is_stopped = False
            ptrace.cont(tid)

    def _group_stop(self, tracee: Tracee, stop: GroupStop) -> None:
        ptrace.listen(tracee.tid)
        if tracee.tid != self._launched.pid:
            return
        self._is_stopped = True
        # The shell waits for us, not for the program: to it, we stop when the first process stops. But somebody has to
        # serve the others of the tree, one of which may be about to continue it; a stop from the terminal is theirs, too.
        if stop.signal != signal.SIGSTOP or all(other.tgid == tracee.tgid for other in self._tree.tracees.values()):
            stop_like(tracee.tid)

    def _unknown(self, tid: int, stop: Stop) -> None:
        if isinstance(stop, Ended):
            self._tree.unclaimed.discard(tid)
            self.on_child_end(tid)
        else:
            self._tree.unclaimed.add(tid)
            # Its announcement gets lost if its parent is killed before it is reported.
            if not self._tree.has_parent(tid):
                self._adopt()

    def _ended(self, tracee: Tracee, end: Ended) -> None:
        self._driver.abandon(tracee)
        del self._tree.tracees[tracee.tid]
        if tracee.tid == self._launched.pid:
            self.root_end = end
            if not self._started:
                failure = self._launched.failure(self._program)
                if failure is not None:
                    raise failure
        self._adopt()

    def _adopt(self) -> None:
        # A task that is claimed too early only loses what it shares with its parent; one never claimed would hang.
        for tracee in self._tree.adopt_orphans():
            self._run_on(tracee.tid)

    def _run_on(self, tid: int) -> None:
        with contextlib.suppress(TraceeGone):
            ptrace.cont(tid)

    def _rung(self, stop: Stop) -> None:
        if isinstance(stop, Ended):
            raise InternalError("the doorbell process was killed")
        try:
            if isinstance(stop, SignalDeliveryStop) and stop.signal != RING:
                self._doorbell.notice(stop.signal)
                return
            while self._posted:
                self._posted.popleft()()
        finally:
            # Only now: while it is stopped, the doorbell takes no further signal. A ring meanwhile is kept.
            self._doorbell.answered()
        self.on_ring()

    def _refuse(self, tracee: Tracee) -> None:
        # A call of the i386 or x32 ABI: its numbers mean other calls, so letting it run would be a silent leak.
        _, audit, _, _, sysno, *_ = ptrace.call_at_stop(tracee.tid)
        refusal = refuse_foreign_call(self._driver.arch, tracee, audit, sysno)
        self._tell(refusal)

    def _tell(self, text: str) -> None:
        if text and text not in self._told:
            self._told.add(text)
            sys.stderr.write(f"mirrord-trace: {text}\n")


def _send(number: int, processes: set[int], except_group: int) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            if os.getpgid(pid) != except_group:
                os.kill(pid, number)


def refuse_foreign_call(arch: Arch, tracee: Tracee, audit: int, sysno: int) -> str:
    """A call through another ABI. x32 and unknown numbers get ENOSYS; an i386 process is killed with SIGKILL.

    Returns the line for the user, or "" for a number that no ABI has (which is ENOSYS natively, too).
    """
    arch.skip(tracee.tid, -errno.ENOSYS)
    if audit == arch.audit:
        ptrace.cont(tracee.tid)
        return "" if sysno >> 31 else f"process {tracee.tgid} made an x32 system call; not supported, it gets ENOSYS"
    with contextlib.suppress(ProcessLookupError):
        os.kill(tracee.tgid, signal.SIGKILL)
    return (
        f"process {tracee.tgid} made a 32-bit (i386) system call; 32-bit programs are not supported, "
        "it is killed: build the program for 64 bit"
    )
