"""The program's surroundings: hostname, environment, status, streams, and clear words when something is wrong."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from mirrord_trace.supervisor.targets.demo import rootfs
from runs import Runner, tool


def test_the_hostname(runner: Runner) -> None:
    for command in (["busybox", "hostname"], ["uname", "-n"], ["busybox", "uname", "-n"]):
        traced = runner.traced(*command)
        assert (traced.status, traced.out) == (0, f"{rootfs.HOSTNAME}\n"), traced


def test_the_environment_is_merged(runner: Runner) -> None:
    traced = runner.traced("env", "-0", HERE_ONLY="mine", DEMO_GREETING="the pod's wins")
    environment = dict(entry.split("=", 1) for entry in traced.out.split("\0") if entry)
    assert environment["DEMO_GREETING"] == rootfs.ENVIRONMENT["DEMO_GREETING"]
    assert environment["DEMO_LINES"] == "one\ntwo=2"
    assert environment["DEMO_EMPTY"] == ""
    assert environment["HERE_ONLY"] == "mine"
    # mirrord's exclusions: what describes the machine is not taken from the pod.
    assert environment["PATH"] == runner.environment["PATH"]
    assert environment.get("HOME") == runner.environment.get("HOME")


def test_the_exit_status(runner: Runner) -> None:
    for script, status in (("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -TERM $$", -15), ("kill -9 $$", -9)):
        assert runner.traced("/bin/sh", "-c", script).status == status, script


def test_the_streams(runner: Runner) -> None:
    done = subprocess.run(
        [*tool(), "-t", "demo", "--", "/bin/sh", "-c", "cat; echo error >&2"],
        input=b"\x00\xffin\n",
        capture_output=True,
        timeout=60,
        check=False,
        cwd=runner.folder,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"\x00\xffin\n", b"error\n")


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (["/nowhere/at/all"], 127, "/nowhere/at/all"),
        (["no-such-program-anywhere"], 127, "no-such-program-anywhere"),
        (["/etc/passwd"], 126, "/etc/passwd"),
    ],
)
def test_a_program_that_cannot_run(runner: Runner, command: list[str], status: int, words: str) -> None:
    traced = runner.traced(*command)
    assert traced.status == status, traced
    assert traced.err.count("\n") == 1
    assert words in traced.err


def test_a_folder_of_path_that_cannot_be_looked_into_hides_nothing(runner: Runner, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    path = f"{closed}:{runner.environment['PATH']}"
    assert runner.traced("true", PATH=path).status == 0
    # As a shell has it: not found, since what is not seen is not there.
    assert runner.traced("no-such-program-anywhere", PATH=path).status == 127


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--", "true"], 2),
        (["-t", "demo"], 2),
        (["-t", "nonsense", "--", "true"], 2),
        (["-t", "pid/999999999", "--", "true"], 125),
        (["-f", "/nowhere/at/all.json", "-t", "demo", "--", "true"], 2),
    ],
)
def test_wrong_usage_is_one_line(runner: Runner, arguments: list[str], status: int) -> None:
    done = runner.native(*tool(), *arguments)
    assert done.status == status, done
    assert done.err.count("\n") == 1, done
    assert done.err.startswith("mirrord-trace: "), done


def test_statistics(runner: Runner, tmp_path: Path) -> None:
    traced = runner.traced("true", options=["--stats"])
    assert traced.status == 0, traced
    assert "stops" in traced.err
    assert "round trips" in traced.err


def test_a_pod_of_its_own(runner: Runner) -> None:
    done = runner.native(*tool(), "-t", "demo", "--", "cat", "/etc/hostname", MIRRORD_TRACE_DEMO_PID="")
    assert (done.status, done.out) == (0, f"{rootfs.HOSTNAME}\n"), done


def test_a_running_process(runner: Runner) -> None:
    """`pid/N`: its namespaces, its root directory and its environment."""
    words = 'hostname; echo "$DEMO_GREETING"; cat /app/config.json; curl -s http://greeter.demo.svc.cluster.local/'
    done = runner.native(*tool(), "-t", f"pid/{runner.pod.pid}", "--", "sh", "-c", words)
    assert done.status == 0, done
    assert done.out.splitlines()[0] == rootfs.HOSTNAME
    for expected in ("hello from the pod", "I am a file of the pod", "hello from the greeter"):
        assert expected in done.out
