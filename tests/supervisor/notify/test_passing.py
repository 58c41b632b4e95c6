"""Processes that are let alone: which calls come to a handler, and that no answer is another program's."""

from __future__ import annotations

import os
import sys

import pytest
from mirrord_trace.supervisor.tracer.skipping import Skipping
from mirrord_trace.syscalls.actions import Continue, Handling, Return
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from notified import supervise
from rig import CALL, DECISION, apart, python

_NAMES = {b"other": "x"}


def _answer(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    return Return(args[0] + 1, DECISION)


_PROGRAM = f"""
def work(): say('thread', call(1))
def execute(name): os.execv({sys.executable!r}, [name, *sys.orig_argv[1:-2]])
thread = threading.Thread(target=work); thread.start(); thread.join()
pid = os.fork()
if pid == 0:
    say('child', call(1))
    os._exit(0)
os.waitpid(pid, 0)
try: os.execv('/nowhere/at/all', ['other'])
except OSError: say('main', call(1))
if len(sys.argv) > 1:
    if sys.argv[2] == 'thread':
        thread = threading.Thread(target=execute, args=[sys.argv[1]]); thread.start(); thread.join()
    execute(sys.argv[1])
"""


@apart
@pytest.mark.parametrize("way", ["main", "thread"])
@pytest.mark.parametrize("executed", ["", "other", "python"])
def test_threads_and_children_are_as_their_process_until_it_executes(executed: str, way: str) -> None:
    command = [*python(_PROGRAM), *([executed, way] if executed else [])]
    done = supervise(command, {CALL: _answer}, skips=Skipping(_NAMES).skips)
    supervised, skipped = ["thread 2", "child 2", "main 2"], ["thread -14", "child -14", "main -14"]
    assert done.lines() == [*supervised, *({"": [], "other": skipped, "python": supervised}[executed])]
    assert done.end is not None
    assert done.end.exit_code == 0


@apart
def test_skipped_programs_are_told_of_once() -> None:
    """Though they are looked up at many a tick, and execve(2) fails in between."""
    text = """
for _ in range(3):
    call(1); time.sleep(0.15)
    try: os.execv('/nowhere/at/all', ['x'])
    except OSError: pass
if os.fork() == 0: call(1); os._exit(0)
os.wait()
if sys.argv[1:]: os.execv(sys.executable, sys.orig_argv[:-1])
"""
    told: list[tuple[int, bytes, str]] = []
    own = os.path.basename(os.path.realpath(sys.executable)).encode()
    skipping = Skipping({own: "x"}, told=lambda *words: told.append(words))
    done = supervise([*python(text), "again"], {CALL: _answer}, skips=skipping.skips)
    assert done.end is not None
    assert [(name, reason) for _, name, reason in told] == [(os.fsencode(os.path.realpath(sys.executable)), "x")] * 2


@apart
def test_the_first_process_is_not_skipped_before_it_has_executed_the_program() -> None:
    seen: list[str] = []

    def execve(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        seen.append(os.fsdecode(task.read_string(args[0])))
        return Continue(DECISION)

    own = os.path.basename(os.path.realpath(sys.executable))
    text = "say('here'); os.execv('/bin/true', ['true'])"
    done = supervise(text, {"execve": execve}, skips=Skipping({own.encode(): "x"}).skips)
    assert done.lines() == ["here"]
    assert set(seen) == {sys.executable}


@apart
def test_calls_by_which_a_process_could_get_away_come_to_their_handlers() -> None:
    made: list[int] = []

    def unshare(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        made.append(args[0])
        return Return(7, DECISION)

    text = "say(call(1), libc.unshare(0))"
    done = supervise(text, {CALL: _answer, "unshare": unshare}, skips=lambda pid, program, is_new: True)
    assert (done.lines(), made) == (["-14 7"], [0])


@apart
def test_other_abis_of_what_is_skipped_are_the_kernels() -> None:
    text = "say(raw(0x40000000 | 39), call(1))"
    native = os.popen(f"{sys.executable} -c 'import ctypes; l = ctypes.CDLL(None); print(l.syscall(0x40000000 | 39))'").read()
    done = supervise(text, {CALL: _answer}, skips=lambda pid, program, is_new: True)
    assert done.lines()[0].split()[1] == "-14"
    assert (int(done.lines()[0].split()[0]) < 0) == (int(native) < 0)
