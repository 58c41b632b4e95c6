"""Calls that come to no handler: those of skipped processes (tracer/skipping.py), which the kernel runs as they are."""

from __future__ import annotations

from collections.abc import Mapping

from ...syscalls.context import Context
from ...syscalls.process import kept
from ...syscalls.quick import Quick, changing
from ..tracer.arch import Arch
from .listener import Listener, Notification
from .tasks import Tasks

EXECUTING = ("execve", "execveat")


class Passing:
    """Sees every notification first."""

    def __init__(self, context: Context, arch: Arch, checks: Mapping[int, Quick], listener: Listener, tasks: Tasks) -> None:
        numbers = arch.syscall_numbers
        self._context = context
        self._audit = arch.audit
        self._listener = listener
        self._tasks = tasks
        self._kept = kept(numbers)
        self._changing = changing(checks)
        self._executing = frozenset(numbers[name] for name in EXECUTING)

    def passes(self, note: Notification, *, has_handler: bool) -> bool:
        """Whether the call has been let through: of a skipped process, or an execve(2) that nobody handles.

        TraceeGone if nobody waits any more.
        """
        task = self._tasks.called(note, self._listener)
        is_native = note.audit == self._audit
        is_exec = is_native and note.sysno in self._executing
        if is_exec or not has_handler:  # of another ABI any call may be one
            self._tasks.executes(task)
        is_passed = task.is_skipped and not (is_native and note.sysno in self._kept)
        if is_passed and note.sysno in self._changing:
            self._context.directories.clear()  # the rest of the session has to know of those that become links
        if is_passed or (is_exec and not has_handler):
            self._listener.go_on(note.id)
            return True
        return False
