"""Programs that trace, filter and change identity themselves: what becomes of them, and that one line says so."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from build import FLAVOURS, c_program
from runs import Ran, Runner

_NO_TRACING = "a process has one tracer"
_NO_PRIVILEGES = "runs without the privileges"


def _lines(ran: Ran, words: str) -> int:
    return sum(words in line for line in ran.err.splitlines())


@pytest.mark.parametrize("way", ["filters", "vsyscall"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_filters_of_the_program_and_old_ways_into_the_kernel(runner: Runner, flavour: str, way: str) -> None:
    command = (c_program("sandbox", flavour), way)
    native, local, traced = runner.native(*command), runner.local(*command), runner.traced(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err
    # The hostname is the pod's, but a filter of the program's that answers before it is asked for has precedence.
    assert (traced.status, traced.out) == (native.status, native.out), traced.err


@pytest.fixture
def by_ptrace(runner: Runner) -> None:
    """What `runner` runs has a tracer: the other engine is what test_debuggers.py is about."""
    runner.engine = "ptrace"


@pytest.fixture
def by_notification(runner: Runner) -> None:
    """What `runner` runs has none."""
    runner.engine = "notify"


@pytest.mark.usefixtures("by_ptrace")
@pytest.mark.parametrize("command", ["strace true", "strace -f -p $!", "gdb -batch -ex run /bin/true"])
def test_a_tracer_inside_gets_eperm_and_a_line(runner: Runner, command: str) -> None:
    traced = runner.traced("sh", "-c", f"sleep 1000 & {command} 2>&1; status=$?; kill $!; exit $status")
    assert traced.status != 0, traced
    assert _lines(traced, _NO_TRACING) == 1, traced
    assert "ermitted" in traced.out, traced


def test_a_tracer_inside_may_trace_what_is_not_supervised(runner: Runner) -> None:
    if os.geteuid() != 0:
        pytest.skip("an ordinary user's Yama may forbid it: this needs root")
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            traced = runner.traced("timeout", "-s", "INT", "1", "strace", "-p", str(other.pid))
        finally:
            other.kill()
    assert "attached" in traced.err, traced
    assert _lines(traced, "one tracer") <= 1


@pytest.fixture
def leak(tmp_path: Path) -> Path:
    """A program that leaks, with LeakSanitizer: at its end it traces its own process."""
    source, program = tmp_path / "leak.c", tmp_path / "leak"
    source.write_text("#include <stdlib.h>\nint main(void) { void *volatile p = malloc(10); p = 0; return p != 0; }\n")
    subprocess.run(["gcc", "-fsanitize=address", source, "-o", program], check=True)
    return program


@pytest.mark.usefixtures("by_notification")
def test_leak_sanitizer_finds_leaks_without_a_tracer(runner: Runner, leak: Path) -> None:
    native, traced = runner.native(leak), runner.traced(leak)
    assert "detected memory leaks" in native.err, native
    assert "detected memory leaks" in traced.err, traced
    assert traced.status == native.status, traced


@pytest.mark.usefixtures("by_ptrace")
def test_leak_sanitizer(runner: Runner, leak: Path) -> None:
    """It cannot, so it says so, and fails: no hang."""
    program = leak
    native, traced = runner.native(program), runner.traced(program)
    assert "detected memory leaks" in native.err, native
    assert traced.status != 0, traced
    assert "does not work under ptrace" in traced.err, traced
    assert _lines(traced, _NO_TRACING) == 1, traced
    assert "detect_leaks=0" in traced.err
    quiet = runner.traced(program, ASAN_OPTIONS="detect_leaks=0")
    assert (quiet.status, quiet.err) == (0, "")


def test_a_set_user_id_program_of_the_system(runner: Runner) -> None:
    """As with no_new_privs, and an ordinary user is told."""
    native, traced = runner.native("su", "--help"), runner.traced("su", "--help")
    assert (traced.status, traced.out) == (native.status, native.out), traced.err
    assert _lines(traced, _NO_PRIVILEGES) == (os.geteuid() != 0), traced


def test_a_set_user_id_program_keeps_its_privileges_with_root(runner: Runner, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make such a program: this needs root")
    program = Path(shutil.copy(shutil.which("id") or "/usr/bin/id", tmp_path / "id"))
    os.chown(program, 65534, 65534)
    program.chmod(0o6755)
    native, traced = runner.native(program), runner.traced(program)
    assert "euid=65534" in native.out, native
    assert (traced.status, traced.out, traced.err) == (0, native.out, "")


@pytest.mark.usefixtures("by_ptrace")
def test_the_tool_under_a_tracer_says_so(runner: Runner) -> None:
    under_strace = runner.native("strace", "-f", "-o", "/dev/null", *runner.command("true"))
    under_itself = runner.local(*runner.command("true"))
    for ran in (under_strace, under_itself):
        assert ran.status == 125, ran
        assert _lines(ran, "the kernel forbids tracing") == 1, ran


@pytest.mark.usefixtures("by_notification")
def test_the_tool_under_a_tracer_by_the_other_engine(runner: Runner) -> None:
    ran = runner.native("strace", "-f", "-o", "/dev/null", *runner.command("cat", "/etc/hostname"))
    assert (ran.status, ran.out) == (0, "demo-pod-0\n"), ran


@pytest.mark.usefixtures("by_notification")
def test_one_listener_only(runner: Runner) -> None:
    twice = runner.local(*runner.command("true"))
    assert twice.status == 125, twice
    assert _lines(twice, "supervised by it already") == 1, twice
    inner = runner.command("true", options=("--engine", "ptrace"))
    outranked = runner.local(*inner)
    assert outranked.status == 0, outranked
    assert _lines(outranked, "another supervisor is told of system calls first") == 1, outranked


_TRACER = ("sh", "-c", "while read name value; do case $name in TracerPid:) echo $value;; esac; done < /proc/$$/status")


@pytest.mark.usefixtures("by_ptrace")
def test_a_program_that_looks_for_its_tracer_sees_it(runner: Runner) -> None:
    """The one thing that cannot be hidden."""
    assert runner.native(*_TRACER).out == "0\n"
    assert int(runner.traced(*_TRACER).out) > 0


@pytest.mark.usefixtures("by_notification")
def test_a_program_that_looks_for_its_tracer_sees_none(runner: Runner) -> None:
    assert runner.traced(*_TRACER).out == "0\n"
