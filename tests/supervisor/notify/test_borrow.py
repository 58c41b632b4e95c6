"""Threads that make a call under our eyes."""

from __future__ import annotations

import pytest
from mirrord_trace.syscalls.actions import Continue, Handling, Keep, Return, Scratch, run
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.table import Handler
from mirrord_trace.syscalls.task import Task
from notified import supervise
from rig import DECISION, LOCAL, apart


def _to(path: bytes) -> Handler:
    def chdir(context: Context, task: Task, args: Args) -> Handling:
        yield from run({0: Scratch(path + b"\0")})
        return Keep(DECISION)

    return chdir


def _refused_first(context: Context, task: Task, args: Args) -> Handling:
    yield from run({0: Scratch(b"/nowhere/at/all\0")})
    result = yield from run({0: Scratch(b"/proc\0")})
    return Return(result + 5, DECISION)


@apart
def test_a_directory_that_only_the_thread_itself_can_go_to() -> None:
    text = """
signal.signal(signal.SIGUSR1, lambda number, frame: say('signal'))
say(libc.chdir(b'/tmp'), os.readlink('/proc/self/cwd'))
say(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set())
"""
    run = supervise(text, {"chdir": _to(b"/proc")})
    assert run.lines() == ["0 /proc", "True"]
    run = supervise("say(libc.chdir(b'/'), ctypes.get_errno())", {"chdir": _to(b"/nowhere/at/all")})
    assert run.lines() == ["-1 2"]


@apart
def test_twice_and_with_another_result() -> None:
    assert supervise("say(raw(80 if os.uname().machine == 'x86_64' else 49))", {"chdir": _refused_first}).lines() == ["5"]


@pytest.mark.parametrize("where", ["os.execv", "threading.Thread(target=os.execv, args="])
def test_another_program(where: str) -> None:
    _another_program(where)


@apart
def _another_program(where: str) -> None:
    def execve(context: Context, task: Task, args: Args) -> Handling:
        if task.read_string(args[0]) != b"/program/of/the/pod":
            return Continue(LOCAL)
        task.will_execute(b"/program/of/the/pod")
        yield from run({0: Scratch(b"/bin/sh\0")})
        return Keep(DECISION)

    seen: list[dict[int, bytes]] = []
    call = "('/program/of/the/pod', ['sh', '-c', 'echo $0 $$; exit 6'])"
    executed = f"os.execv{call}" if where == "os.execv" else f"t = {where}{call})\nt.start(); t.join()"
    text = f"say(os.getpid()); {executed}"
    done = supervise(text, {"execve": execve}, prepare=lambda run: seen.append(run.tasks.programs))
    pid, said = done.lines()
    assert said == f"sh {pid}"
    assert done.end is not None
    assert done.end.exit_code == 6
    assert seen[0] == {int(pid): b"/program/of/the/pod"}


@apart
def test_a_thread_that_somebody_else_traces() -> None:
    """As below a debugger: it gets EACCES and a line."""
    def chdir(context: Context, task: Task, args: Args) -> Handling:
        yield from run({0: Scratch(b"/proc\0")})
        return Keep(DECISION)

    program = (
        "import os, subprocess, signal, time, ctypes, sys\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    libc.ptrace(0, 0, 0, 0)\n"
        "    result = libc.chdir(b'/tmp')\n"
        "    os.write(1, b'%d %d' % (result, ctypes.get_errno()))\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
    )
    done = supervise(program, {"chdir": chdir})
    assert done.output == "-1 13"
    assert len(done.notices) == 1
