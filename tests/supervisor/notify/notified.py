"""Real programs under the real launch, driver and loop of the engine over user notification, with handlers of the test's."""

from __future__ import annotations

import os
import select
import socket
import tempfile
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from loops import chosen_loop, nothing
from mirrord_trace.agent.wire.messages import Message
from mirrord_trace.supervisor.notify.calls import Frame, NotifiedCall
from mirrord_trace.supervisor.notify.driver import Driver
from mirrord_trace.supervisor.notify.launch import launch
from mirrord_trace.supervisor.notify.listener import Listener, Notification
from mirrord_trace.supervisor.notify.loop import Loop
from mirrord_trace.supervisor.notify.passing import EXECUTING
from mirrord_trace.supervisor.notify.skipped import Skipped, Skips
from mirrord_trace.supervisor.notify.tasks import CurrentMemory, Tasks
from mirrord_trace.supervisor.tracer import filter as seccomp
from mirrord_trace.supervisor.tracer.arch.x86_64 import X32_BIT
from mirrord_trace.supervisor.tracer.launch import Inherited, Start
from mirrord_trace.supervisor.tracer.own_signals import OwnSignals
from mirrord_trace.supervisor.tracer.stops import Ended
from mirrord_trace.supervisor.tracer.tracee import Process, Tracee
from mirrord_trace.syscalls.actions import Answer, Handling, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.quick import Quick
from mirrord_trace.syscalls.table import Handler
from rig import ARCH, python

NUMBERS = ARCH.syscall_numbers


def code(names: Sequence[str]) -> bytes:
    """A filter with a listener for these calls."""
    rules = [seccomp.Rule(NUMBERS[name]) for name in names]
    return seccomp.program(rules, ARCH.audit, X32_BIT if ARCH.name == "x86_64" else 0, seccomp.RET_USER_NOTIF)


@dataclass
class Supervised:
    """What a test can look at, and change before and while the program runs."""

    driver: Driver
    tasks: Tasks
    loop: Loop
    notices: list[str]
    asked: list[tuple[int, Message]] = field(default_factory=list)
    replies: deque[tuple[int, Answer]] = field(default_factory=deque)
    output: str = ""
    end: Ended | None = None

    def lines(self) -> list[str]:
        """What the program has said."""
        return self.output.splitlines()


def supervise(
    program: str | Sequence[str],
    handlers: Mapping[str, Handler],
    *,
    prepare: Callable[[Supervised], None] = lambda run: None,
    context: Context | None = None,
    checks: Mapping[int, Quick] | None = None,
    skips: Skips | None = None,
) -> Supervised:
    """Run a program (Python text, or a command) to its end. In a process of the test's own: `rig.apart`.

    `skips`: see `Skipped`.
    """
    command = python(program) if isinstance(program, str) else list(program)
    inherited = Inherited.now()
    OwnSignals.block()
    link, other = socket.socketpair()
    asked: list[tuple[int, Message]] = []

    def ask(request: Message) -> int:
        asked.append((len(asked) + 1, request))
        other.send(b".")
        return len(asked)

    table = {NUMBERS[name]: (name, handler) for name, handler in handlers.items()}
    notices: list[str] = []
    known = context if context is not None else nothing(notices)
    compiled = chosen_loop(known, checks or {})
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        filtered = code([*dict.fromkeys((*handlers, *(EXECUTING if skips else ())))])
        launched = launch(Start(command, os.environb, (filtered,)), inherited)
        driver = Driver(known, table, ARCH, ask, checks or {})
        tasks = Tasks(launched.guard)
        loop = Loop(driver, tasks, launched, command[0], link.fileno(), compiled)
        run = Supervised(driver, tasks, loop, notices, asked)
        tasks.skipped = Skipped(lambda *asked: launched.has_executed and skips(*asked)) if skips else None
        loop.on_ring = lambda: _deliver(run, link)
        prepare(run)
        try:
            run.end = loop.run()
        finally:
            launched.end()
            if compiled is not None:
                compiled.close()
        output.seek(0)
        run.output = output.read().decode()
    link.close()
    other.close()
    return run


def _deliver(run: Supervised, link: socket.socket) -> None:
    while select.select([link], [], [], 0)[0]:
        link.recv(100)
    while run.replies:
        run.driver.answer(*run.replies.popleft())


class FakeListener(Listener):
    """Gives descriptors to this very process, and notes answers."""

    def __init__(self) -> None:
        self.fd = -1
        self.answers: list[tuple[int, int | None]] = []
        self.given: list[int] = []

    def go_on(self, id: int) -> bool:
        self.answers.append((id, None))
        return True

    def answer(self, id: int, result: int) -> bool:
        self.answers.append((id, result))
        return True

    def give(self, id: int, fd: int, *, close_on_exec: bool) -> int:
        self.given.append(os.dup(fd))
        return self.given[-1]

    def is_valid(self, id: int) -> bool:
        return True


def own_task() -> Tracee:
    """This very process, as a thread that is supervised."""
    return Tracee(os.getpid(), Process(os.getpid(), CurrentMemory()))


def own_call(name: str, *args: int) -> NotifiedCall:
    """A call of this process that waits for its answer."""
    padded = [value & 0xFFFFFFFFFFFFFFFF for value in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    note = Notification(
        1, os.getpid(), NUMBERS[name], ARCH.audit, 0, (padded[0], padded[1], padded[2], padded[3], padded[4], padded[5])
    )
    return NotifiedCall(note, own_task(), name, _nothing())


def own_frame(name: str, *args: int, **replaced: int | Scratch) -> Frame:
    """The frame of such a call; `replaced`: a0=…, a1=…"""
    return Frame(FakeListener(), own_call(name, *args), {int(key[1:]): value for key, value in replaced.items()})


def _nothing() -> Handling:
    raise AssertionError
    yield
