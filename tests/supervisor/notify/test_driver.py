"""What handlers decide, carried out for real programs."""

from __future__ import annotations

import errno
import os
import signal
import threading
from pathlib import Path

import pytest
from mirrord_trace.agent.wire.messages import Done, Failed, Stat
from mirrord_trace.syscalls.actions import (
    Answer,
    Continue,
    Handling,
    Keep,
    Return,
    SyscallError,
    ask,
    give_file,
    run,
    trap,
)
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from notified import Supervised, supervise
from rig import ASKED_TO_END, CALL, DECISION, LOCAL, apart

pytestmark = pytest.mark.usefixtures("both_loops")

_QUESTION = Stat(b"/", True)


def _asks(context: Context, task: Task, args: Args) -> Handling:
    yield from ask(_QUESTION, Done)
    return Return(7, DECISION)


@apart
def test_memory_is_written_and_faults_are_told() -> None:
    def writes(context: Context, task: Task, args: Args) -> Handling:
        yield from trap(frozenset({CALL}))
        return Return(3, DECISION, ((args[0], b"new"),))

    text = "b = ctypes.create_string_buffer(b'old'); say(call(ctypes.addressof(b)), b.value, call(8))"
    assert supervise(text, {CALL: writes}).lines() == [f"3 b'new' {-errno.EFAULT}"]


@apart
def test_the_kernels_own_answer_and_an_errno() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        if args[0]:
            raise SyscallError(errno.EXDEV, DECISION)
        yield from ()
        return Continue(LOCAL)

    assert supervise("say(call(), call(1))", {CALL: handler}).lines() == [f"{-errno.EFAULT} {-errno.EXDEV}"]


@apart
def test_a_file_is_given() -> None:
    def opens(context: Context, task: Task, args: Args) -> Handling:
        fd = os.memfd_create("given")
        os.write(fd, b"content")
        given = yield from give_file(fd, os.O_RDONLY | os.O_CLOEXEC)
        assert given.key[1] > 0
        return Keep(DECISION)

    assert supervise("fd = call(); say(os.read(fd, 10), os.get_inheritable(fd))", {CALL: opens}).lines() == [
        "b'content' False"
    ]


@apart
def test_replies_wake_the_thread_that_asked_and_no_other() -> None:
    def prepare(run: Supervised) -> None:
        run.replies.append((1, Answer(Failed(errno.ENOENT, ""))))
        run.replies.append((9, Answer(Done(), os.open(os.devnull, os.O_RDONLY))))

    assert supervise("say(call())", {CALL: _asks}, prepare=prepare).lines() == [str(-errno.ENOENT)]


@apart
def test_a_signal_comes_through_while_the_pod_is_asked() -> None:
    """The handler of the signal runs, then the call is made again and finds the reply."""

    def prepare(run: Supervised) -> None:
        threading.Timer(1.0, lambda: run.loop.post(lambda: run.driver.answer(1, Answer(Done())))).start()

    text = """
caught = []
libc.signal(signal.SIGALRM, ctypes.CFUNCTYPE(None, ctypes.c_int)(caught.append))
signal.setitimer(signal.ITIMER_REAL, 0.2)
say(call(), caught)
"""
    done = supervise(text, {CALL: _asks}, prepare=prepare)
    assert done.lines() == [f"7 [{int(signal.SIGALRM)}]"]
    assert len(done.asked) == 1


@apart
def test_a_thread_that_is_killed_is_given_up() -> None:
    closed: list[bool] = []

    def handler(context: Context, task: Task, args: Args) -> Handling:
        try:
            return (yield from _asks(context, task, args))
        finally:
            closed.append(True)

    def prepare(run: Supervised) -> None:
        threading.Timer(0.5, lambda: run.loop.post(lambda: run.loop.kill_all(signal.SIGKILL))).start()

    done = supervise("call()", {CALL: handler}, prepare=prepare)
    assert done.end is not None
    assert done.end.signal == signal.SIGKILL
    assert closed == [True]
    assert not done.driver.calls


@apart
def test_calls_that_are_made_on_a_threads_behalf() -> None:
    folder = Path("/tmp") / f"notify-driver-{os.getpid()}"

    def runs(context: Context, task: Task, args: Args) -> Handling:
        result = yield from run()
        return Return(result, DECISION)

    text = f"""
say(os.mkdir({str(folder)!r}, 0o700), os.uname().sysname)
a, b = __import__('socket').socketpair(type=2)
a.send(b'x'); say(b.recvfrom(10)[0])
say(os.rmdir({str(folder)!r}))
"""
    done = supervise(text, {"mkdir": runs, "uname": runs, "recvfrom": runs, "rmdir": runs})
    assert done.lines() == ["None Linux", "b'x'", "None"]
    assert not folder.exists()


@apart
def test_a_parked_call_of_who_is_asked_to_end_fails_after_a_while() -> None:
    done = supervise(ASKED_TO_END + "say(call())", {CALL: _asks})
    assert done.lines() == ["signal", f"{-errno.EINTR}"]
    assert len(done.asked) == 1
    assert not done.driver.parked
