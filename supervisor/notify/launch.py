"""Starts the program for this engine: guard, filter with a listener, execve(2).

The first process puts the filter on itself, so the listener is its descriptor at first. It tells the number and waits
until the supervisor has taken a duplicate by pidfd_getfd(2); it makes no filtered call in between.
"""

from __future__ import annotations

import contextlib
import os
import select
from functools import partial
from typing import NoReturn

from ..descendants import children
from ..errors import UsageError
from ..tracer.launch import Inherited, Launched, Start, become
from ..tracer.tracee import duplicate_of
from .availability import install_with_listener
from .guard import end_guard, start_guard
from .listener import Listener
from .witness import Witness


class Supervised(Launched):
    """The first process with its guard and its listener. `events`: see guard.py. `failure_fd` ends when it has executed.

    `end` has to be called.
    """

    def __init__(
        self, pid: int, failure: int, guard: int, events: int, listener: Listener, witness: Witness, ours: set[int]
    ) -> None:
        super().__init__(pid, failure)
        self._ours = ours
        self.witness = witness
        self.failure_fd = failure
        self.guard = guard
        self.events = events
        self.listener = listener
        self._has_executed = False

    @property
    def has_executed(self) -> bool:
        """Whether the first process runs the program by now: the pipe for what goes wrong is closed by execve(2)."""
        if not self._has_executed:
            poll = select.poll()
            poll.register(self.failure_fd, select.POLLIN)
            self._has_executed = any(event & select.POLLHUP and not event & select.POLLIN for _, event in poll.poll(0))
        return self._has_executed

    def end(self) -> None:
        """Nothing of the program is left afterwards, however the session ends."""
        end_guard(self.guard, self._ours)
        self.witness.remove()


def launch(start: Start, inherited: Inherited) -> Supervised:
    """Start it; returns before execve(2). UsageError if the kernel has no user notification."""
    witness = Witness()
    ours = children(os.getpid())
    try:
        return _launch(start, inherited, witness, ours)
    except BaseException:
        witness.remove()
        raise


def _launch(start: Start, inherited: Inherited, witness: Witness, ours: set[int]) -> Supervised:
    failure_read, failure_write = os.pipe()
    go_read, go_write = os.pipe()
    number_read, number_write = os.pipe()

    def program() -> NoReturn:
        for fd in (failure_read, number_read, go_write):
            os.close(fd)
        become(start, inherited, go_read, failure_write, partial(_install, number_write, go_read))

    guard, pid, events = start_guard(program)
    for fd in (failure_write, number_write, go_read):
        os.close(fd)
    try:
        _tell_to_go_on(go_write)
        number = int(os.read(number_read, 16) or b"-1")
        listener = _take(pid, number)
        if listener is None:
            failure = Launched(pid, failure_read).failure(start.arguments[0] if start.arguments else "")
            raise failure or UsageError("cannot supervise by seccomp user notification: the program's process has ended")
        _tell_to_go_on(go_write)
    except BaseException:
        os.close(events)
        end_guard(guard, ours)
        raise
    finally:
        os.close(number_read)
        os.close(go_write)
    return Supervised(pid, failure_read, guard, events, listener, witness, ours)


def _tell_to_go_on(go: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # it has failed already, and says why by the other pipe
        os.write(go, b".")


def _take(pid: int, number: int) -> Listener | None:
    if number < 0:
        return None
    try:
        return Listener(duplicate_of(pid, number))
    except PermissionError:
        raise UsageError("the kernel forbids pidfd_getfd(2), which --engine notify needs; use --engine ptrace") from None


def _install(number: int, go: int, code: bytes) -> None:
    listener, _ = install_with_listener(code)
    os.write(number, b"%d" % listener)
    os.close(number)
    os.read(go, 1)
    os.close(listener)
