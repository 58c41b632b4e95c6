"""A call in progress: the handler's generator and where in the call the tracee stands."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from ...syscalls.actions import Answer, Decision, Handling, Outcome, OutOfReach, Scratch, SyscallError
from ...syscalls.context import Args

if TYPE_CHECKING:
    from .tracee import Tracee

RESTARTS = frozenset({-512, -513, -514, -516})
"""ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND, ERESTART_RESTARTBLOCK: the kernel's own, never seen by user code."""

UNKNOWN_RESULT = -(1 << 20)
"""For --trace, of calls that the kernel runs without anybody being told how they end (notify/driver.py)."""

Replaced = Mapping[int, int | Scratch]
"""Argument position -> its value, or the bytes that it shall point at."""


class Phase(enum.Enum):
    """Where the tracee is while a handler has control of its call."""

    ENTRY = "stopped before the call"
    RUNNING = "the kernel runs the call"
    EXIT = "stopped after the call"
    REWOUND = "on its way to make the call again"


class ActiveCall:
    """One call of one tracee, from its seccomp stop to its end."""

    __slots__ = (
        "answer",
        "args",
        "ask_id",
        "at_exit",
        "fd",
        "handling",
        "ip",
        "name",
        "on_return",
        "phase",
        "result",
        "slots",
        "sp",
        "sysno",
        "waits_since_s",
        "words",
    )

    def __init__(self, sysno: int, args: Args, ip: int, sp: int, name: str, handling: Handling) -> None:
        self.sysno = sysno
        self.args = args
        self.ip = ip
        self.sp = sp
        self.name = name
        self.handling = handling
        self.phase = Phase.ENTRY
        self.words: list[int] | None = None
        """The registers at entry, once something has changed or will change them."""
        self.result = 0
        """The kernel's, from EXIT on."""
        self.slots: list[int] = []
        """Scratch slots in use."""
        self.ask_id = 0
        """Id of the request that this call is parked for, or 0."""
        self.waits_since_s = 0.0
        """Since when it waits for the pod (impatience.py)."""
        self.answer: Answer | None = None
        """The reply, if it came while the thread takes a signal (REWOUND)."""
        self.fd = -1
        """A descriptor of ours on its way to the tracee, or -1."""
        self.at_exit: Callable[[int], None] | None = None
        """What to do with the kernel's result, while RUNNING."""
        self.on_return: Callable[[], None] | None = None
        """What to do once the call is made again, while REWOUND."""

    def drop_answer(self) -> None:
        """The call is given up."""
        if self.answer is not None:
            self.answer.drop()

    def is_same(self, sysno: int, args: Args, ip: int, sp: int) -> bool:
        """Whether a seccomp stop is the repetition that REWOUND waits for."""
        return self.sysno == sysno and self.ip == ip and self.sp == sp and self.args == args


Observer = Callable[["Tracee", ActiveCall, int, Decision], None]
"""Told of every finished call with its result, before the tracee runs on: for --trace."""


class Engine(Protocol):
    """What the driver offers to those who make the tracee do something in a call's place (give.py, scratch.py, filters.py)."""

    def run(self, tracee: Tracee, call: ActiveCall, name: str, args: Replaced, at_exit: Callable[[int], None]) -> None:
        """At ENTRY: let the kernel run the call `name` with these arguments; `at_exit` gets its result, at EXIT."""
        ...

    def has_run(self, tracee: Tracee, call: ActiveCall, result: int) -> None:
        """At EXIT: hand the result to the handler, or let the kernel restart the call."""
        ...

    def rewind(self, tracee: Tracee, call: ActiveCall, go_on: Callable[[], None]) -> None:
        """At EXIT: have the thread make its own call again, and go on there, at ENTRY."""
        ...

    def step(self, tracee: Tracee, call: ActiveCall, outcome: Outcome) -> None:
        """Hand an outcome to the handler and carry out what it does next."""
        ...

    def fail(self, tracee: Tracee, call: ActiveCall, error: SyscallError | OutOfReach) -> None:
        """At ENTRY or EXIT: end the call with this errno, or as reach.py says; the handler is not asked."""
        ...

    def release(self, tracee: Tracee, call: ActiveCall) -> None:
        """Take scratch slots and the descriptor on its way back."""
        ...
