"""Calls that only the thread itself can make (chdir(2), execve(2) of the pod's files): with a tracer for that one call.

The thread is seized and its notification answered by a restart code, so that it comes to a ptrace stop on its way out of
the kernel. From there it makes the call with other arguments, which lie in memory that is mapped for it. Then it is let
go again. All its signals are blocked meanwhile. A thread that somebody traces already, a debugger, cannot be borrowed.

The stops of a thread are reported to the thread that has seized it, so each borrowed one has a thread of ours.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from ...syscalls.actions import Scratch, SyscallError
from ..errors import TraceeGone
from ..forking import start
from ..tracer import ptrace
from ..tracer.arch import Arch
from ..tracer.space import region_for
from ..tracer.stops import Ended, ExecStop, GroupStop, SignalDeliveryStop, Stop, SyscallStop, TrapStop, classify
from .calls import NotifiedCall
from .listener import Listener
from .workers import call as make

_OPTIONS = ptrace.OPTION_TRACESYSGOOD | ptrace.OPTION_TRACEEXEC | ptrace.OPTION_EXITKILL
_WNOTHREAD = 0x20000000
_RESTART = -513
_ALL_SIGNALS = 0xFFFFFFFFFFFFFFFF
_PROT_READ_WRITE = 3
_MAP_PRIVATE_ANONYMOUS = 0x22
_MASK = 0xFFFFFFFFFFFFFFFF
_SYS_TGKILL = 234 if os.uname().machine == "x86_64" else 131

Replaced = Mapping[int, int | Scratch]


class Outcomes(Protocol):
    """Whom a borrowed thread's own thread tells, by way of the loop."""

    def refused(self, call: NotifiedCall) -> None:
        """Somebody else traces the thread, and it still waits for its answer."""
        ...

    def has_run(self, call: NotifiedCall, result: int) -> None:
        """The kernel's result; `Borrowed.run` or `Borrowed.end` has to follow."""
        ...

    def has_executed(self, call: NotifiedCall) -> None:
        """It has executed another program; `Borrowed.end` has to follow."""
        ...

    def has_gone(self, call: NotifiedCall) -> None:
        """It has been killed."""
        ...


class _Run(NamedTuple):
    name: str
    args: Replaced


class _End(NamedTuple):
    result: int


class Borrowed:
    """A thread that makes a call under our eyes."""

    def __init__(self, arch: Arch, listener: Listener, call: NotifiedCall, post: Callable[[Callable[[], None]], None]) -> None:
        self._arch = arch
        self._listener = listener
        self._call = call
        self._post = post
        self._tid = call.task.tid
        self._words: list[int] = []
        self.mask: int | None = None
        """The thread's own signal mask, once its signals are held back."""
        self._regions: list[tuple[int, int]] = []
        self._held_back: list[int] = []
        self._orders: queue.SimpleQueue[_Run | _End] = queue.SimpleQueue()

    def run(self, name: str, args: Replaced, outcomes: Outcomes | None = None) -> None:
        """Have it make the call `name`. `outcomes`: the first time, which begins everything."""
        self._orders.put(_Run(name, args))
        if outcomes is not None:
            start(threading.Thread(target=self._serve, args=(outcomes,), name="borrow", daemon=True))

    def end(self, result: int) -> None:
        """Let it go, with this result of its call."""
        self._orders.put(_End(result))

    # -- the thread's own thread --------------------------------------------------------------------------------------

    def _serve(self, outcomes: Outcomes) -> None:
        call = self._call
        try:
            if not self._seize():
                self._post(lambda: outcomes.refused(call))
                return
            while isinstance(order := self._orders.get(), _Run):
                result = self._make(order)
                if result is None:
                    self._post(lambda: outcomes.has_executed(call))
                    self._orders.get()  # what it does next is to be seen as another program's
                    self._release()
                    return
                self._tell(outcomes, result)
            self._let_go(order.result)
        except (TraceeGone, OSError):
            self._post(lambda: outcomes.has_gone(call))

    def _tell(self, outcomes: Outcomes, result: int) -> None:
        self._post(lambda: outcomes.has_run(self._call, result))

    def _seize(self) -> bool:
        try:
            ptrace.seize(self._tid, _OPTIONS)
        except PermissionError:
            return False
        ptrace.interrupt(self._tid)
        self._listener.answer(self._call.id, _RESTART)
        while not isinstance(self._wait(), TrapStop):
            ptrace.cont(self._tid)
        self._words = self._arch.registers(self._tid)
        for position, value in enumerate(self._call.args):  # the result may have taken the first one's place
            self._words[self._arch.argument_index(position)] = value
        self.mask = ptrace.signal_mask(self._tid)
        ptrace.set_signal_mask(self._tid, _ALL_SIGNALS)
        return True

    def _wait(self) -> Stop:
        tid, status = os.waitpid(-1, ptrace.WALL | _WNOTHREAD)
        stop = classify(status)
        if isinstance(stop, Ended):
            raise TraceeGone(tid)
        self._tid = tid  # of the whole group, if it has executed a program
        if isinstance(stop, (SignalDeliveryStop, GroupStop)):
            self._held_back.append(stop.signal)
        return stop

    def _make(self, order: _Run) -> int | None:
        words = list(self._words)
        for position, value in order.args.items():
            placed = self._place(value) if isinstance(value, Scratch) else value
            words[self._arch.argument_index(position)] = placed & _MASK
        return self._inject(self._arch.syscall_numbers[order.name], words)

    # The result, or None after an execve(2) that has succeeded.
    def _inject(self, sysno: int, words: list[int]) -> int | None:
        self._arch.set_registers(self._tid, self._arch.rewound(self._words, self._call.sysno))
        self._to_syscall_stop()
        self._arch.set_call(self._tid, words, sysno)
        if self._to_syscall_stop():
            return None
        return ptrace.result_at_exit(self._tid)[1]

    def _to_syscall_stop(self) -> bool:
        # True: it has come to an exec stop instead.
        while True:
            ptrace.to_syscall_stop(self._tid)
            stop = self._wait()
            if isinstance(stop, (SyscallStop, ExecStop)):
                return isinstance(stop, ExecStop)

    def _place(self, scratch: Scratch) -> int:
        size = region_for(len(scratch.content))
        words = list(self._words)
        for position, value in enumerate((0, size, _PROT_READ_WRITE, _MAP_PRIVATE_ANONYMOUS, -1, 0)):
            words[self._arch.argument_index(position)] = value & _MASK
        base = self._inject(self._arch.syscall_numbers["mmap"], words) or 0
        if base < 0:
            raise TraceeGone(self._tid)
        self._regions.append((base, size))
        content = scratch.content
        for offset, target in scratch.pointers:
            content = content[:offset] + (base + target).to_bytes(8, "little") + content[offset + 8 :]
        with contextlib.suppress(SyscallError):
            self._call.task.space.write(self._tid, base, content)
        return base

    def _let_go(self, result: int) -> None:
        for base, size in self._regions:
            words = list(self._words)
            words[self._arch.argument_index(0)] = base
            words[self._arch.argument_index(1)] = size
            self._inject(self._arch.syscall_numbers["munmap"], words)
        self._arch.set_result(self._tid, self._words, result)
        self._release()

    def _release(self) -> None:
        ptrace.set_signal_mask(self._tid, self.mask or 0)
        for number in self._held_back:
            make(_SYS_TGKILL, self._call.task.tgid, self._tid, number)
        ptrace.detach(self._tid)
