"""What becomes of calls for which a thread is borrowed (borrow.py), in the loop's thread."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Protocol

from ...syscalls.actions import Decision, Reason, Route, SyscallError
from ...syscalls.context import Context
from ..errors import TraceeGone
from ..tracer.arch import Arch
from ..tracer.call import Replaced
from . import paths
from .borrow import Borrowed
from .calls import NotifiedCall
from .listener import Listener
from .tasks import Tasks


class Driver(Protocol):
    """What it needs of notify/driver.py."""

    context: Context
    arch: Arch
    tasks: Tasks
    calls: dict[int, NotifiedCall]

    def run_path(self, call: NotifiedCall, name: str, args: Replaced) -> None:
        """Have a call on paths made by a worker."""
        ...

    def has_run(self, call: NotifiedCall, result: int) -> None:
        """The call has been made."""
        ...

    def throw(self, call: NotifiedCall, error: SyscallError) -> None:
        """It has failed."""
        ...

    def abandon(self, tid: int) -> None:
        """It is given up."""
        ...


class Borrowing:
    """Implements `borrow.Outcomes`."""

    def __init__(self, driver: Driver, listener: Listener, post: Callable[[Callable[[], None]], None]) -> None:
        self._driver = driver
        self._listener = listener
        self._post = post

    def begin(self, call: NotifiedCall, name: str, args: Replaced) -> None:
        """Have the thread make the call `name` by itself."""
        call.wanted = name, args
        call.borrowed = Borrowed(self._driver.arch, self._listener, call, self._post)
        call.borrowed.run(name, args, self)

    def refused(self, call: NotifiedCall) -> None:
        """Somebody else traces the thread: it cannot make the call with other arguments."""
        call.borrowed = None
        name, args = call.wanted
        if name not in paths.KINDS:
            self._driver.context.notice(
                f"traced-{call.name}",
                f"{call.name} on the pod's files is not possible for a process that a debugger traces: EACCES",
            )
            self._driver.throw(call, SyscallError(errno.EACCES, Decision(Route.REMOTE, Reason.UNSUPPORTED)))
            return
        self._driver.context.notice(
            "traced-O_PATH", "O_PATH descriptors of the pod's files are readable ones for a process that a debugger traces"
        )
        try:
            self._driver.run_path(call, name, args)
        except SyscallError as error:
            self._driver.has_run(call, -error.errno)
        except TraceeGone:
            self._driver.abandon(call.task.tid)

    def has_run(self, call: NotifiedCall, result: int) -> None:
        """The call has been made, and the thread is held until its handler has seen the result."""
        self._driver.has_run(call, result)

    def has_executed(self, call: NotifiedCall) -> None:
        """It runs another program now."""
        program, tgid, tasks = call.task.process.next_program, call.task.tgid, self._driver.tasks
        self._driver.abandon(call.task.tid)
        tasks.forget()
        if program:
            tasks.executed(tgid, program)
        else:
            tasks.programs.pop(tgid, None)
        if call.borrowed is not None:
            call.borrowed.end(0)

    def has_gone(self, call: NotifiedCall) -> None:
        """It has been killed."""
        if self._driver.calls.get(call.task.tid) is call:
            self._driver.abandon(call.task.tid)
