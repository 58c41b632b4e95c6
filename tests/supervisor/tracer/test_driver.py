"""Every action and every way a call can end, with real tracees."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import threading
from collections.abc import Callable

import pytest
from mirrord_trace.agent.wire.messages import Done, Failed, GetPod
from mirrord_trace.supervisor.errors import InternalError
from mirrord_trace.supervisor.tracer.call import ActiveCall, Phase
from mirrord_trace.supervisor.tracer.tracee import Tracee
from mirrord_trace.syscalls.actions import (
    Answer,
    Ask,
    Continue,
    Decision,
    Handling,
    Keep,
    Return,
    Run,
    Scratch,
    SyscallError,
    run,
)
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.table import Handler
from mirrord_trace.syscalls.task import Task
from rig import ARCH, ASKED_TO_END, CALL, DECISION, LOCAL, Supervised, apart, supervise

pytestmark = pytest.mark.usefixtures("both_loops")


def _ends(final: Continue | Return) -> Handler:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        return final

    return handler


def _asks(context: Context, task: Task, args: Args) -> Handling:
    yield Ask(GetPod())
    return Return(42, DECISION)


def _replying(reply: Callable[[], Answer]) -> Callable[[Supervised], None]:
    """The request is answered at once, as by a very fast relay."""

    def prepare(run: Supervised) -> None:
        ask = run.driver._ask

        def ask_and_answer(request: GetPod) -> int:
            number = ask(request)
            run.replies.append((number, reply()))
            run.loop.post(lambda: None)
            return number

        run.driver._ask = ask_and_answer  # type: ignore[assignment]

    return prepare


@apart
def test_continue_leaves_the_call_to_the_kernel_and_costs_one_stop() -> None:
    counts = [
        supervise(f"for number in range({times}): assert call(0, 0, 0, 0) == -errno.EFAULT", {CALL: _ends(Continue(LOCAL))})
        for times in (10, 30)
    ]
    assert [run.end.exit_code for run in counts if run.end] == [0, 0]
    assert counts[1].loop.stops - counts[0].loop.stops == 20


@apart
def test_return_answers_in_the_kernels_place_with_the_bytes_written() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        return Return(0x1_2345_6789, DECISION, ((args[0], b"from us\0"),))

    done = supervise(
        "b = ctypes.create_string_buffer(16); say(call(ctypes.addressof(b))); say(b.value.decode())", {CALL: handler}
    )
    assert done.lines() == [str(0x1_2345_6789), "from us"]


@apart
def test_a_result_that_cannot_be_written_is_efault() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        return Return(0, DECISION, ((args[0], b"x"),))

    program = """
import mmap
m = mmap.mmap(-1, 4096); a = ctypes.addressof(ctypes.c_char.from_buffer(m))
libc.mprotect(ctypes.c_void_p(a), 4096, 1)
say(call(0), call(a), ctypes.string_at(a, 1))
"""
    done = supervise(program, {CALL: handler})
    assert done.lines() == [f"{-errno.EFAULT} {-errno.EFAULT} b'\\x00'"]


@apart
def test_an_errno_raised_by_the_handler_is_the_result() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        raise SyscallError(errno.ENODATA)

    assert supervise("say(call())", {CALL: handler}).lines() == [str(-errno.ENODATA)]


@apart
def test_run_with_replaced_arguments_gives_the_registers_back() -> None:
    path = os.fsencode(tempfile.gettempdir())
    results: list[int] = []

    def handler(context: Context, task: Task, args: Args) -> Handling:
        results.append((yield from run({0: Scratch(path + b"\0"), 1: Scratch(b"user.none\0"), 2: 0, 3: 0})))
        return Keep(DECISION)

    # A raw syscall instruction, so that the argument registers can be looked at behind it.
    program = """
import mmap
code = bytes.fromhex('b8bf000000 48c7c711000000 48c7c622000000 0f05 4889f8 4801f0 c3'.replace(' ', ''))
m = mmap.mmap(-1, 4096, prot=7); m.write(code)
say(ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(m)))())
"""
    if os.uname().machine != "x86_64":
        program = "call(0, 0, 0, 0); say(0x33)"
    done = supervise(program, {CALL: handler})
    assert results in ([-errno.ENODATA], [-errno.EOPNOTSUPP])
    assert done.lines() == [str(0x33)]


@apart
def test_the_result_of_a_run_can_be_replaced_and_read() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        outcome = yield from run({0: Scratch(b"/nowhere/at/all\0"), 1: Scratch(b"user.x\0")})
        return Return(-outcome * 1000, DECISION, ((args[0], b"seen\0"),))

    done = supervise("b = ctypes.create_string_buffer(8); say(call(ctypes.addressof(b)), b.value)", {CALL: handler})
    assert done.lines() == [f"{errno.ENOENT * 1000} b'seen'"]


@apart
def test_another_call_can_be_run_in_the_calls_place() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        yield Run({0: 0, 1: 4096, 2: 3, 3: 0x22, 4: -1, 5: 0}, run_sysno)
        return Keep(DECISION)

    run_sysno = ARCH.syscall_numbers["mmap"]
    done = supervise("a = call(); say(ctypes.memset(a, 7, 4096) == a and a % 4096 == 0)", {CALL: handler})
    assert done.lines() == ["True"]


_UNAME = ARCH.syscall_numbers["uname"]
_WAIT = f"""
def until_parked(count):
    while raw({_UNAME}) < count: pass
"""


def _counting(run: Supervised) -> None:
    """uname(2) tells how many threads are parked, and rings."""

    def count(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        run.loop.post(lambda: None)
        return Return(len(run.driver.parked), DECISION)

    run.driver.handlers[_UNAME] = ("uname", count)


@apart
def test_a_parked_thread_waits_alone() -> None:
    def prepare(run: Supervised) -> None:
        _counting(run)
        run.loop.on_ring = lambda: run.driver.answer(1, Answer(Done())) if "others" in told else None

    told: list[str] = []

    def tell(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        told.append("others")
        return Return(0, DECISION)

    program = f"""
t = threading.Thread(target=lambda: say('parked', call(1)))
t.start()
until_parked(1)
say('others run')
raw({ARCH.syscall_numbers["getpeername"]})
raw({_UNAME})
t.join()
"""
    done = supervise(_WAIT + program, {CALL: _asks, "uname": _asks, "getpeername": tell}, prepare=prepare)
    assert done.lines() == ["others run", "parked 42"]


@apart
@pytest.mark.parametrize(("number", "expected"), [(errno.ENOENT, -errno.ENOENT), (0, -errno.EIO)])
def test_a_failed_reply_is_its_errno(number: int, expected: int) -> None:
    done = supervise("say(call())", {CALL: _asks}, prepare=_replying(lambda: Answer(Failed(number))))
    assert done.lines() == [str(expected)]


@apart
def test_a_reply_nobody_waits_for_is_ignored_and_its_file_closed() -> None:
    read, write = os.pipe()

    def prepare(run: Supervised) -> None:
        run.driver.answer(77, Answer(Done(), write))

    supervise("pass", {}, prepare=prepare)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(write)
    os.close(read)


_ALARM = """
taken = []
signal.signal(signal.SIGALRM, lambda *_: (taken.append(1), say('signal')))
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.02)
"""


def _interrupting(run: Supervised, answer_after: int) -> None:
    """Tick as the tool does, until parked threads have been let go for a signal `answer_after` times; then answer."""
    interrupted = 0
    answered = threading.Event()

    def phases() -> list[Phase]:
        return [tracee.call.phase for tracee in run.driver.parked.values() if tracee.call]

    def look() -> None:
        nonlocal interrupted
        before = phases()
        run.driver.interrupt_parked()
        interrupted += phases() != before
        if interrupted >= answer_after and Phase.ENTRY in phases():
            run.replies.append((run.asked[-1][0], Answer(Done())))
            answered.set()

    def tick() -> None:
        while not answered.wait(0.002):
            run.loop.post(look)

    threading.Thread(target=tick, daemon=True).start()


@apart
def test_a_signal_reaches_a_parked_thread_and_the_request_is_not_repeated() -> None:
    done = supervise(_ALARM + "say(call())", {CALL: _asks}, prepare=lambda run: _interrupting(run, 1))
    assert done.lines() == ["signal", "42"]
    assert len(done.asked) == 1


@apart
def test_signals_faster_than_replies_do_not_keep_a_call_from_ending() -> None:
    program = _ALARM.replace("0.02", "0.01, 0.01") + "say(call()); signal.setitimer(signal.ITIMER_REAL, 0)"
    done = supervise(program, {CALL: _asks}, prepare=lambda run: _interrupting(run, 5))
    assert "42" in done.lines()
    assert len(done.asked) == 1


@apart
def test_a_signal_handler_that_makes_a_call_of_its_own_begins_the_interrupted_one_anew() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        if args[0] == 5:
            return Return(50, DECISION)
        yield Ask(GetPod())
        return Return(42, DECISION)

    # Native code between the call and its repetition: the handler must not be Python's, which runs later.
    program = """
import mmap
code = bytes.fromhex('57 56 b8bf000000 48c7c705000000 0f05 5e 5f c3'.replace(' ', ''))
m = mmap.mmap(-1, 4096, prot=7); m.write(code)
handler = ctypes.addressof(ctypes.c_char.from_buffer(m))
libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p); libc.signal(14, handler)
signal.setitimer(signal.ITIMER_REAL, 0.02)
say(call(1))
"""
    if os.uname().machine != "x86_64":
        return
    done = supervise(program, {CALL: handler}, prepare=lambda run: _interrupting(run, 1))
    assert done.lines() == ["42"]
    assert len(done.asked) == 2


@apart
def test_the_handler_is_closed_when_its_thread_is_killed_or_replaced() -> None:
    closed: list[int] = []

    def handler(context: Context, task: Task, args: Args) -> Handling:
        try:
            yield Ask(GetPod())
        finally:
            closed.append(args[0])
        return Return(0, DECISION)

    program = """
threading.Thread(target=call, args=(1,), daemon=True).start()
until_parked(1)
pid = os.fork()
if pid == 0:
    call(2)
until_parked(2)
os.kill(pid, 9); os.wait()
os.execv('/bin/true', ['true'])
"""
    done = supervise(_WAIT + program, {CALL: handler, "uname": handler}, prepare=_counting)
    assert done.end is not None
    assert (done.end.exit_code, done.end.signal) == (0, 0)
    assert closed == [2, 1]
    assert done.driver.parked == {}


@apart
def test_killed_while_parked_then_answered() -> None:
    def prepare(run: Supervised) -> None:
        def kill_and_answer() -> None:
            tracee = next(iter(run.driver.parked.values()))
            os.kill(tracee.tid, signal.SIGKILL)
            os.waitid(os.P_PID, tracee.tid, os.WEXITED | os.WNOWAIT)
            # Must neither raise nor keep the next reply from its thread.
            run.driver.answer(1, Answer(Done()))
            assert tracee.call is None

        ask = run.driver._ask

        def ask_then_kill(request: GetPod) -> int:
            run.loop.post(kill_and_answer)
            return ask(request)

        run.driver._ask = ask_then_kill  # type: ignore[assignment]

    done = supervise("call()", {CALL: _asks}, prepare=prepare)
    assert done.end is not None
    assert done.end.signal == signal.SIGKILL


@apart
def test_a_call_the_kernel_restarts_starts_a_new_handler() -> None:
    results: list[int] = []

    def handler(context: Context, task: Task, args: Args) -> Handling:
        try:
            # nanosleep-like: read(2) from an empty pipe, which a signal interrupts.
            results.append((yield from run({0: args[0], 1: args[1], 2: 1}, 0 if os.uname().machine == "x86_64" else 63)))
        except GeneratorExit:
            results.append(-1)
            raise
        return Keep(DECISION)

    program = """
import mmap
r, w = os.pipe()
def handle(*_): pass
signal.signal(signal.SIGALRM, handle); signal.siginterrupt(signal.SIGALRM, False)
stat = f'/proc/self/task/{os.getpid()}/stat'
def interrupt():
    while open(stat).read().split()[2] != 'S': pass
    before = open('/proc/self/task/%d/status' % os.getpid()).read().split('nonvoluntary')[0]
    signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)
    while open('/proc/self/task/%d/status' % os.getpid()).read().split('nonvoluntary')[0] == before: pass
    while open(stat).read().split()[2] != 'S': pass
    os.write(w, b'x')
threading.Thread(target=interrupt).start()
b = ctypes.create_string_buffer(4)
say(call(r, ctypes.addressof(b)), b.value)
"""
    done = supervise(program, {CALL: handler})
    assert done.lines() == ["1 b'x'"]
    assert results == [-1, 1]


@apart
def test_the_observer_sees_the_result_of_a_call_that_is_only_let_through() -> None:
    seen: list[tuple[str, int, Decision]] = []

    def observe(tracee: Tracee, call: ActiveCall, result: int, decision: Decision) -> None:
        seen.append((call.name, result, decision))

    def prepare(run: Supervised) -> None:
        run.driver.observer = observe

    done = supervise("say(call(0))", {CALL: _ends(Continue(LOCAL))}, prepare=prepare)
    assert done.lines() == [str(-errno.EFAULT)]
    assert seen == [(CALL, -errno.EFAULT, LOCAL)]


@apart
def test_a_run_after_the_call_is_a_bug_of_ours() -> None:
    def twice(context: Context, task: Task, args: Args) -> Handling:
        yield Run({})
        yield Run({})
        return Keep(LOCAL)

    with pytest.raises(InternalError):
        supervise("call(0)", {CALL: twice})


@apart
def test_a_failed_run_may_be_followed_by_another() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        first = yield from run({0: Scratch(b"/nowhere\0"), 1: Scratch(b"user.x\0")})
        second = yield from run({0: Scratch(b"/\0"), 1: Scratch(b"user.x\0")})
        return Keep(DECISION) if args[2] else Return(first * 1000 + second, DECISION)

    lines = supervise("say(call(5, 6), call(5, 6, 7))", {CALL: handler}).lines()
    second = int(lines[0].split()[1])
    assert second < 0
    assert lines == [f"{-errno.ENOENT * 1000 + second} {second}"]


@apart
def test_a_quick_check_lets_a_call_through_unless_somebody_watches() -> None:
    seen: list[int] = []

    def check(context: Context, task: Task, args: Args) -> bool:
        return args[3] != 1

    def handler(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        seen.append(args[3])
        return Return(7, DECISION)

    def quick(run: Supervised) -> None:
        run.driver._quick[ARCH.syscall_numbers[CALL]] = check

    def watched(run: Supervised) -> None:
        quick(run)
        run.driver.observer = lambda tracee, call, result, decision: None

    program = "say(call(), call(0, 0, 0, 1))"
    assert supervise(program, {CALL: handler}, prepare=quick).lines() == [f"{-errno.EFAULT} 7"]
    assert seen == [1]
    assert supervise(program, {CALL: handler}, prepare=watched).lines() == ["7 7"]


@apart
def test_a_parked_call_of_who_is_asked_to_end_fails_after_a_while() -> None:
    def prepare(run: Supervised) -> None:
        def tick() -> None:
            while not has_ended.wait(0.02):
                run.loop.post(run.driver.interrupt_parked)

        threading.Thread(target=tick, daemon=True).start()

    has_ended = threading.Event()
    done = supervise(ASKED_TO_END + "say(call())", {CALL: _asks}, prepare=prepare)
    has_ended.set()
    assert done.lines() == ["signal", f"{-errno.EINTR}"]
    assert len(done.asked) == 1
    assert not done.driver.parked
