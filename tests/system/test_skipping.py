"""Processes of programs that are named are let alone, and what they execute is not, whatever way they take there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from build import c_program, i386_program
from mirrord_trace.supervisor.targets.demo import rootfs
from runs import Ran, Runner, until

pytestmark = pytest.mark.usefixtures("every_way")

_FILE = "/app/config.json"
_ASKED = (_FILE, rootfs.HOSTNAME)
_WAYS = ("main", "thread", "child", "child of vfork", "untraced")
_OPTION = "--skip-processes"


def _program(runner: Runner, name: str, flavour: str = "glibc") -> Path:
    return Path(shutil.copy(c_program("skipped", flavour), runner.folder / name))


_IS_BUILD_TOOL = (
    "mirrord-trace: cc is a build tool: it sees this machine and not the pod, as with mirrord (skip_build_tools); "
    "MIRRORD_SKIP_BUILD_TOOLS=false changes that\n"
)


def _seen(ran: Ran, told: str = "") -> dict[str, str]:
    assert (ran.status, ran.err) == (0, told), ran
    lines = [line.split(":") for line in ran.out.splitlines()]
    seen = {who: what.strip() for who, what in lines}
    assert all(seen[who] == what.strip() for who, what in lines), ran  # a program that runs twice sees the same
    return seen


def _all(name: str, what: str) -> dict[str, str]:
    return {f"{name}, {way}": what for way in _WAYS}


@pytest.mark.parametrize("flavour", ["glibc", "static", "musl"])
def test_a_skipped_process_sees_this_machine_and_what_it_executes_the_pod(runner: Runner, flavour: str) -> None:
    one, other = _program(runner, "one", flavour), _program(runner, "other", flavour)
    ran = runner.traced(one, *_ASKED, other, options=[_OPTION, "something;one"])
    assert _seen(ran) == _all("one", "") | _all("other", "host file")


def test_where_the_pods_files_are_copies(runner: Runner) -> None:
    """No handler is there for execve(2)."""
    one, other = _program(runner, "one"), _program(runner, "other")
    config = runner.folder / "config.json"
    config.write_text(json.dumps({"feature": {"fs": {"fuse": "off"}}, "skip_processes": "one"}))
    ran = runner.traced(other, *_ASKED, one, other, options=["-f", config])
    assert _seen(ran) == _all("one", "") | _all("other", "host file")


def test_a_skipped_process_below_a_supervised_one(runner: Runner) -> None:
    one, other = _program(runner, "one"), _program(runner, "other")
    ran = runner.traced(other, *_ASKED, one, other, options=[_OPTION, "one"])
    assert _seen(ran) == _all("one", "") | _all("other", "host file")


@pytest.mark.parametrize("flavour", ["glibc", "static"])
def test_no_call_is_taken_for_another_programs(runner: Runner, flavour: str) -> None:
    """While one thread executes what is skipped, or what is not, the others call."""
    one, other = (shutil.copy(c_program("turns", flavour), runner.folder / name) for name in ("one", "other"))
    ran = runner.traced(one, _FILE, "60", other, "0", "1", options=[_OPTION, "one"])
    assert (ran.status, ran.out, ran.err) == (0, "done\n", ""), ran


def test_names_are_those_of_the_file_and_of_the_first_argument(runner: Runner) -> None:
    """What mirrord compares: the file behind all links, and the name that the program was called by."""
    real = _program(runner, "real")
    (runner.folder / "by-link").symlink_to(real)
    for called, skipped, what in (
        ("by-link", "by-link", ""),
        ("by-link", "real", ""),
        ("real", "by-link", "host file"),
        ("real", "rea", "host file"),
        ("real", "Real", "host file"),
    ):
        ran = runner.traced(runner.folder / called, *_ASKED, options=[_OPTION, skipped])
        assert _seen(ran) == _all(called, what), (called, skipped)


@pytest.mark.parametrize("way", ["file", "variable", "option"])
def test_build_tools_are_skipped_unless_they_shall_not(runner: Runner, way: str) -> None:
    """A line says so if CMD itself is one."""
    cc, tool = _program(runner, "cc"), _program(runner, "tool")
    assert _seen(runner.traced(cc, *_ASKED, tool), _IS_BUILD_TOOL) == _all("cc", "") | _all("tool", "host file")
    if way == "file":
        config = runner.folder / "config.json"
        config.write_text(json.dumps({"skip_extra_build_tools": ["tool"]}))
        skipped = runner.traced(cc, *_ASKED, tool, options=["-f", config])
        assert _seen(skipped, _IS_BUILD_TOOL) == _all("cc", "") | _all("tool", "")
        config.write_text(json.dumps({"skip_extra_build_tools": ["tool"], "skip_build_tools": False}))
        supervised = runner.traced(cc, *_ASKED, tool, options=["-f", config])
        assert _seen(supervised) == _all("cc", "host file") | _all("tool", "host file")
    elif way == "variable":
        supervised = runner.traced(cc, *_ASKED, tool, MIRRORD_SKIP_BUILD_TOOLS="false", MIRRORD_SKIP_PROCESSES="tool")
        assert _seen(supervised) == _all("cc", "host file") | _all("tool", "")
    else:
        skipped = runner.traced(cc, *_ASKED, tool, options=[_OPTION, "tool"])
        assert _seen(skipped, _IS_BUILD_TOOL) == _all("cc", "") | _all("tool", "")


def test_the_environment_stays_the_pods(runner: Runner) -> None:
    ran = runner.traced("env", options=[_OPTION, "env"])
    assert "DEMO_GREETING=hello from the pod" in ran.out.splitlines(), ran


def test_namespaces_that_a_skipped_process_makes_are_noted(runner: Runner) -> None:
    """What it executes has a hostname of its own there, as without us."""
    command = ("unshare", "--user", "--map-root-user", "--uts", "uname", "-n")
    native = runner.native(*command)
    assert native.status == 0, native
    assert runner.traced(*command, options=[_OPTION, "unshare"]).out == native.out
    assert native.out.strip() != rootfs.HOSTNAME


def test_programs_of_the_pod_are_never_skipped(runner: Runner, tmp_path: Path) -> None:
    # What they load is the pod's.
    there = Path(f"/proc/{runner.pod.pid}/root/app/skipped-{os.getpid()}")
    shutil.copy(c_program("skipped", "static"), there)
    try:
        one = _program(runner, "one")
        ran = runner.traced(f"/app/{there.name}", *_ASKED, one, options=[_OPTION, f"{there.name};one"])
        assert _seen(ran) == _all(there.name, "host file") | _all("one", "")
    finally:
        there.unlink()


def test_a_filter_of_a_skipped_program_holds(runner: Runner) -> None:
    program = c_program("skipped")
    native = runner.native(program, "filter")
    skipped = runner.traced(program, "filter", options=[_OPTION, program.name])
    assert "Argument list too long" in native.out
    assert (skipped.status, skipped.out) == (native.status, native.out), skipped


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="32-bit programs of x86")
def test_a_program_of_32_bits_runs_if_it_is_skipped(runner: Runner) -> None:
    program = i386_program()
    native = runner.native(program)
    skipped = runner.traced(program, options=[_OPTION, program.name])
    assert (skipped.status, skipped.out, skipped.err) == (native.status, native.out, ""), skipped


def test_make_runs_a_compiler_and_what_that_has_made(runner: Runner) -> None:
    """make is supervised, cc and all that it executes by those names are not, and the built program is."""
    (runner.folder / "program.c").write_text(
        f'#include <stdio.h>\nint main(void) {{ return printf("file: %d\\n", fopen("{_FILE}", "r") != NULL) < 0; }}\n'
    )
    (runner.folder / "makefile").write_text(
        f"all: program\n\t@./program\n\t@uname -n\n"
        f'program: program.c\n\t@cc -E -include {_FILE} $< > log 2>&1 || grep -o "No such file or directory" log\n'
        f"\t@cc -o $@ $<\n"
    )
    traced = runner.traced("bash", "-c", "make")
    assert (traced.status, traced.out) == (0, f"No such file or directory\nfile: 1\n{rootfs.HOSTNAME}\n"), traced


def test_git_is_as_natively(runner: Runner) -> None:
    script = """
set -e
git init -q -b main work; cd work
for n in $(seq 300); do echo $n > file$n; done
git -c user.name=a -c user.email=a@b add -A
git -c user.name=a -c user.email=a@b -c commit.gpgsign=false commit -q -m first --date 2000-01-01T00:00:00Z
rm file7; git mv file8 moved; echo changed > file9
git status --porcelain; git log --stat --format=%T; git gc -q; git fsck 2>&1; git diff
rm -rf ../work"""
    native = runner.native("sh", "-c", script)
    traced = runner.traced("sh", "-c", script)
    assert native.status == 0, native
    assert (traced.status, traced.out) == (native.status, native.out), traced


def test_trace_says_who_is_skipped_and_nothing_of_what_they_do(runner: Runner) -> None:
    program = _program(runner, "one")
    ran = runner.traced(program, *_ASKED, options=["--trace", _OPTION, "one"])
    assert ran.status == 0, ran
    said = [line.partition("] ")[2] for line in ran.err.splitlines() if line.startswith("[")]
    skipped = said.index(f'"{program}" is not supervised: skip_processes')
    # Nobody gets away from the tracer.
    assert said[skipped + 1 :] == [line for line in said if line.startswith("clone")], ran


@pytest.mark.parametrize("end", ["exit 7", "kill -ABRT $$", "kill -KILL $$", "(exit 3) & wait $!"])
def test_the_tool_ends_as_a_skipped_program(runner: Runner, end: str) -> None:
    command = ("bash", "-c", f"ulimit -c 0; {end}")
    assert runner.traced(*command, options=[_OPTION, "bash"]).status == runner.native(*command).status


def test_skipped_processes_end_with_the_tool(runner: Runner) -> None:
    process = subprocess.Popen(
        runner.command("sh", "-c", "sleep 1000 & echo $!; wait", options=[_OPTION, "sh;sleep"]),
        cwd=runner.folder,
        env=runner.environment_for({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    sleeper = int(process.stdout.readline())
    until(lambda: Path(f"/proc/{sleeper}/comm").read_text() == "sleep\n", "it sleeps")
    process.kill()
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    until(lambda: not _lives(sleeper), "the sleeper has ended")


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
