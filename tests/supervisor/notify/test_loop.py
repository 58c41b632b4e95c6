"""Whole programs under this engine's loop."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable

import pytest
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.notify.loop import Loop
from mirrord_trace.supervisor.tracer.stops import Ended
from mirrord_trace.syscalls.actions import Handling, Return
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from notified import Supervised, supervise
from rig import CALL, DECISION, apart

pytestmark = pytest.mark.usefixtures("both_loops")


def _seven(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    return Return(7, DECISION)


@apart
def test_a_call_is_answered_and_the_status_is_the_programs() -> None:
    run = supervise("say(call()); os._exit(3)", {CALL: _seven})
    assert run.lines() == ["7"]
    assert run.end == Ended(3, 0, False)
    assert run.loop.stops == 1


@apart
def test_processes_threads_and_what_outlives_the_first() -> None:
    text = """
threads = [threading.Thread(target=lambda: say(call())) for _ in range(10)]
for thread in threads: thread.start()
for thread in threads: thread.join()
if os.fork() == 0:
    os.setsid()
    time.sleep(0.1)
    say(call())
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    run = supervise(text, {CALL: _seven})
    assert run.lines() == ["7"] * 11
    assert run.end == Ended(-1, signal.SIGKILL, False)


class _AtTheCall:
    """A handler that has something done by the loop."""

    def __init__(self, do: Callable[[Loop], None]) -> None:
        self._do = do
        self._run: Supervised

    def prepare(self, run: Supervised) -> None:
        self._run = run

    def __call__(self, context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        self._run.loop.post(lambda: self._do(self._run.loop))
        return Return(7, DECISION)


@apart
def test_signals_are_passed_on() -> None:
    handler = _AtTheCall(lambda loop: loop.pass_on(signal.SIGTERM))
    run = supervise("call(); time.sleep(100)", {CALL: handler}, prepare=handler.prepare)
    assert run.end == Ended(-1, signal.SIGTERM, False)


@apart
def test_everything_is_killed() -> None:
    handler = _AtTheCall(lambda loop: loop.kill_all(signal.SIGKILL))
    run = supervise("if os.fork(): call()\ntime.sleep(100)", {CALL: handler}, prepare=handler.prepare)
    assert run.end == Ended(-1, signal.SIGKILL, False)


@apart
def test_a_child_of_ours_that_ends_is_told() -> None:
    ended: list[int] = []
    child = os.fork()
    if child == 0:
        os._exit(0)

    def prepare(run: Supervised) -> None:
        def told(pid: int) -> None:
            ended.append(pid)
            run.loop.kill_all(signal.SIGKILL)

        run.loop.children = (child,)
        run.loop.on_child_end = told

    supervise("time.sleep(100)", {CALL: _seven}, prepare=prepare)
    assert ended == [child]


@apart
def test_a_program_that_cannot_be_executed() -> None:
    with pytest.raises(UsageError, match=os.strerror(errno.ENOENT)):
        supervise(["/nowhere/at/all"], {CALL: _seven})


@apart
def test_another_abi_is_refused() -> None:
    run = supervise("say(raw(0x40000000 | 39))", {CALL: _seven})
    assert run.lines() == [str(-errno.ENOSYS)]
