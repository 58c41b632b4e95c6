"""The command as the user gives it: options, refusals, statuses. What it does is tested in tests/system/test_attach.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from mirrord_trace.supervisor.cli import attach as command
from mirrord_trace.supervisor.cli.attach import attach
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError

_TOOL = [sys.executable, "-c", "from mirrord_trace.supervisor.cli.main import main; main()"]


def _run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*_TOOL, "attach", *words], capture_output=True, text=True, timeout=60, check=False)


def test_the_options_are_those_of_a_run_that_mean_something_here() -> None:
    text = CliRunner().invoke(attach, ["--help"]).output
    assert all(option in text for option in ("--target", "--config-file", "--fs-mode", "--no-outgoing", "--trace", "--stats"))
    assert not any(option in text for option in ("--from-pod", "--env-file", "--override-env", "--skip-processes", "-- CMD"))


@pytest.mark.parametrize("words", ["-t demo", "-t demo x", "-t demo --from-pod 7", "-t demo 7 8"])
def test_wrong_usage(words: str) -> None:
    done = _run(*words.split())
    assert done.returncode == EXIT_USAGE
    assert "Usage: mirrord-trace attach -t TARGET [OPTIONS] PID" in done.stderr


def test_the_target_is_asked_for_first() -> None:
    done = _run("4194304")
    assert (done.returncode, "no target" in done.stderr) == (EXIT_USAGE, True)


def test_a_process_that_is_not_there_is_told_before_anything_is_started() -> None:
    done = _run("-t", "pod/x", "4194304")
    assert (done.returncode, done.stderr) == (EXIT_USAGE, "mirrord-trace: there is no process 4194304\n")


def test_options_before_and_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr(command, "run_attached", lambda flags, pid, stats: seen.append((flags, pid, stats)) or 7)
    result = CliRunner().invoke(attach, ["-t", "demo", "4711", "--no-outgoing", "--stats-file", "s"])
    assert result.exit_code == 7
    flags, pid, stats = seen[0]  # type: ignore[misc]
    assert (flags.target, flags.tcp_outgoing, flags.udp_outgoing, pid, stats) == ("demo", False, False, 4711, Path("s"))


def test_oneself(monkeypatch: pytest.MonkeyPatch) -> None:
    from mirrord_trace.supervisor.config.overlays import Flags

    with pytest.raises(UsageError, match="runs below"):
        command.run_attached(Flags(target="demo"), os.getpid(), None)
