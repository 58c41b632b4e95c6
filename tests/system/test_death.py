"""Death of anybody at any moment leaves no process and no zombie, and is told as natively.

MIRRORD_TRACE_KILLS sets how many processes are killed in all below each loop; the default is for every run of the tests.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from build import FLAVOURS, c_program
from mirrord_trace.supervisor.targets.demo import network
from runs import Runner, until

_KILLS = int(os.environ.get("MIRRORD_TRACE_KILLS", "3000"))
_ROUNDS_OF_THE_TOOL = max(6, _KILLS // 250)
_POD = (network.GREETER[0], str(network.HTTP_PORT), "/app/config.json")
_MARK = "MIRRORD_TRACE_TEST_RUN"


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("every_way")
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_processes_killed_at_random_moments(runner: Runner, flavour: str) -> None:
    left = _KILLS // len(FLAVOURS)
    while left > 0:
        rounds = min(left, 1000)
        left -= rounds
        command = (c_program("prey", flavour), "hunt", str(rounds), str(left), *_POD)
        traced = runner.traced(*command)
        assert traced.status == 0, (command, traced)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize("whom", ["tool", "program"])
def test_the_tool_or_the_program_killed_at_random_moments(runner: Runner, whom: str) -> None:
    for number in range(_ROUNDS_OF_THE_TOOL):
        chance, mark = random.Random(number), f"{os.getpid()}-{whom}-{number}"
        process = subprocess.Popen(
            runner.command(c_program("prey", "static"), *_POD),
            cwd=runner.folder,
            env=runner.environment_for({_MARK: mark}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        program = int(process.stdout.readline().removeprefix("ready "))
        # Any moment will do, so nothing is waited for here that could come too late.
        end = time.monotonic() + chance.random() * 0.05
        while time.monotonic() < end:
            pass
        os.kill(program if whom == "program" else process.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (-signal.SIGKILL, ""), number
        until(lambda mark=mark: not _marked(mark), "every process of the run has ended")  # type: ignore[misc]


def _marked(mark: str) -> list[str]:
    # The program, the tool, the relay, the agent: all have the variable, and zombies have none.
    wanted = f"{_MARK}={mark}".encode()
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/environ", "rb") as environment:
                if wanted in environment.read().split(b"\0"):
                    found.append(name)
        except OSError:
            continue
    return found


@pytest.mark.usefixtures("both_engines")
def test_a_program_that_kills_its_parent_ends_with_it(runner: Runner) -> None:
    """Whoever that is: the tool, or the process in between."""
    script = "setsid sleep 1000 & echo $! $$; kill -KILL $PPID; while :; do sleep 1000; done"
    traced = runner.traced("sh", "-c", script)
    assert traced.status in (-signal.SIGKILL, 125), traced
    pids = [int(pid) for pid in traced.out.split()]
    assert len(pids) == 2
    until(lambda: not any(_is_running(pid) for pid in pids), "all have ended")


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_daemon_outlives_the_first_process_and_the_tool_waits_for_it(runner: Runner, tmp_path: Path) -> None:
    """The rule: the tool runs until the last supervised process has ended; its status is that of the first."""
    pid, gate, report = tmp_path / "pid", tmp_path / "gate", tmp_path / "report"
    os.mkfifo(gate)
    say = f"cat /etc/hostname /app/config.json > {report}"
    daemon = f"echo $$ > {pid}.new; mv {pid}.new {pid}; read line < {gate}; {say}; exit 9"
    script = f"setsid sh -c '{daemon}' > /dev/null 2>&1 < /dev/null & echo first; until [ -e {pid} ]; do :; done; exit 3"
    with subprocess.Popen(
        runner.command("sh", "-c", script),
        cwd=runner.folder,
        env=runner.environment_for({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        # The first process's pipe ends with it, although the tool goes on.
        assert process.stdout is not None
        assert process.stdout.read() == "first\n"
        assert process.poll() is None
        gate.write_text("go\n")
        assert process.wait(30) == 3
    inside = runner.traced("cat", "/etc/hostname", "/app/config.json")
    assert report.read_text() == inside.out


def test_a_daemon_is_ended_by_a_signal_to_the_tool(runner: Runner, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    script = f"setsid sh -c 'echo $$ > {pid}; exec sleep 1000' > /dev/null 2>&1 < /dev/null & exit 4"
    process = subprocess.Popen(
        runner.command("sh", "-c", script), cwd=runner.folder, env=runner.environment_for({}), stdin=subprocess.DEVNULL
    )
    until(lambda: pid.exists() and pid.read_text() != "", "the daemon runs")
    until(lambda: "sh" not in _children(process.pid), "the first process has ended")
    process.terminate()
    assert process.wait(30) == 4
    # Whoever has inherited the daemon may not have reaped it yet.
    assert _state(int(pid.read_text())) in ("", "Z")


def _children(pid: int) -> list[str]:
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            found.append(Path(f"/proc/{child}/comm").read_text().strip())
        except OSError:
            continue
    return found


def test_a_stopped_tool_goes_on_when_it_is_continued(runner: Runner) -> None:
    os.mkfifo(runner.folder / "gate")
    with runner.serving("sh", "-c", "echo ready; read x < gate; cat /etc/hostname; exit 8") as process:
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: _state(process.pid) == "T", "the tool is stopped")
        os.kill(process.pid, signal.SIGCONT)
        (runner.folder / "gate").write_text("go\n")
        assert process.wait(30) == 8


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


@pytest.mark.parametrize("end", ["kill -ABRT", "kill -SEGV", "kill -KILL", "kill -PIPE", "kill -RTMIN", "exit 77 #"])
def test_the_tool_ends_as_the_program(runner: Runner, end: str) -> None:
    command = ("bash", "-c", f"ulimit -c 0; {end} $$")
    assert runner.traced(*command).status == runner.native(*command).status


def test_a_core_is_the_programs(runner: Runner) -> None:
    """With a core_pattern that is a file name, the core is of the program, and there is one only."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    if pattern.startswith("|") or "/" in pattern:
        pytest.skip(f"this needs cores in the working directory (core_pattern is {pattern!r})")
    script = ("sh", "-c", "ulimit -c unlimited 2> /dev/null; kill -QUIT $$")
    native = runner.native(*script)
    cores = sorted(path.name.partition(".")[0] for path in runner.folder.glob("core*"))
    for path in runner.folder.glob("core*"):
        path.unlink()
    traced = runner.traced(*script)
    assert traced.status == native.status == -signal.SIGQUIT
    assert sorted(path.name.partition(".")[0] for path in runner.folder.glob("core*")) == cores
