"""A call in progress, and the parts that carry out what a handler yields."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from ...syscalls.actions import Handling, Scratch
from ..tracer.call import ActiveCall
from ..tracer.tracee import Tracee
from .listener import Listener, Notification

if TYPE_CHECKING:
    from .borrow import Borrowed
    from .sockets import SocketCall


class NotifiedCall(ActiveCall):
    """A call whose thread waits for our answer.

    `socket`: what it waits for on a socket, or None. `is_away`: carried out by a thread of ours, `worker` once that has begun.
    `borrowed`: the thread has a tracer for this call, which answers it; `wanted`: what it was borrowed for.
    `is_taken_back`: the thread has been let go to take a signal, and makes the call again (see `Driver.tick`).
    """

    __slots__ = ("borrowed", "id", "is_away", "is_taken_back", "socket", "task", "wanted", "worker")

    def __init__(self, note: Notification, task: Tracee, name: str, handling: Handling) -> None:
        super().__init__(note.sysno, note.args, note.ip, 0, name, handling)
        self.id = note.id
        self.task = task
        self.socket: SocketCall | None = None
        self.borrowed: Borrowed | None = None
        self.wanted: tuple[str, Mapping[int, int | Scratch]] = ("", {})
        self.is_away = False
        self.worker = 0
        self.is_taken_back = False


class Surroundings(Protocol):
    """What the loop offers to the driver."""

    def post(self, work: Callable[[], None]) -> None:
        """Have `work` done by the loop's thread."""
        ...

    def watch(self, waiting: NotifiedCall) -> None:
        """Call `Driver.ready` when the call's socket is ready or its deadline has passed."""
        ...

    def unwatch(self, waiting: NotifiedCall) -> None:
        """No more."""
        ...


class Frame:
    """The arguments of a call that is made on a thread's behalf: its own registers, some of them replaced.

    Memory is the thread's, but for what a `Scratch` holds.
    """

    def __init__(self, listener: Listener, call: NotifiedCall, replaced: dict[int, int | Scratch]) -> None:
        self.listener = listener
        self.call = call
        self.task = call.task
        self.args: list[int] = [
            value if isinstance(value := replaced.get(position, register), int) else 0
            for position, register in enumerate(call.args)
        ]
        self.scratch: dict[int, Scratch] = {
            position: value for position, value in replaced.items() if isinstance(value, Scratch)
        }

    def is_null(self, position: int) -> bool:
        """Whether a pointer argument points nowhere."""
        return position not in self.scratch and not self.args[position]

    def content(self, position: int, size_bytes: int) -> bytes:
        """What a pointer argument points at."""
        scratch = self.scratch.get(position)
        return scratch.content[:size_bytes] if scratch is not None else self.task.read(self.args[position], size_bytes)

    def string(self, position: int) -> bytes:
        """The string that a pointer argument points at, without its NUL."""
        scratch = self.scratch.get(position)
        return scratch.content.partition(b"\0")[0] if scratch is not None else self.task.read_string(self.args[position])

    def give(self, fd: int, *, close_on_exec: bool) -> int:
        """The thread gets our descriptor, which is closed here. Its number there, or -errno."""
        try:
            return self.listener.give(self.call.id, fd, close_on_exec=close_on_exec)
        finally:
            os.close(fd)
