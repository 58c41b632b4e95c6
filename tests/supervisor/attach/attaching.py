"""Programs that run by themselves, and a tracer that attaches to them: in a process of its own (`rig.apart`).

A program is Python text that can use `call`, `raw` and `say` of the rig, and `heard()`, which waits for a line of the test.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from mirrord_trace.agent.wire.messages import Message
from mirrord_trace.supervisor.attach.driver import AttachedDriver
from mirrord_trace.supervisor.attach.loop import AttachLoop
from mirrord_trace.supervisor.attach.selection import Selection
from mirrord_trace.supervisor.attach.session import in_a_thread
from mirrord_trace.supervisor.tracer.doorbell import Doorbell
from mirrord_trace.supervisor.tracer.tree import Tree
from mirrord_trace.syscalls.actions import Answer
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.table import Handler, Row
from rig import ARCH, python

LIMIT_S = 30.0
_HEARD = """
def heard():
    line = b''
    while not line.endswith(b'\\n'):
        byte = os.read(0, 1)
        if not byte:
            os._exit(99)
        line += byte
    return line.decode().strip()
"""


class Program:
    """Runs from now on; killed at the end of the block at the latest. Not a child of those that attach."""

    def __init__(self, text: str) -> None:
        self.process = subprocess.Popen(
            python(_HEARD + text), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self.pid = self.process.pid

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exception: object) -> None:
        self.process.kill()
        self.process.communicate()

    def tell(self, line: str = "") -> None:
        """What its `heard()` returns."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def line(self) -> str:
        """What it says next; empty if it has ended."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def asked(self, line: str = "") -> str:
        """Tell it this, and what it says then."""
        self.tell(line)
        return self.line()


@dataclass
class Attached:
    """What a test can look at, and change."""

    driver: AttachedDriver
    tree: Tree
    loop: AttachLoop
    asked: list[tuple[int, Message]] = field(default_factory=list)
    replies: deque[tuple[int, Answer]] = field(default_factory=deque)
    arrived: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def attached(
    pid: int,
    handlers: Mapping[str, Handler] | None = None,
    *,
    rows: tuple[Row, ...] = (),
    prepare: Callable[[Attached], None] = lambda run: None,
) -> Iterator[Attached]:
    """Attach, and let go at the end of the block."""
    started: list[Attached] = []
    ready = threading.Event()

    def trace() -> None:
        doorbell = Doorbell()
        try:
            started.append(_start(pid, handlers or {}, rows, doorbell))
            prepare(started[0])
            assert started[0].loop.attach()
            ready.set()
            started[0].loop.attend()
        finally:
            doorbell.remove()
            ready.set()

    failed: list[BaseException] = []

    def guarded() -> None:
        try:
            in_a_thread(trace)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    assert ready.wait(LIMIT_S)
    try:
        assert not failed, failed
        run = started[0]
        assert run.arrived.wait(LIMIT_S)
        yield run
    finally:
        if thread.is_alive() and started:
            started[0].loop.post(started[0].loop.detach)
            until(lambda: _has_left(thread, started[0]))
        thread.join(LIMIT_S)
    assert not thread.is_alive()
    assert not failed, failed


def _has_left(thread: threading.Thread, run: Attached) -> bool:
    run.loop.post(run.loop.hurry)
    return not thread.is_alive()


def _start(pid: int, handlers: Mapping[str, Handler], rows: tuple[Row, ...], doorbell: Doorbell) -> Attached:
    asked: list[tuple[int, Message]] = []

    def ask(request: Message) -> int:
        asked.append((len(asked) + 1, request))
        return len(asked)

    table = {ARCH.syscall_numbers[name]: (name, handler) for name, handler in handlers.items()}
    chosen = rows or tuple(Row(name, handler, "") for name, handler in handlers.items())
    selection = Selection(chosen, ARCH.syscall_numbers)
    driver = AttachedDriver(cast(Context, object()), table, ARCH, ask, selection)
    tree = Tree(ARCH)
    run = Attached(driver, tree, AttachLoop(driver, tree, doorbell, pid), asked)
    run.loop.on_attached = run.arrived.set
    run.loop.on_ring = lambda: _deliver(run)
    return run


def _deliver(run: Attached) -> None:
    while run.replies:
        run.driver.answer(*run.replies.popleft())


def state(pid: int) -> str:
    """The letter of proc(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode()


def tracer_of(pid: int) -> int:
    """0: none."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("TracerPid:"))


def stop(pid: int) -> None:
    """SIGSTOP, and wait until it is."""
    os.kill(pid, signal.SIGSTOP)
    while state(pid) != "T":
        os.sched_yield()


def until(holds: Callable[[], bool]) -> None:
    """Wait for what the kernel or another thread brings about and no event tells."""
    end = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.005)
