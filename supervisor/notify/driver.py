"""Carries out what handlers decide, for threads that wait in the kernel for the answer to their notification.

The same vocabulary as tracer/driver.py, by other means:
- `Continue` lets the kernel run the call; `Return` and errnos answer it, memory is written before.
- `GiveFile`: our open file becomes the thread's by SECCOMP_IOCTL_NOTIF_ADDFD.
- `Run`: nobody can change the arguments of a call here. What only concerns files and sockets is done on the thread's behalf
  (paths.py, sockets.py); what concerns the process itself (chdir, execve of the pod's files), and what gives a descriptor
  that cannot be given away (O_PATH), is done by the thread under a tracer that is there for this one call (borrow.py), if
  it has none already.
- `Trap` has nothing to do: the filter has all rows from the start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
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
    SyscallError,
    Trap,
)
from ...syscalls.context import Context
from ...syscalls.quick import Quick
from ...syscalls.table import Handler
from ..errors import InternalError, TraceeGone
from ..tracer.arch import Arch
from ..tracer.call import UNKNOWN_RESULT, Observer, Phase, Replaced
from ..tracer.impatience import Impatience
from ..tracer.reach import outcome
from . import paths, sockets
from .borrowing import Borrowing
from .calls import Frame, NotifiedCall, Surroundings
from .hurrying import Hurrying
from .immediate import give, uname
from .listener import Listener, Notification
from .passing import Passing
from .sockets import SocketCall
from .tasks import Tasks, has_own_signal
from .workers import Workers

_FAILED = Decision(Route.REMOTE, Reason.NOT_OURS)
_RESTART = -512
"""ERESTARTSYS: the kernel makes the call again after the signal, or turns this into EINTR, as its handler says."""
_RESTART_ALWAYS = -513
_UNCHANGED = Decision(Route.LOCAL, Reason.NOT_OURS)
_CREATING = frozenset({"clone", "clone3"})
"""Run with other flags, lest a child have no tracer; here it inherits the filter whatever they are."""


class Driver:
    """Runs handlers against waiting threads. One a session; the loop's thread only; never waits."""

    def __init__(
        self,
        context: Context,
        handlers: Mapping[int, tuple[str, Handler]],
        arch: Arch,
        ask: Callable[[Message], int],
        checks: Mapping[int, Quick],
    ) -> None:
        self.context = context
        self.arch = arch
        self.parked: dict[int, NotifiedCall] = {}
        """Request id -> the call that waits for its reply."""
        self.calls: dict[int, NotifiedCall] = {}
        """Tid -> its call in progress."""
        self._handlers = dict(handlers)
        self._checks = checks
        self._quick = {sysno: quick.check for sysno, quick in checks.items()}
        self._ask = ask
        self._observer: Observer | None = None
        self._numbers = arch.syscall_numbers
        self._names = {number: name for name, number in arch.syscall_numbers.items()}
        self._exec = self._numbers["execve"]
        self._workers = Workers()
        self._impatience = Impatience()
        self._hurrying = Hurrying(context, self._impatience)
        self._borrowing: Borrowing
        self._passing: Passing
        self._listener: Listener
        self.tasks: Tasks
        self._loop: Surroundings

    def start(self, listener: Listener, tasks: Tasks, loop: Surroundings) -> None:
        """Before the first notification."""
        self._listener, self.tasks, self._loop = listener, tasks, loop
        self._borrowing = Borrowing(self, listener, loop.post)
        self._passing = Passing(self.context, self.arch, self._checks, listener, tasks)

    @property
    def observer(self) -> Observer | None:
        """As in tracer/driver.py. What the kernel runs by itself has `UNKNOWN_RESULT`."""
        return self._observer

    @observer.setter
    def observer(self, observer: Observer | None) -> None:
        self._observer = observer
        self._quick.clear()

    # -- notifications ------------------------------------------------------------------------------------------------

    def is_exec(self, note: Notification) -> bool:
        """Whether it is an execve(2)."""
        return note.sysno == self._exec

    def at_notification(self, note: Notification) -> bool:
        """A call of the table. False if it came through an ABI that this tool refuses."""
        found = self._handlers.get(note.sysno) if note.audit == self.arch.audit else None
        before = self.calls.get(note.tid)
        if before is not None and before.borrowed is not None:
            self._listener.go_on(note.id)  # it makes its call under our eyes
            return True
        try:
            if self._passing.passes(note, has_handler=found is not None):
                self.abandon(note.tid)
                return True
            if found is None:
                return False
            self._begin(note, *found)
        except TraceeGone:
            self.abandon(note.tid)
        except OutOfReach as lack:  # nothing can be known of who calls
            self._listener.answer(note.id, -lack.errno)
        return True

    def _begin(self, note: Notification, name: str, handler: Handler) -> None:
        if note.tid in self.calls and self._goes_on(note):
            return
        task = self.tasks.get(note.tid)
        quick = self._quick.get(note.sysno)
        if quick is not None and quick(self.context, task, note.args):
            self._listener.go_on(note.id)
            return
        handling = handler(self.context, task, note.args)
        call = NotifiedCall(note, task, name, handling)
        self.calls[note.tid] = call
        self._advance(call, lambda: next(handling))

    # The repetition of a call that was interrupted for a signal continues where its handler stands.
    def _goes_on(self, note: Notification) -> bool:
        call = self.calls[note.tid]
        if not (call.is_taken_back and call.sysno == note.sysno and call.args == note.args and call.ip == note.ip):
            self.abandon(note.tid)
            return False
        call.id, call.is_taken_back = note.id, False
        answer, call.answer = call.answer, None
        if answer is not None:
            self._answered(call, answer)
        return True

    def abandon(self, tid: int) -> None:
        """Give up the call in progress of this thread, if any."""
        call = self.calls.pop(tid, None)
        if call is None:
            return
        if call.ask_id:
            self.parked.pop(call.ask_id, None)
        call.drop_answer()
        self._let_go_of_socket(call)
        self._hurrying.unwanted(call)
        if not call.is_away:
            call.handling.close()

    def close(self) -> None:
        """Nobody is left: what is held for calls is let go."""
        for tid in list(self.calls):
            self.abandon(tid)

    def tick(self) -> None:
        """Now and then: calls whose thread has died are given up, and those whose thread has a signal to take end.

        With WAIT_KILLABLE_RECV nothing but this ends the wait of a thread. Everything that is asked of the pod is bounded and
        is simply made again after the signal, when its reply is still there; see impatience.py. A call on a socket ends as the
        kernel's.
        """
        self._hurrying.tick()
        for tid, call in list(self.calls.items()):
            if call.borrowed is not None:
                self._hurrying.look(call)
            elif not (os.path.exists(f"/proc/{tid}") if call.is_taken_back else self._listener.is_valid(call.id)):
                self.abandon(tid)
            elif call.is_away:
                self._hurrying.look(call)
            elif not call.is_taken_back:
                self._interrupt(tid, call)

    def _interrupt(self, tid: int, call: NotifiedCall) -> None:
        has_signal = call.task.has_pending_signal()
        # A restart code without a signal of this very thread would reach the program.
        is_own = has_signal and (tid == call.task.tgid or has_own_signal(tid))
        if call.socket is not None and has_signal:
            restarts = is_own and not call.socket.has_timeout
            self.abandon(tid)
            self._listener.answer(call.id, _RESTART if restarts else -errno.EINTR)
        elif call.ask_id and self._impatience.is_over(tid, call, has_signal):
            self.abandon(tid)
            self._listener.answer(call.id, -errno.EINTR)
        elif call.ask_id and is_own:
            call.is_taken_back = True
            self._listener.answer(call.id, _RESTART_ALWAYS)

    def interrupt_parked(self) -> None:
        """As in tracer/driver.py: `tick`."""
        self.tick()

    # -- handler steps ------------------------------------------------------------------------------------------------

    def answer(self, request_id: int, answer: Answer) -> None:
        """The reply to a parked request; ignored (its fd closed) if nobody waits for it any more."""
        call = self.parked.pop(request_id, None)
        self._impatience.answered(call.task.tid if call is not None else 0)
        if call is None:
            answer.drop()
            return
        call.ask_id = 0
        if call.is_taken_back:
            call.answer = answer
        else:
            self._answered(call, answer)

    def _answered(self, call: NotifiedCall, answer: Answer) -> None:
        if isinstance(answer.message, Failed):
            self.throw(call, SyscallError(answer.message.errno or errno.EIO, text=answer.message.text))
        else:
            self.step(call, answer)

    def step(self, call: NotifiedCall, outcome: Outcome) -> None:
        """Hand an outcome to the handler and carry out what it does next."""
        self._advance(call, lambda: call.handling.send(outcome))

    def throw(self, call: NotifiedCall, error: SyscallError) -> None:
        """As `step`, for what has failed."""
        self._advance(call, lambda: call.handling.throw(error))

    def _advance(self, call: NotifiedCall, handler_goes_on: Callable[[], Action]) -> None:
        try:
            try:
                action = handler_goes_on()
            except StopIteration as stop:
                self._finish(call, stop.value)
            except SyscallError as error:
                self._finish(call, Return(-error.errno, error.decision or _FAILED))
            except OutOfReach as lack:
                self._finish(call, outcome(self.context, call.task.tid, lack))
            else:
                self._act(call, action)
        except TraceeGone:
            self.abandon(call.task.tid)

    def _act(self, call: NotifiedCall, action: Action) -> None:
        if isinstance(action, Ask):
            call.ask_id = self._ask(action.request)
            self._impatience.waits(call)
            self.parked[call.ask_id] = call
        elif isinstance(action, Run):
            self._run(call, action)
        elif isinstance(action, GiveFile):
            self.step(call, give(self._listener, call, action))
        elif isinstance(action, Trap):
            self.step(call, 0)
        else:
            raise InternalError(f"{call.name}: a handler yielded {action!r}")

    def _finish(self, call: NotifiedCall, final: Final) -> None:
        self.calls.pop(call.task.tid, None)
        if isinstance(final, Continue):
            self._observe(call, UNKNOWN_RESULT, final.decision)
            self._listener.go_on(call.id)
            return
        result = call.result
        if isinstance(final, Return):
            result = final.value
            try:
                for address, content in final.writes:
                    call.task.write(address, content)
            except SyscallError as fault:
                result = -fault.errno
            except OutOfReach as lack:
                self._finish(call, outcome(self.context, call.task.tid, lack))
                return
        self._observe(call, result, final.decision)
        if call.borrowed is not None:
            call.borrowed.end(result)
        else:
            self._listener.answer(call.id, result)

    def _observe(self, call: NotifiedCall, result: int, decision: Decision) -> None:
        if self._observer is not None:
            self._observer(call.task, call, result, decision)

    # -- running the call ---------------------------------------------------------------------------------------------

    def _run(self, call: NotifiedCall, action: Run) -> None:
        name = call.name if action.sysno is None else self._names[action.sysno]
        if call.borrowed is not None:
            call.borrowed.run(name, action.args)
            return
        if not self._listener.is_valid(call.id):
            raise TraceeGone(call.task.tid)
        if name in _CREATING:
            call.handling.close()
            self._finish(call, Continue(_UNCHANGED))
            return
        frame = Frame(self._listener, call, dict(action.args))
        self._impatience.waits(call)
        try:
            if name in sockets.NAMES:
                call.socket = SocketCall(frame, name, self._numbers)
                self.ready(call)
            elif name == "uname":
                self.has_run(call, uname(frame, self._numbers[name]))
            elif name in paths.KINDS and not paths.is_path_only(frame, name):
                self.run_path(call, name, action.args)
            else:
                self._borrowing.begin(call, name, action.args)
        except SyscallError as error:  # an argument that the kernel refuses as well
            self.has_run(call, -error.errno)
        except OutOfReach as lack:
            self._finish(call, outcome(self.context, call.task.tid, lack))

    def run_path(self, call: NotifiedCall, name: str, args: Replaced) -> None:
        """Have a call on paths made by a worker."""
        made = paths.PathCall(Frame(self._listener, call, dict(args)), name, self._numbers[name])
        call.is_away = True

        def work() -> None:
            call.worker = threading.get_native_id()
            result = made.make()
            self._loop.post(lambda: self._came_back(call, result))

        self._workers.do(work)

    def _came_back(self, call: NotifiedCall, result: int) -> None:
        call.is_away = False
        if result != -errno.EINTR:
            self._impatience.answered(call.task.tid)
        if self.calls.get(call.task.tid) is call:
            self.has_run(call, result)
        else:
            call.handling.close()

    def has_run(self, call: NotifiedCall, result: int) -> None:
        """The call has been made: its handler goes on."""
        call.result = result
        call.phase = Phase.EXIT
        self.step(call, result)

    def ready(self, call: NotifiedCall) -> None:
        """The call's socket may be ready, or its deadline has passed."""
        made = call.socket
        if made is None:
            return
        result = made.attempt()
        if result is None and made.is_late:
            result = made.late()
        if result is None:
            self._loop.watch(call)
            return
        self._let_go_of_socket(call)
        try:
            self.has_run(call, result)
        except TraceeGone:
            self.abandon(call.task.tid)

    def _let_go_of_socket(self, call: NotifiedCall) -> None:
        made, call.socket = call.socket, None
        if made is not None:
            self._loop.unwatch(call)
            with contextlib.suppress(OSError):
                made.close()
