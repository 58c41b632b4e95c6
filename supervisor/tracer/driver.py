"""Carries out what handlers decide: the only code, besides the loop, that drives the tracee.

A call goes through the phases of `call.Phase`. At ENTRY (the seccomp stop) it can be let through, answered in the
kernel's place, run with other arguments, or parked for a reply. While RUNNING the next stop of the thread is the
call's exit. Something can also be injected at ENTRY in the call's place (mmap for scratch memory, seccomp for a
further filter): then the call is REWOUND, i.e. the program counter is put back on the syscall instruction with the
registers as they were, and the thread makes the call again. Registers always hold the application's own values when
user code or a signal handler can run.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

from ...agent.wire.messages import Failed, Message
from ...syscalls.actions import (
    Action,
    Answer,
    Ask,
    Continue,
    Decision,
    Final,
    GiveFile,
    Outcome,
    OutOfReach,
    Reason,
    Return,
    Route,
    Run,
    Scratch,
    SyscallError,
    Trap,
)
from ...syscalls.context import Args, Context
from ...syscalls.process import kept
from ...syscalls.quick import Quick, changing
from ...syscalls.table import Handler
from ..errors import InternalError, TraceeGone
from . import ptrace
from .arch import Arch
from .call import RESTARTS, ActiveCall, Observer, Phase, Replaced
from .filters import install_later
from .give import give
from .impatience import Impatience
from .ptrace import call_at_stop, cont
from .reach import outcome
from .scratch import place
from .tracee import Tracee

_MASK = 0xFFFFFFFFFFFFFFFF
_FAILED = Decision(Route.REMOTE, Reason.NOT_OURS)


class Driver:
    """Runs handlers against stopped tracees. One a session; single-threaded, never waits."""

    _go = staticmethod(cont)
    """Lets a thread run on to its next stop."""

    def __init__(
        self,
        context: Context,
        handlers: Mapping[int, tuple[str, Handler]],
        arch: Arch,
        ask: Callable[[Message], int],
        later_filter: Callable[[frozenset[str]], bytes],
        checks: Mapping[int, Quick] | None = None,
    ) -> None:
        self.context = context
        self.handlers = dict(handlers)
        self.arch = arch
        self.parked: dict[int, Tracee] = {}
        """Request id -> the thread that waits for its reply."""
        self._observer: Observer | None = None
        self._quick = {sysno: quick.check for sysno, quick in (checks or {}).items()}
        self._changing = changing(checks or {})
        self._kept = kept(arch.syscall_numbers)
        self._ask = ask
        self._later_filter = later_filter
        self._impatience = Impatience()
        self._numbers = arch.syscall_numbers
        self._audit = arch.audit
        self._exec = arch.syscall_numbers["execve"]

    @property
    def observer(self) -> Observer | None:
        """Who is told of finished calls. With an observer every call takes the long way, to have something to tell."""
        return self._observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._observer = observer
        self._quick.clear()

    # -- stops ------------------------------------------------------------------------------------------------------

    def at_seccomp_stop(self, tracee: Tracee) -> bool:
        """A call of the table. False if it came through an ABI that this tool refuses."""
        info = call_at_stop(tracee.tid)
        sysno = info[4]
        args: Args = info[5:]
        call = tracee.call
        if tracee.is_skipped and (sysno not in self._kept or info[1] != self._audit):
            self._pass(tracee, sysno)
            return True
        if call is None:
            quick = self._quick.get(sysno)
            if quick is not None and info[1] == self._audit and quick(self.context, tracee, args):
                self._go(tracee.tid)
                return True
        elif self._goes_on(tracee, call, sysno, args, info[2], info[3]):
            return True
        found = self.handlers.get(sysno)
        if found is None or info[1] != self._audit:
            return False
        handling = found[1](self.context, tracee, args)
        try:
            action = next(handling)
        except StopIteration as stop:
            final = stop.value
            if final.__class__ is Continue and self._observer is None:
                self._go(tracee.tid)
            else:
                self._finish(tracee, ActiveCall(sysno, args, info[2], info[3], found[0], handling), final)
            return True
        except (SyscallError, OutOfReach) as error:
            self.fail(tracee, ActiveCall(sysno, args, info[2], info[3], found[0], handling), error)
            return True
        tracee.call = call = ActiveCall(sysno, args, info[2], info[3], found[0], handling)
        self._act(tracee, call, action)
        return True

    # Of a process that is skipped. The rest of the session has to know of directories that become links all the same.
    def _pass(self, tracee: Tracee, sysno: int) -> None:
        self.abandon(tracee)
        if sysno in self._changing:
            self.context.directories.clear()
        cont(tracee.tid)

    def is_exec(self, tid: int) -> bool:
        """Whether a seccomp stop is an execve(2)."""
        return call_at_stop(tid)[4] == self._exec

    def _goes_on(self, tracee: Tracee, call: ActiveCall, sysno: int, args: Args, ip: int, sp: int) -> bool:
        # The repetition of a rewound call continues where the handler stands; anything else (a signal handler runs)
        # gives the handler up, and the call begins anew when it is made again.
        if call.phase is Phase.REWOUND and call.on_return is not None and call.is_same(sysno, args, ip, sp):
            go_on, call.on_return, call.phase = call.on_return, None, Phase.ENTRY
            go_on()
            return True
        self.abandon(tracee)
        return False

    def at_syscall_stop(self, tracee: Tracee) -> None:
        """The exit of a call that was run."""
        call = tracee.call
        if call is None or call.phase is not Phase.RUNNING:
            self._go(tracee.tid)
            return
        operation, result = ptrace.result_at_exit(tracee.tid)
        if operation != ptrace.INFO_EXIT:
            ptrace.to_syscall_stop(tracee.tid)
            return
        call.phase, call.result = Phase.EXIT, result
        at_exit, call.at_exit = call.at_exit, None
        assert at_exit is not None
        at_exit(result)

    def run_on(self, tracee: Tracee) -> None:
        """From a stop in the midst of a call (a fork event): on to the call's exit if a handler waits for it."""
        if tracee.call is not None and tracee.call.phase is Phase.RUNNING:
            ptrace.to_syscall_stop(tracee.tid)
        else:
            self._go(tracee.tid)

    def answer(self, request_id: int, answer: Answer) -> None:
        """The reply to a parked request; ignored (its fd closed) if nobody waits for it any more."""
        tracee = self.parked.pop(request_id, None)
        self._impatience.answered(tracee.tid if tracee is not None else 0)
        if tracee is None or tracee.call is None:
            answer.drop()
            return
        call = tracee.call
        call.ask_id = 0
        if call.phase is Phase.REWOUND:
            call.answer = answer
            return
        try:
            self._answered(tracee, call, answer)
        except TraceeGone:
            # Killed while parked; other threads' replies are still to be handed out.
            self.abandon(tracee)

    def _answered(self, tracee: Tracee, call: ActiveCall, answer: Answer) -> None:
        if isinstance(answer.message, Failed):
            error = SyscallError(answer.message.errno or errno.EIO, text=answer.message.text)
            self._advance(tracee, call, lambda: call.handling.throw(error))
        else:
            self.step(tracee, call, answer)

    def interrupt_parked(self) -> None:
        """Let parked threads take signals that wait for them; their calls are then made again.

        A thread in a ptrace stop takes no signal but SIGKILL. The request stays open and its reply is kept for the repetition:
        signals that come faster than replies (a profiling timer, a distant pod) must not keep a call from ending. Some calls
        end with EINTR all the same (impatience.py).
        """
        for tracee in list(self.parked.values()):
            call = tracee.call
            if call is None or call.phase is not Phase.ENTRY:
                continue
            has_signal = tracee.has_pending_signal()
            try:
                if self._impatience.is_over(tracee.tid, call, has_signal):
                    self.parked.pop(call.ask_id, None)
                    self.fail(tracee, call, SyscallError(errno.EINTR))
                elif has_signal:
                    self._leave(tracee, call)
            except TraceeGone:
                self.abandon(tracee)

    def _leave(self, tracee: Tracee, call: ActiveCall) -> None:
        self.arch.skip_and_rewind(tracee.tid, self._words(tracee, call), call.sysno)
        self._await_return(tracee, call)

    def _await_return(self, tracee: Tracee, call: ActiveCall) -> None:
        def parked_again() -> None:
            answer, call.answer = call.answer, None
            if answer is not None:
                self._answered(tracee, call, answer)

        self._come_back(tracee, call, parked_again)

    def abandon(self, tracee: Tracee) -> None:
        """Give up the call in progress, if any: the thread died, executed another program, or runs a signal handler."""
        call, tracee.call = tracee.call, None
        if call is None:
            return
        if call.ask_id:
            self.parked.pop(call.ask_id, None)
        call.drop_answer()
        self.release(tracee, call)
        call.handling.close()

    # -- handler steps ----------------------------------------------------------------------------------------------

    def step(self, tracee: Tracee, call: ActiveCall, outcome: Outcome) -> None:
        """See `Engine.step`."""
        self._advance(tracee, call, lambda: call.handling.send(outcome))

    def _advance(self, tracee: Tracee, call: ActiveCall, handler_goes_on: Callable[[], Action]) -> None:
        try:
            action = handler_goes_on()
        except StopIteration as stop:
            self._finish(tracee, call, stop.value)
        except (SyscallError, OutOfReach) as error:
            self.fail(tracee, call, error)
        else:
            self._act(tracee, call, action)

    def _act(self, tracee: Tracee, call: ActiveCall, action: Action) -> None:
        if isinstance(action, Ask):
            call.ask_id = self._ask(action.request)
            self._impatience.waits(call)
            self.parked[call.ask_id] = tracee
            return
        if isinstance(action, Run) and call.phase is Phase.EXIT and call.words is not None:
            self.release(tracee, call)
            self.rewind(tracee, call, lambda: self._act(tracee, call, action))
            return
        if call.phase is not Phase.ENTRY:
            raise InternalError(f"{call.name}: {type(action).__name__} after the call has run")
        if isinstance(action, Run):
            sysno = call.sysno if action.sysno is None else action.sysno
            self._run(tracee, call, sysno, action.args, lambda result: self.has_run(tracee, call, result))
        elif isinstance(action, GiveFile):
            give(self, tracee, call, action)
        elif isinstance(action, Trap):
            install_later(self, tracee, call, action.calls, self._later_filter)
        else:
            raise InternalError(f"{call.name}: a handler yielded {action!r}")

    def _finish(self, tracee: Tracee, call: ActiveCall, final: Final) -> None:
        tracee.call = None
        self.release(tracee, call)
        if isinstance(final, Return):
            self._answer_call(tracee, call, final)
        elif call.phase is Phase.EXIT:
            self._leave_exit(tracee, call, final.decision)
        elif self.observer is not None:
            self._watch(tracee, call, final.decision)
        else:
            self._go(tracee.tid)

    def _watch(self, tracee: Tracee, call: ActiveCall, decision: Decision) -> None:
        # Only to show the result of a call that is otherwise let through.
        def ended(result: int) -> None:
            tracee.call = None
            self._leave_exit(tracee, call, decision)

        tracee.call = call
        self._let_run(tracee, call, ended)

    def _observe(self, tracee: Tracee, call: ActiveCall, result: int, decision: Decision) -> None:
        if self.observer is not None:
            self.observer(tracee, call, result, decision)

    def fail(self, tracee: Tracee, call: ActiveCall, error: SyscallError | OutOfReach) -> None:
        """See `Engine.fail`."""
        if isinstance(error, OutOfReach):
            self._finish(tracee, call, outcome(self.context, tracee.tid, error))
        else:
            self._finish(tracee, call, Return(-error.errno, error.decision or _FAILED))

    def _answer_call(self, tracee: Tracee, call: ActiveCall, final: Return) -> None:
        result = final.value
        try:
            for address, content in final.writes:
                tracee.space.write(tracee.tid, address, content)
        except SyscallError as fault:
            result = -fault.errno
        except OutOfReach as lack:
            self._finish(tracee, call, outcome(self.context, tracee.tid, lack))
            return
        self._observe(tracee, call, result, final.decision)
        if call.phase is Phase.ENTRY:
            self.arch.skip(tracee.tid, result)
        else:
            self.arch.set_result(tracee.tid, self._words(tracee, call), result)
        self._go(tracee.tid)

    def _leave_exit(self, tracee: Tracee, call: ActiveCall, decision: Decision) -> None:
        # The kernel's result stands; argument registers get their own values back if they were replaced.
        if call.words is not None:
            self.arch.set_result(tracee.tid, call.words, call.result)
        self._observe(tracee, call, call.result, decision)
        self._go(tracee.tid)

    def release(self, tracee: Tracee, call: ActiveCall) -> None:
        """See `Engine.release`."""
        if call.fd >= 0:
            os.close(call.fd)
            call.fd = -1
        for slot in call.slots:
            tracee.space.give_slot(slot)
        call.slots.clear()

    # -- running the call -------------------------------------------------------------------------------------------

    def run(self, tracee: Tracee, call: ActiveCall, name: str, args: Replaced, at_exit: Callable[[int], None]) -> None:
        """See `Engine.run`."""
        self._run(tracee, call, self._numbers[name], args, at_exit)

    def _run(self, tracee: Tracee, call: ActiveCall, sysno: int, args: Replaced, at_exit: Callable[[int], None]) -> None:
        if not args and sysno == call.sysno:
            self._let_run(tracee, call, at_exit)
            return
        words = list(self._words(tracee, call))
        for position, value in args.items():
            if isinstance(value, Scratch):
                placed = place(self, tracee, call, value, lambda: self._run(tracee, call, sysno, args, at_exit))
                if placed is None:
                    return
                words[self.arch.argument_index(position)] = placed
            else:
                words[self.arch.argument_index(position)] = value & _MASK
        self.arch.set_call(tracee.tid, words, sysno)
        self._let_run(tracee, call, at_exit)

    def _let_run(self, tracee: Tracee, call: ActiveCall, at_exit: Callable[[int], None]) -> None:
        call.phase, call.at_exit = Phase.RUNNING, at_exit
        ptrace.to_syscall_stop(tracee.tid)

    def has_run(self, tracee: Tracee, call: ActiveCall, result: int) -> None:
        """See `Engine.has_run`."""
        if result in RESTARTS:
            # The kernel delivers the signal and makes the call again (or turns this into EINTR), with its own registers.
            if call.words is not None:
                self.arch.set_interrupted(tracee.tid, call.words, call.sysno, result)
            self.abandon(tracee)
            self._go(tracee.tid)
            return
        self.step(tracee, call, result)

    def _words(self, tracee: Tracee, call: ActiveCall) -> list[int]:
        if call.words is None:
            call.words = self.arch.registers(tracee.tid)
        return call.words

    def rewind(self, tracee: Tracee, call: ActiveCall, go_on: Callable[[], None]) -> None:
        """See `Engine.rewind`."""
        assert call.words is not None
        self.arch.set_registers(tracee.tid, self.arch.rewound(call.words, call.sysno))
        self._come_back(tracee, call, go_on)

    def _come_back(self, tracee: Tracee, call: ActiveCall, go_on: Callable[[], None]) -> None:
        call.phase, call.on_return, call.words = Phase.REWOUND, go_on, None
        self._go(tracee.tid)
