"""Real tracees for the tests of the tracer, in a process of the test's own.

The tracer waits for any child, so it may not run in pytest's process, whose children are other tests' business:
`apart` forks, runs the test there, and brings back how it went. If the test fails or hangs, its tracees die with it
(PTRACE_O_EXITKILL).

Two kinds of tracee: `Child`, a fork of this process at a seccomp stop, for tests that drive ptrace themselves; and
`supervise`, which runs a Python program under the real launch, tree, driver and loop with handlers of the test's
choice. Such a program asks for the handler `NAME` by `call(ARGS)`: getxattr(2), which nothing else calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ParamSpec

from loops import chosen_loop, nothing
from mirrord_trace.agent.wire.messages import Message
from mirrord_trace.supervisor.tracer import arch as machines
from mirrord_trace.supervisor.tracer import filter as seccomp
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.arch.x86_64 import X32_BIT
from mirrord_trace.supervisor.tracer.doorbell import Doorbell
from mirrord_trace.supervisor.tracer.driver import Driver
from mirrord_trace.supervisor.tracer.launch import OPTIONS, Inherited, Start, launch
from mirrord_trace.supervisor.tracer.loop import Loop
from mirrord_trace.supervisor.tracer.own_signals import OwnSignals
from mirrord_trace.supervisor.tracer.space import AddressSpace
from mirrord_trace.supervisor.tracer.stops import Ended, Stop, classify
from mirrord_trace.supervisor.tracer.tracee import Process, Tracee
from mirrord_trace.supervisor.tracer.tree import Tree
from mirrord_trace.syscalls.actions import Answer, Decision, Reason, Route
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.quick import Quick
from mirrord_trace.syscalls.table import Handler

ARCH = machines.native()
CALL = "getxattr"
DECISION = Decision(Route.REMOTE, Reason.FS_MODE)
LOCAL = Decision(Route.LOCAL, Reason.FS_MODE_LOCAL)

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long

ASKED_TO_END = """
import time
signal.signal(signal.SIGINT, lambda *_: say('signal'))
signal.siginterrupt(signal.SIGINT, False)
if os.fork() == 0:
    time.sleep(0.05)
    os.kill(os.getppid(), signal.SIGINT)
    os._exit(0)
"""
"""The beginning of a program that has a handler for SIGINT, and gets that in a moment."""

P = ParamSpec("P")


def apart(test: Callable[P, None]) -> Callable[P, None]:
    """Decorator: run the test in a process of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        read, write = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # other tests' threads; the child starts none of theirs
            pid = os.fork()
        if pid == 0:
            _report(write, functools.partial(test, *args, **kwargs))
        os.close(write)
        try:
            with open(read, encoding="utf-8") as report:
                text = report.read()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        assert text.startswith("passed"), text or f"the test's process ended with {status:#x}"

    return run


def _report(write: int, test: Callable[[], None]) -> None:
    try:
        test()
        os.write(write, b"passed")
    except BaseException:
        os.write(write, traceback.format_exc().encode())
    finally:
        os._exit(0)


# -- a child at a stop ------------------------------------------------------------------------------------------------


class Child:
    """A seized fork of this process that runs `body` under a filter for `calls`; its exit code is the body's result."""

    def __init__(
        self,
        body: Callable[[], int],
        calls: Sequence[str] = (CALL,),
        options: int = OPTIONS,
        before: Callable[[], None] | None = None,
    ) -> None:
        code = _code(calls)
        go_read, go_write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.read(go_read, 1)
                _filter(code)
                os._exit(body() & 0xFF)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(99)
        ptrace.seize(self.pid, OPTIONS)
        os.write(go_write, b".")
        os.close(go_read)
        os.close(go_write)

    def next(self) -> Stop:
        """Its next stop."""
        return classify(os.waitpid(self.pid, ptrace.WALL)[1])

    def tracee(self) -> Tracee:
        """As the tracer sees it."""
        return Tracee(self.pid, Process(self.pid, AddressSpace()))

    def kill(self) -> None:
        """End it where it stands, without reaping: every request gets ESRCH from now on."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)


def _filter(code: bytes) -> None:
    try:
        seccomp.install(code, no_new_privs=False)
    except PermissionError:
        seccomp.install(code, no_new_privs=True)


def syscall(name: str, *arguments: int) -> int:
    """The call `name` of this machine's table, with its raw result: a value or -errno."""
    result = int(libc.syscall(ARCH.syscall_numbers[name], *(ctypes.c_long(argument) for argument in arguments)))
    return result if result >= 0 else -ctypes.get_errno()


# -- a supervised program ---------------------------------------------------------------------------------------------

_PRELUDE = f"""
import ctypes, errno, os, signal, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def raw(number, *arguments):
    result = libc.syscall(number, *(ctypes.c_long(argument) for argument in (*arguments, 0, 0, 0, 0, 0, 0)[:6]))
    return result if result >= 0 else -ctypes.get_errno()
def call(*arguments):
    return raw({ARCH.syscall_numbers[CALL]}, *arguments)
def say(*words):
    os.write(1, (' '.join(map(str, words)) + chr(10)).encode())
"""


@dataclass
class Supervised:
    """What a test can look at, and change before and while the program runs."""

    driver: Driver
    tree: Tree
    loop: Loop
    asked: list[tuple[int, Message]] = field(default_factory=list)
    replies: deque[tuple[int, Answer]] = field(default_factory=deque)
    output: str = ""
    end: Ended | None = None

    def lines(self) -> list[str]:
        """What the program has said."""
        return self.output.splitlines()


def supervise(
    program: str | Sequence[str],
    handlers: Mapping[str, Handler] | None = None,
    *,
    prepare: Callable[[Supervised], None] = lambda run: None,
    later: Callable[[frozenset[str]], bytes] = lambda names: b"",
    trapped: Sequence[str] = (),
    environment: Mapping[bytes, bytes] | None = None,
    context: Context | None = None,
    checks: Mapping[int, Quick] | None = None,
) -> Supervised:
    """Run a program (Python text, or a command) to its end. UsageError if it could not be started.

    `prepare` may set hooks before the first stop. Requests are noted in `asked`; `replies` are delivered at a ring.
    """
    command = python(program) if isinstance(program, str) else list(program)
    chosen = dict(handlers or {})
    code = _code([name for name in chosen if name not in trapped])
    inherited = Inherited.now()
    OwnSignals.block()
    doorbell = Doorbell()
    with tempfile.TemporaryFile() as output:
        os.dup2(output.fileno(), 1)
        launched = launch(Start(command, os.environb if environment is None else environment, (code,)), inherited)
        tree = Tree(ARCH)
        tree.add_root(launched.pid)
        asked: list[tuple[int, Message]] = []
        driver = _driver(chosen, asked, later, context, checks or {})
        compiled = chosen_loop(driver.context, checks or {})
        run = Supervised(driver, tree, Loop(driver, tree, doorbell, launched, command[0], compiled), asked)
        run.loop.on_ring = lambda: _deliver(run)
        prepare(run)
        try:
            run.end = run.loop.run()
        finally:
            doorbell.remove()
            if compiled is not None:
                compiled.close()
            output.seek(0)
            run.output = output.read().decode()
    return run


def _code(names: Sequence[str]) -> bytes:
    rules = [seccomp.Rule(ARCH.syscall_numbers[name]) for name in names]
    return seccomp.program(rules, ARCH.audit, X32_BIT if ARCH.name == "x86_64" else 0)


def _driver(
    handlers: Mapping[str, Handler],
    asked: list[tuple[int, Message]],
    later: Callable[[frozenset[str]], bytes],
    context: Context | None,
    checks: Mapping[int, Quick],
) -> Driver:
    def ask(request: Message) -> int:
        asked.append((len(asked) + 1, request))
        return len(asked)

    table = {ARCH.syscall_numbers[name]: (name, handler) for name, handler in handlers.items()}
    return Driver(context or nothing([]), table, ARCH, ask, later, checks)


def _deliver(run: Supervised) -> None:
    while run.replies:
        run.driver.answer(*run.replies.popleft())


def python(text: str) -> list[str]:
    """The command for a Python program that can use `call`, `raw` and `say`."""
    return [sys.executable, "-I", "-S", "-c", _PRELUDE + text]


def lower_limit(number: int) -> None:
    """RLIMIT_NOFILE of this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, hard))
