"""Every action at syscall stops: the handlers and the driver are those of programs that were started here."""

from __future__ import annotations

import errno
import os
import signal

import pytest
from attaching import Attached, Program, attached, until
from mirrord_trace.agent.wire.messages import Done
from mirrord_trace.supervisor.tracer.doorbell import pending
from mirrord_trace.syscalls.actions import (
    Answer,
    Continue,
    Handling,
    Keep,
    Return,
    Scratch,
    SyscallError,
    ask_for_file,
    give_file,
    run,
    trap,
)
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.table import ArgumentTest, Row
from mirrord_trace.syscalls.task import Task
from rig import ARCH, CALL, DECISION, LOCAL, apart

_GETPID = {"x86_64": 39, "aarch64": 172}[ARCH.name]
_CALLS = "while heard(): say(call(1, 2, 3))"
_FILTER = """
import struct
def install(*code):  # (operation, true, false, value)
    text = b''.join(struct.pack('<HBBI', *one) for one in code)
    buffer = ctypes.create_string_buffer(text, len(text))
    header = ctypes.create_string_buffer(struct.pack('<H6xQ', len(code), ctypes.addressof(buffer)), 16)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, header, 0, 0) == 0
"""
_FILTERABLE = "signal.signal(signal.SIGUSR1, lambda *_: say('signal'))\n"
_FORKED = """
def forked(work):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, str(work()).encode())
        os._exit(0)
    os.wait()
    return os.read(read, 99).decode()
"""
_WITH_FILTER = """
while True:
    if heard() == 'filter':
        %s
    say(call(1, 2, 3))
"""
_LATER = ARCH.syscall_numbers["lgetxattr"]
# A number of more than 31 bits, that is -1, ends the process.
_KILLS = "install((0x20, 0, 0, 0), (0x45, 0, 1, 0x80000000), (6, 0, 0, 0x80000000), (6, 0, 0, 0x7fff0000))\n"
_REFUSES = _KILLS.replace("(6, 0, 0, 0x80000000)", "(6, 0, 0, 0x50001)")


def _returns(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    return Return(args[0] + 41, DECISION)


def _continues(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    return Continue(LOCAL)


def _fails(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    raise SyscallError(errno.EXDEV)


def _runs_another(context: Context, task: Task, args: Args) -> Handling:
    result = yield from run({}, _GETPID)
    return Return(result, DECISION)


# open(2) of a path that only scratch memory has: a region is mapped first, and the call made again.
def _opens(context: Context, task: Task, args: Args) -> Handling:
    fd = yield from run({0: -100, 1: Scratch(b"/proc/self/stat\0"), 2: 0, 3: 0}, ARCH.syscall_numbers["openat"])
    return Keep(DECISION) if fd >= 0 else Return(fd, DECISION)


def _gives(context: Context, task: Task, args: Args) -> Handling:
    given = yield from give_file(os.open("/proc/self/comm", os.O_RDONLY), os.O_RDONLY)
    return Return(given.result, DECISION)


def _asks(context: Context, task: Task, args: Args) -> Handling:
    answer = yield from ask_for_file(Done())
    assert isinstance(answer.message, Done)
    return Return(77, DECISION)


@pytest.mark.parametrize(
    ("handler", "result"),
    [(_returns, "42"), (_continues, str(-errno.EFAULT)), (_fails, str(-errno.EXDEV)), (_runs_another, "PID")],
)
def test_a_handler_of_one_step(handler: object, result: str) -> None:
    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: handler}):  # type: ignore[dict-item]
            assert program.asked("x") == result.replace("PID", str(pid))
            assert program.asked("x") == result.replace("PID", str(pid))

    with Program("say('ready')\n" + _CALLS) as program:
        assert program.line() == "ready"
        assert program.asked("x") == str(-errno.EFAULT)
        attach(program.pid)
        assert program.asked("x") == str(-errno.EFAULT)


@pytest.mark.parametrize("handler", [_opens, _gives])
def test_scratch_memory_and_given_files(handler: object) -> None:
    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: handler}):  # type: ignore[dict-item]
            for _ in range(3):
                assert program.asked("x").isdecimal()

    with Program("while heard(): fd = call(1, 2, 3); assert os.read(fd, 5); os.close(fd); say(fd)") as program:
        attach(program.pid)
        attach(program.pid)
        assert program.process.poll() is None


@pytest.mark.parametrize("filtered", ["", _FILTER + _KILLS])
def test_a_parked_call_lets_signals_in_and_is_answered_once(filtered: str) -> None:
    """Also where the process's own filter would kill it for a call with the number -1."""

    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: _asks}) as run:
            program.tell("x")
            until(lambda: bool(run.asked))
            os.kill(pid, signal.SIGUSR1)
            until(lambda: not _is_pending(run, pid))
            run.replies.append((run.asked[0][0], Answer(Done())))
            run.loop.post(lambda: None)
            assert [program.line(), program.line()] == ["signal", "77"]
            assert len(run.asked) == 1

    with Program(_FILTERABLE + filtered + "say('ready')\n" + _CALLS) as program:
        assert program.line() == "ready"
        attach(program.pid)
        assert program.asked("x") == str(-errno.EFAULT)


def _is_pending(run: Attached, pid: int) -> bool:
    run.loop.post(run.driver.interrupt_parked)
    return pending(pid, signal.SIGUSR1)


@pytest.mark.parametrize("filtered", [_KILLS, _REFUSES])
def test_filters_of_the_program_do_not_see_what_is_answered(filtered: str) -> None:
    """Put on before, and put on while it is attached."""

    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: _returns}):
            assert program.asked("x") == "42"
            assert program.asked("filter") == "42"

    with Program(_FILTER + _WITH_FILTER % filtered) as program:
        attach(program.pid)
        attach(program.pid)


def test_a_parked_call_is_made_again_natively_when_the_session_ends() -> None:
    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: _asks}) as run:
            program.tell("x")
            until(lambda: bool(run.asked))
        assert program.line() == str(-errno.EFAULT)

    with Program(_CALLS) as program:
        attach(program.pid)
        assert program.asked("x") == str(-errno.EFAULT)


def test_rows_that_count_once_the_process_has_asked_for_them() -> None:
    def asks_for_it(context: Context, task: Task, args: Args) -> Handling:
        assert (yield from trap(frozenset({"lgetxattr"}))) == 0
        return Return(1, DECISION)

    @apart
    def attach(pid: int) -> None:
        rows = (
            Row(CALL, asks_for_it, "", (ArgumentTest(0, "it is 9", (9,)),)),
            Row("lgetxattr", _returns, "", later="x"),
            Row("io_uring_setup", None, "", errno=errno.ENOSYS),
        )
        with attached(pid, {CALL: asks_for_it, "lgetxattr": _returns}, rows=rows):
            assert program.asked("call(1)") == str(-errno.EFAULT)
            assert program.asked(f"raw({_LATER}, 1)") == str(-errno.EFAULT)
            assert program.asked("call(9)") == "1"
            assert program.asked(f"raw({_LATER}, 1)") == "42"
            assert program.asked(f"forked(lambda: raw({_LATER}, 1))") == "42"
            assert program.asked(f"raw({ARCH.syscall_numbers['io_uring_setup']}, 0, 0)") == str(-errno.ENOSYS)

    with Program(_FORKED + "while True: say(eval(heard()))") as program:
        attach(program.pid)


def test_a_call_that_was_in_progress_belongs_to_before() -> None:
    """The read(2) in which it waits is made again by the kernel, and no handler sees that; the next one does."""
    number = {"x86_64": 0, "aarch64": 63}[ARCH.name]
    seen: list[int] = []

    def reads(context: Context, task: Task, args: Args) -> Handling:
        seen.append(args[0])
        yield from ()
        return Continue(LOCAL)

    @apart
    def attach(pid: int) -> None:
        ARCH.syscall_numbers["read"] = number
        with attached(pid, {"read": reads}):
            assert program.asked("x") == "x"
            until(lambda: len(seen) == 2)  # the newline, and the first byte of the next line

    with Program("while True: say(heard())") as program:
        assert program.asked("y") == "y"
        attach(program.pid)
