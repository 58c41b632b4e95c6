"""Getting hold of everybody, also of those that are just being made, and letting them go wherever they are."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from attaching import LIMIT_S, Attached, Program, attached, state, stop, tracer_of, until
from build import c_program, go_program
from mirrord_trace.supervisor.attach import loop as loops
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.stops import Ended
from mirrord_trace.syscalls.actions import Handling, Return
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from rig import CALL, DECISION, apart

_ROUNDS = 15


def _answers(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    return Return(4711, DECISION)


# A program that answers commands, attached again and again in a process of its own.
@apart
def _cycles(pid: int, rounds: int) -> None:
    for number in range(rounds):
        with attached(pid, {CALL: _answers}) as run:
            assert pid in run.tree.tracees
        assert not _traced(pid), number


def _traced(pid: int) -> list[int]:
    found = []
    for tid in os.listdir(f"/proc/{pid}/task"):
        with contextlib.suppress(OSError):  # it has ended
            found += [int(tid)] if tracer_of(int(tid)) else []
    return found


@pytest.mark.parametrize(("flavour", "more"), [("glibc", "0"), ("static", "0"), ("musl", "0"), ("static", "1000")])
def test_threads_in_every_call_that_blocks(flavour: str, more: str) -> None:
    """Each is held for a moment, many times; what it waits for does not end, and wakes it afterwards."""
    with subprocess.Popen(
        [c_program("held", flavour), more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("ready")
            for command, answer in (("wake", "woken"), ("wake", "woken"), ("quit", "OK")):
                _cycles(process.pid, 2 if int(more) else _ROUNDS)
                process.stdin.write(command + "\n")
                process.stdin.flush()
                assert process.stdout.readline() == answer + "\n"
        finally:
            process.kill()


def test_a_storm_of_forks_and_threads() -> None:
    """Nobody gets away: what is made while the process is being attached is found or has been told of."""
    text = """
wrong = []
def work():
    while not wrong:
        child = os.posix_spawn('/bin/true', ['true'], {}) if hash(time.monotonic()) % 2 else os.fork()
        if child == 0:
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        if status:
            wrong.append(status)
def more():
    while not wrong:
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
for target in (work, more, more):
    threading.Thread(target=target, daemon=True).start()
say('ready')
while heard(): say(wrong or [call(1)])
"""
    with Program(text) as program:
        assert program.line() == "ready"
        _cycles(program.pid, _ROUNDS)
        assert program.asked("x") == "[-14]"
        _answered(program, program.pid)
        assert program.asked("x") == "[-14]"


@apart
def _answered(program: Program, pid: int) -> None:
    with attached(pid, {CALL: _answers}):
        assert program.asked("x") == "[4711]"


def test_children_come_along_and_the_tool_waits_for_the_last() -> None:
    """Those that were there before, too."""
    text = """
gate = os.pipe()
child = os.fork()
if child == 0:
    while os.read(gate[0], 1): say('child', call(1))
say(child)
while True:
    line = heard()
    os.write(gate[1], line.encode())
    if line == 'x': os._exit(3)
"""

    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: _answers}) as run:
            assert program.asked("c") == "child 4711"
            program.tell("x")
            assert program.line() == "child 4711"
            until(lambda: run.loop.root_end == Ended(3, 0, False))
            assert list(run.tree.tracees) == [child]

    with Program(text) as program:
        child = int(program.line())
        try:
            assert program.asked("c") == "child -14"
            attach(program.pid)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize(
    ("how", "end"), [("os._exit(9)", Ended(9, 0, False)), ("os.kill(os.getpid(), 9)", Ended(-1, 9, False))]
)
def test_the_end_of_a_process_that_is_not_our_child(how: str, end: Ended) -> None:
    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: _answers}) as run:
            program.tell()
            until(lambda: run.loop.root_end == end)

    with Program(f"heard()\n{how}") as program:
        attach(program.pid)
        status = program.process.wait(LIMIT_S)
        assert status == (-end.signal if end.signal else end.exit_code)


def test_an_exec_by_a_thread() -> None:
    again = "say('again', call(1)); heard(); say(call(1))"

    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: _answers}):
            assert program.asked("exec") == "again 4711"

    text = f"""
heard()
def become():
    os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', {_prelude()!r} + {again!r}])
threading.Thread(target=become).start()
time.sleep(100)
"""
    with Program(text) as program:
        attach(program.pid)
        assert program.asked() == "-14"


def _prelude() -> str:
    from attaching import _HEARD
    from rig import _PRELUDE

    return _PRELUDE + _HEARD


def test_a_stopped_process_stays_so_until_it_is_continued() -> None:
    @apart
    def attach(pid: int) -> None:
        with attached(pid, {CALL: _answers}):
            assert state(pid) in "Tt"
        until(lambda: state(pid) == "T")

    @apart
    def attach_and_continue(pid: int) -> None:
        with attached(pid, {CALL: _answers}):
            os.kill(pid, signal.SIGCONT)
            assert program.asked("x") == "4711"
            os.kill(pid, signal.SIGSTOP)
            until(lambda: state(pid) in "Tt")
        until(lambda: state(pid) == "T")

    sleeper = "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    with Program(sleeper + "while heard(): say(call(1))") as program:
        stop(program.pid)
        attach(program.pid)
        attach(program.pid)
        attach_and_continue(program.pid)
        os.kill(program.pid, signal.SIGCONT)
        assert program.asked("x") == "-14"


def test_a_parent_that_waits_for_its_vfork_child() -> None:
    """It is not stopped before the child has executed, and nobody waits for that."""
    text = """
say('ready')
flags = 0x4100 | 17  # CLONE_VFORK, CLONE_VM
os.set_inheritable(0, True)
say('came back', os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', 'read x'], {}), 0)[1]))
while heard(): say(call(1))
"""

    @apart
    def attach(pid: int, go_on: bool) -> None:
        with attached(pid, {CALL: _answers}):
            if go_on:
                assert program.asked("x") == "came back 0"
                assert program.asked("x") == "4711"

    with Program(text) as program:
        assert program.line() == "ready"
        attach(program.pid, False)
        attach(program.pid, True)
        assert program.asked("x") == "-14"


def test_signals_that_never_stop() -> None:
    """Every one of a storm of queued signals has its handler run once, and no call fails for it."""
    text = """
count = 0
def take(*_):
    global count
    count += 1
signal.signal(signal.SIGALRM, take)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
say('ready')
while heard():
    before = count
    while count < before + 50: time.sleep(0.01)
    say(call(1))
"""
    with Program(text) as program:
        assert program.line() == "ready"
        for _ in range(3):
            _cycles(program.pid, 5)
            assert program.asked("x") == "-14"


def test_a_go_program_with_its_preemption() -> None:
    server = go_program("server")
    with subprocess.Popen([server, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline().startswith("ready")
            _cycles(process.pid, _ROUNDS)
            process.terminate()
            assert process.wait(LIMIT_S) == 0
        finally:
            process.kill()


def test_who_cannot_be_attached_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def seize(tid: int, options: int) -> None:
        if tid != program.pid:
            raise PermissionError
        plain(tid, options)

    @apart
    def attach(pid: int) -> None:
        told: list[str] = []

        def prepare(run: Attached) -> None:
            monkeypatch.setattr(run.loop, "_tell", told.append)
            monkeypatch.setattr(loops.ptrace, "seize", seize)

        with attached(pid, {CALL: _answers}, prepare=prepare):
            assert program.asked("x") == "4711"
        assert told == [f"sleep (pid {child}) cannot be attached and stays as it is"]

    plain = ptrace.seize
    with Program("say(os.posix_spawn('/bin/sleep', ['sleep', '1000'], {}))\nwhile heard(): say(call(1))") as program:
        child = int(program.line())
        until(lambda: "sleep" in Path(f"/proc/{child}/comm").read_text())
        try:
            attach(program.pid)
        finally:
            os.kill(child, signal.SIGKILL)


def test_the_tracing_thread_killed_at_any_moment() -> None:
    """As if the tool were: whatever the program is doing then, it goes on."""
    text = """
say('ready')
threading.Thread(target=lambda: [os.getppid() for _ in iter(int, 1)], daemon=True).start()
while heard(): say(call(1))
"""
    with Program(text) as program:
        assert program.line() == "ready"
        for number in range(_ROUNDS):
            tool = os.fork()
            if tool == 0:
                _attach_for_ever(program.pid)
            until(lambda: tracer_of(program.pid) != 0)
            threading.Event().wait(0.01 * (number % 4))
            os.kill(tool, signal.SIGKILL)
            os.waitpid(tool, 0)
            until(lambda: not _traced(program.pid))
            assert program.asked("x") == "-14"


def _attach_for_ever(pid: int) -> None:
    try:
        with attached(pid, {CALL: _answers}):
            threading.Event().wait()
    finally:
        os._exit(1)
