"""The tracer's loop for a process that ran before, and goes on running afterwards.

Every thread is seized and interrupted once (ptrace(2): PTRACE_SEIZE, PTRACE_INTERRUPT); from its first stop on it stops
at every call. A thread that was just being made when its parent was seized is not traced by itself, so /proc is looked
through again when all that are known have stopped, until nobody new is found.

At the end threads that wait in a call are left there: PTRACE_DETACH can only be had from a stop, and stopping would
interrupt the call. When the tracing thread ends, the kernel lets go of its tracees wherever they are. A thread that is
stopped before a call at that moment, however, is woken as if there were a signal, and epoll_wait(2), say, returns EINTR.
So the others, which may be about to make a call, are stopped and detached one by one, and the tracing thread only ends
when all that are left are in calls of their own, with their own registers. If this tool is killed, the kernel does the
same at once; that may hit a thread in a stop before a call, or in a call that is being rewritten.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable

from ..errors import TraceeGone
from ..tracer import launch, ptrace
from ..tracer.doorbell import Doorbell
from ..tracer.launch import Launched
from ..tracer.loop import Loop
from ..tracer.stops import (
    SYSCALL_STATUS,
    Ended,
    ExecStop,
    GroupStop,
    NewTaskStop,
    SignalDeliveryStop,
    Stop,
    SyscallStop,
    TrapStop,
    classify,
)
from ..tracer.tracee import Tracee
from ..tracer.tree import Tree
from .driver import AttachedDriver
from .tasks import named, processes_below, status, threads_of
from .waiting import Wait, wait_of

OPTIONS = launch.OPTIONS & ~(ptrace.OPTION_TRACESECCOMP | ptrace.OPTION_EXITKILL)
"""No filter, and these programs are not ours to kill."""

_PATIENCE_S = 1.0
"""How long calls that are about the pod get to end by themselves once the session is to end."""


class AttachLoop(Loop):
    """Supervises a process and its descendants, until the last has ended or `detach` is called."""

    def __init__(self, driver: AttachedDriver, tree: Tree, doorbell: Doorbell, root: int) -> None:
        super().__init__(driver, tree, doorbell, Launched(root, -1), "")
        self.on_attached: Callable[[], None] = lambda: None
        """Called once when every thread is supervised."""
        self.on_seized: Callable[[], None] = lambda: None
        """Called when tasks have been found, before any of them makes a call under supervision."""
        self._started = True  # the program, that is, and long ago
        self._attached_driver = driver
        self._awaited: dict[int, Wait | None] = {}
        """tid -> what is known of the call that it is in, until its first stop."""
        self._unreachable: set[int] = set()
        self._is_attached = False
        self._leave_by_s: float | None = None
        driver.on_foreign = self._foreign
        driver.free = self._free

    # -- attaching --------------------------------------------------------------------------------------------------

    def attach(self) -> bool:
        """Seize everybody. False if the process itself cannot be, or has ended; descendants are told to the user."""
        root = self._launched.pid
        while self._seize_new(root):
            continue
        return root in self._tree.tracees

    def _seize_new(self, root: int) -> int:
        found = 0
        for tgid in processes_below(root):
            for tid in threads_of(tgid):
                if tid in self._tree.tracees or tid in self._tree.unclaimed or tid in self._unreachable:
                    continue
                found += self._seize(tid, tgid)
        if found:
            self.on_seized()
        return found

    def _seize(self, tid: int, tgid: int) -> bool:
        try:
            ptrace.seize(tid, OPTIONS)
        except TraceeGone:
            return False
        except PermissionError:
            return self._not_seized(tid, tgid)
        self._tree.add(tid, tgid)
        self._awaited[tid] = wait_of(tid, self._driver.arch.name)
        ptrace.interrupt(tid)
        return True

    def _not_seized(self, tid: int, tgid: int) -> bool:
        task = status(tid)
        if not task or task["State"][0] in "ZX" or int(task["TracerPid"]) == threading.get_native_id():
            return False  # it has ended, or its parent was traced already
        self._unreachable.add(tid)
        if tgid != self._launched.pid:
            self._tell(f"{named(tgid)} cannot be attached and stays as it is")
        return False

    def _arrived(self, tracee: Tracee, stop: Stop) -> None:
        if tracee.tid in self._awaited:
            wait = self._awaited.pop(tracee.tid)
            if isinstance(stop, (GroupStop, TrapStop)):
                self._attached_driver.arrived(tracee, by_us=isinstance(stop, TrapStop), wait=wait)

    def settle(self) -> None:
        """Look for those that nobody has announced; tell when there are none, and all that are known have stopped."""
        if self._is_attached or self._awaited:
            return
        if not self._seize_new(self._launched.pid):
            self.announce()

    def announce(self) -> None:
        """Say that the process is attached, once. Threads that the kernel does not stop yet make no calls either."""
        if not self._is_attached:
            self._is_attached = True
            self.on_attached()

    # -- the loop ---------------------------------------------------------------------------------------------------

    def attend(self) -> Ended | None:
        """Until no tracee is left or all may be let go. Returns how the process ended, if it has."""
        tracees = self._tree.tracees
        waitpid = os.waitpid
        at_syscall_stop = self._attached_driver.at_syscall_stop
        self.settle()
        while tracees and (self._leave_by_s is None or not self._may_leave()):
            tid, wait_status = waitpid(-1, ptrace.WALL)
            tracee = tracees.get(tid)
            try:
                if wait_status == SYSCALL_STATUS and tracee is not None and not self._awaited:
                    self._stops += 1
                    at_syscall_stop(tracee)
                else:
                    self._dispatch(tid, tracee, classify(wait_status))
                if self._leave_by_s is not None and tracee is not None:
                    self._call_back(tracee)
            except TraceeGone:
                if tracee is not None:
                    self._driver.abandon(tracee)
        return self.root_end

    # PTRACE_INTERRUPT is a wish for a stop: if there is another one first, that was it.
    def _stopped(self, tracee: Tracee, stop: Stop) -> None:
        tid = tracee.tid
        if not isinstance(stop, SyscallStop):
            self._attached_driver.called.discard(tid)
        self._arrived(tracee, stop)
        if isinstance(stop, SyscallStop):
            self._attached_driver.at_syscall_stop(tracee)
        elif isinstance(stop, SignalDeliveryStop):
            ptrace.to_syscall_stop(tid, stop.signal)
        elif isinstance(stop, GroupStop):
            self._attached_driver.resting.add(tid)
            ptrace.listen(tid)
        elif isinstance(stop, NewTaskStop):
            child = ptrace.event_message(tid)
            if self._tree.announce(tracee, child):
                self._run_on(child)
            self._driver.run_on(tracee)
        elif isinstance(stop, ExecStop):
            for replaced in self._tree.executed(tid):
                self._awaited.pop(replaced.tid, None)
                self._attached_driver.resting.discard(replaced.tid)
                self._driver.abandon(replaced)
            self._attached_driver.resting.add(tid)
            ptrace.to_syscall_stop(tid)
            self._adopt()
        elif isinstance(stop, TrapStop):
            self._attached_driver.resting.discard(tid)
            self._run_on(tid)
        self.settle()

    def _ended(self, tracee: Tracee, end: Ended) -> None:
        self._awaited.pop(tracee.tid, None)
        self._attached_driver.resting.discard(tracee.tid)
        super()._ended(tracee, end)
        self.settle()

    def _run_on(self, tid: int) -> None:
        tracee = self._tree.tracees.get(tid)
        with contextlib.suppress(TraceeGone):
            if self._leave_by_s is not None and tracee is not None and self._attached_driver.is_idle(tracee):
                self._free(tracee)
            else:
                ptrace.to_syscall_stop(tid)

    def _foreign(self, tracee: Tracee) -> None:
        self._tell(f"process {tracee.tgid} makes 32-bit system calls, which are not supported and stay local")

    # -- the end ----------------------------------------------------------------------------------------------------

    def detach(self) -> None:
        """Begin no further call; leave when none is rewritten. At a ring. The second time, nothing is waited for."""
        self._leave_by_s = time.monotonic() + _PATIENCE_S if self._leave_by_s is None else 0.0
        self._attached_driver.letting_go = True
        for tracee in list(self._tree.tracees.values()):
            with contextlib.suppress(TraceeGone):
                self._call_back(tracee)
        self.hurry()

    # Who may be about to make a call is stopped.
    def _call_back(self, tracee: Tracee) -> None:
        tid = tracee.tid
        if tid in self._tree.tracees and tid not in self._attached_driver.resting and tid not in self._awaited:
            self._attached_driver.interrupt(tracee)

    def _free(self, tracee: Tracee) -> None:
        self._driver.abandon(tracee)
        del self._tree.tracees[tracee.tid]
        ptrace.detach(tracee.tid)

    def hurry(self) -> None:
        """At a ring, now and then: end the calls that have not ended by themselves in time."""
        self._call_again()
        if self._leave_by_s is None or time.monotonic() < self._leave_by_s:
            return
        for tracee in list(self._tree.tracees.values()):
            try:
                self._attached_driver.end_call(tracee)
            except TraceeGone:
                self._driver.abandon(tracee)

    # A call that sets the signal mask forgets that it was interrupted, and waits.
    def _call_again(self) -> None:
        for tid in list(self._attached_driver.called):
            with contextlib.suppress(TraceeGone):
                ptrace.interrupt(tid)

    def _may_leave(self) -> bool:
        # Whom the kernel does not stop (a parent that waits for its vfork(2) child) is not about to make a call.
        driver, is_late = self._attached_driver, time.monotonic() > (self._leave_by_s or 0.0) + _PATIENCE_S
        return all(
            driver.may_go(tracee) or (is_late and driver.is_idle(tracee)) for tracee in self._tree.tracees.values()
        )
