"""Carries out handlers on threads that stop at every call.

The driver's phases are the same (see tracer/driver.py), with three differences. ENTRY is a syscall-entry stop and not a
seccomp stop, which means the same to ptrace(2): number and arguments can be changed, -1 skips. Whoever runs on does so to
the next syscall stop, so that a call that was let through or answered has an exit stop of its own, at which nothing
happens. `Trap` needs no filter: the process's set of traps is looked at each time.

A call that was in progress when the thread was attached is interrupted by that and made again by the kernel; its
repetition belongs to before, and is left alone.

A process with a seccomp filter of its own has that asked after the entry stop, also about the number -1. Calls of such a
process are not skipped but exchanged for one that every filter allows.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from ...agent.wire.messages import Message
from ...syscalls.actions import Action, Decision, Handling, Reason, Return, Route, SyscallError, Trap
from ...syscalls.context import Args, Context
from ...syscalls.quick import Quick
from ...syscalls.table import Handler
from ...syscalls.task import Task
from ..errors import TraceeGone
from ..tracer import ptrace
from ..tracer.arch import Arch
from ..tracer.call import ActiveCall, Phase
from ..tracer.driver import Driver
from ..tracer.ptrace import INFO_ENTRY, call_at_stop, to_syscall_stop
from ..tracer.tracee import Tracee
from .interrupted import RESTART_WITHOUT_HANDLER, call_in_progress, may_go_on
from .selection import Selection
from .tasks import status
from .waiting import TIMEOUT_AT, Wait, limited_wait, waited_ms

_GETPPID = {"x86_64": 110, "aarch64": 173}
_REFUSED = Decision(Route.MISSING, Reason.UNSUPPORTED)


class AttachedDriver(Driver):
    """One a session, like any driver."""

    _go = staticmethod(to_syscall_stop)

    def __init__(
        self,
        context: Context,
        handlers: Mapping[int, tuple[str, Handler]],
        arch: Arch,
        ask: Callable[[Message], int],
        selection: Selection,
        checks: Mapping[int, Quick] | None = None,
    ) -> None:
        refusing = {sysno: (name, _refuse(number)) for sysno, (name, number) in selection.refused.items()}
        super().__init__(context, {**handlers, **refusing}, arch, ask, lambda names: b"", checks)
        self.letting_go = False
        """No further call is begun, and what is rewritten ends as soon as can be."""
        self.on_foreign: Callable[[Tracee], None] = lambda tracee: None
        """Called at a call of another ABI, which is left alone."""
        self.free: Callable[[Tracee], None] = lambda tracee: None
        """Called at a stop at which the thread may lose its tracer, once no further call is begun."""
        self.resting: set[int] = set()
        """Threads that the kernel has: in a call, from its entry stop to its exit stop, or stopped by a signal."""
        self.called: set[int] = set()
        """Threads that have been interrupted and not been stopped since, but before a call, which may end at once then."""
        self._selection = selection
        self._always = selection.always
        self._before: dict[int, tuple[int, int]] = {}
        """tid -> number of the call that was in progress when the thread was attached, until it is made again, and its
        own time-out, if it is made again with what was left of that (else -1)."""
        self._timeouts: dict[int, int] = {}
        """tid -> that time-out, to be put back at the call's exit."""
        self._filtered: dict[int, bool] = {}
        """tgid -> whether the process has a filter; forgotten when it may have got one."""
        self._harmless = _GETPPID[arch.name]
        self._filtering = frozenset(arch.syscall_numbers[name] for name in ("prctl", "seccomp"))

    # -- stops ------------------------------------------------------------------------------------------------------

    def at_syscall_stop(self, tracee: Tracee) -> None:
        """Every call's entry, and its exit."""
        tid = tracee.tid
        info = call_at_stop(tid)
        if info[0] != INFO_ENTRY:
            self.resting.discard(tid)
            self.called.discard(tid)
            self._at_exit(tracee)
            return
        self.resting.add(tid)
        if info[4] in self._always or self._selection.wants(info[4], info[5:], tracee.process.traps):
            self._at_entry(tracee, info[4], info[1])
        else:
            if info[4] in self._filtering:
                self._filtered.pop(tracee.tgid, None)
            to_syscall_stop(tid)

    def _at_entry(self, tracee: Tracee, sysno: int, audit: int) -> None:
        if self._before and self._is_of_before(tracee.tid, sysno):
            to_syscall_stop(tracee.tid)
        elif self.letting_go and not self._is_awaited(tracee):
            self.abandon(tracee)
            to_syscall_stop(tracee.tid)
        elif audit != self.arch.audit or not self.at_seccomp_stop(tracee):
            self.on_foreign(tracee)
            to_syscall_stop(tracee.tid)

    # Whether a call that comes back has got something already: the reply to what it has asked.
    def _is_awaited(self, tracee: Tracee) -> bool:
        return tracee.call is not None and tracee.call.phase is Phase.REWOUND

    def _is_of_before(self, tid: int, sysno: int) -> bool:
        before, timeout = self._before.pop(tid, (-1, -1))
        if before == sysno and timeout >= 0:
            self._timeouts[tid] = timeout
        return before == sysno

    def _at_exit(self, tracee: Tracee) -> None:
        call = tracee.call
        if self._timeouts and tracee.tid in self._timeouts:
            words = self.arch.registers(tracee.tid)
            words[self.arch.argument_index(TIMEOUT_AT)] = self._timeouts.pop(tracee.tid)
            self.arch.set_registers(tracee.tid, words)
        if call is None or call.phase is not Phase.RUNNING:
            if self.letting_go:
                self._leave_at_exit(tracee)
            else:
                to_syscall_stop(tracee.tid)
            return
        _, result = ptrace.result_at_exit(tracee.tid)
        if self.letting_go and result == -errno.EINTR and may_go_on(self.arch, call.sysno):
            # It was us who interrupted it: with a signal there would be a handler to run, which this result allows for.
            result = RESTART_WITHOUT_HANDLER
            self._words(tracee, call)
        call.phase = Phase.EXIT
        call.result = result
        at_exit, call.at_exit = call.at_exit, None
        assert at_exit is not None
        at_exit(result)

    def _leave_at_exit(self, tracee: Tracee) -> None:
        words = self.arch.registers(tracee.tid)
        sysno, needs_help = call_in_progress(self.arch, words, by_us=True)
        if needs_help:
            self.arch.set_interrupted(tracee.tid, words, sysno, RESTART_WITHOUT_HANDLER)
            self.interrupt(tracee)  # once more: any stop counts as that which was asked for
            to_syscall_stop(tracee.tid)
        else:
            self.free(tracee)

    def arrived(self, tracee: Tracee, *, by_us: bool, wait: Wait | None = None) -> None:
        """At the first stop of a thread: see to the call that it was in, if any.

        `by_us`: it was stopped by PTRACE_INTERRUPT alone, and not by a signal that stops programs. `wait`: what was
        seen of it before.
        """
        words = self.arch.registers(tracee.tid)
        sysno, needs_help = call_in_progress(self.arch, words, by_us=by_us)
        if sysno >= 0:
            self._before[tracee.tid] = sysno, -1
        if needs_help:
            args = [words[self.arch.argument_index(position)] for position in range(6)]
            timeout, waited = limited_wait(sysno, args, self.arch.name), waited_ms(tracee.tid, wait)
            if timeout > 0 and waited:
                self._before[tracee.tid] = sysno, args[TIMEOUT_AT]
                words[self.arch.argument_index(TIMEOUT_AT)] = max(0, timeout - waited)
            self.arch.set_interrupted(tracee.tid, words, sysno, RESTART_WITHOUT_HANDLER)

    # -- actions ----------------------------------------------------------------------------------------------------

    def _act(self, tracee: Tracee, call: ActiveCall, action: Action) -> None:
        if isinstance(action, Trap):
            tracee.process.traps |= action.calls
            self.step(tracee, call, 0)
        else:
            super()._act(tracee, call, action)

    def _answer_call(self, tracee: Tracee, call: ActiveCall, final: Return) -> None:
        if call.phase is not Phase.ENTRY or not self._has_filter(tracee):
            super()._answer_call(tracee, call, final)
            return

        def ended(result: int) -> None:
            tracee.call = None
            super(AttachedDriver, self)._answer_call(tracee, call, final)

        tracee.call = call
        self._run(tracee, call, self._harmless, {}, ended)

    # For those with a filter: what `Arch.skip_and_rewind` is for others.
    def _leave(self, tracee: Tracee, call: ActiveCall) -> None:
        if not self._has_filter(tracee):
            super()._leave(tracee, call)
            return

        def ended(result: int) -> None:
            self.arch.set_registers(tracee.tid, self.arch.rewound(self._words(tracee, call), call.sysno))
            self._await_return(tracee, call)

        try:
            self._run(tracee, call, self._harmless, {}, ended)
        except TraceeGone:
            self.abandon(tracee)

    def _has_filter(self, tracee: Tracee) -> bool:
        found = self._filtered.get(tracee.tgid)
        if found is None:
            found = self._filtered[tracee.tgid] = status(tracee.tid).get("Seccomp", "0") != "0"
        return found

    # -- letting go -------------------------------------------------------------------------------------------------

    def is_idle(self, tracee: Tracee) -> bool:
        """Whether the thread has the registers and the call that are its own."""
        call = tracee.call
        return call is None or call.phase is Phase.REWOUND or (call.phase is Phase.RUNNING and call.words is None)

    def may_go(self, tracee: Tracee) -> bool:
        """Whether the thread could lose its tracer where it is, without a stop."""
        return tracee.tid in self.resting and tracee.tid not in self.called and self.is_idle(tracee)

    def interrupt(self, tracee: Tracee) -> None:
        """Out of the program's own code, or out of a call, into a stop."""
        if tracee.tid not in self.called:
            self.called.add(tracee.tid)
            ptrace.interrupt(tracee.tid)

    def end_call(self, tracee: Tracee) -> None:
        """Have the call in progress, if any, end soon: as if it had not been made yet, as far as that is possible."""
        call = tracee.call
        if call is None or self.is_idle(tracee):
            return
        if call.phase is Phase.RUNNING:
            self.interrupt(tracee)
        elif call.phase is Phase.ENTRY and self._has_filter(tracee):
            self._leave(tracee, call)
        elif call.phase is Phase.ENTRY:
            self.arch.skip_and_rewind(tracee.tid, self._words(tracee, call), call.sysno)
            self.abandon(tracee)
            to_syscall_stop(tracee.tid)
        else:
            self.parked.pop(call.ask_id, None)
            self.fail(tracee, call, SyscallError(errno.EIO))


# What the filter would do at once: these calls do not exist, whatever their arguments.
def _refuse(number: int) -> Handler:
    def refused(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        raise SyscallError(number, _REFUSED)

    return refused
