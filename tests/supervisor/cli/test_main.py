"""Words before the command, statuses of the tool's own, and one line for each failure."""

from __future__ import annotations

import signal
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
from mirrord_trace.supervisor.cli import main as module
from mirrord_trace.supervisor.cli import run as run_module
from mirrord_trace.supervisor.cli.main import main
from mirrord_trace.supervisor.config.overlays import Flags
from mirrord_trace.supervisor.errors import UsageError

Ran = list[tuple[Flags, tuple[str, ...], Path | None]]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Ran:
    """What the command line came to, instead of running it."""
    calls: Ran = []

    def run(flags: Flags, command: tuple[str, ...], stats_file: Path | None, ignored: frozenset[int]) -> int:
        assert not ignored
        calls.append((flags, command, stats_file))
        return 42

    monkeypatch.setattr(run_module, "run", run)
    return calls


def _status(*words: str) -> object:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return ended.value.code


def test_the_status_is_the_programs(ran: Ran) -> None:
    assert _status("-t", "demo", "--", "ls", "-l", "--help") == 42
    assert ran == [(Flags(target="demo"), ("ls", "-l", "--help"), None)]


def test_sigchld_is_not_ignored_and_what_the_caller_ignores_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(flags: Flags, command: tuple[str, ...], stats_file: Path | None, ignored: frozenset[int]) -> int:
        assert signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL
        return 42 if ignored == {signal.SIGCHLD} else 1

    monkeypatch.setattr(run_module, "run", run)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert _status("-t", "demo", "--", "ls") == 42
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_nothing_behind_the_command_is_interpreted(ran: Ran) -> None:
    _status("-t", "demo", "ls", "-t", "--trace", "--", "--version")
    assert ran[0][1] == ("ls", "-t", "--trace", "--", "--version")
    assert not ran[0][0].trace


def test_exec_is_accepted_and_only_as_the_first_word(ran: Ran) -> None:
    _status("exec", "-t", "demo", "--", "exec", "ls")
    assert ran[0][1] == ("exec", "ls")


def test_a_program_called_like_a_command_of_ours(ran: Ran) -> None:
    _status("-t", "demo", "--", "ls")
    _status("-t", "demo", "doctor")
    assert [command for _, command, _ in ran] == [("ls",), ("doctor",)]


def test_options_become_flags(ran: Ran, tmp_path: Path) -> None:
    _status("-t", "x", "-n", "ns", "--no-outgoing", "--stats", "--stats-file", str(tmp_path / "s"), "-E", "--", "cmd")
    flags, _, file = ran[0]
    expected = Flags(target="x", namespace="ns", tcp_outgoing=False, udp_outgoing=False, stats=True, ephemeral_container=False)
    assert (flags, file) == (expected, tmp_path / "s")


def test_the_pods_own_program_needs_no_command(ran: Ran) -> None:
    _status("-t", "x", "--from-pod")
    _status("-t", "x", "--from-pod", "--", "sh", "-c", "true")
    flags = Flags(target="x", from_pod=True)
    assert ran == [(flags, (), None), (flags, ("sh", "-c", "true"), None)]


def test_an_unknown_option_is_wrong_usage(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    assert _status("--no-such-option") == 2
    assert "--no-such-option" in capsys.readouterr().err
    assert ran == []


@pytest.mark.parametrize(
    "words", [("--help",), ("-h",), ("ls", "--help"), ("doctor", "--help"), ("explain", "--help"), ("bench", "--help"),
              ("--version",)]
)
def test_help_and_version(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert _status(*words) == 0
    assert "mirrord-trace" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["ls", "doctor", "explain", "bench"])
def test_usage_names_the_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    _status(name, "--help")
    assert capsys.readouterr().out.startswith(f"Usage: mirrord-trace {name} ")


def test_help_names_the_other_commands(capsys: pytest.CaptureFixture[str]) -> None:
    _status("--help")
    shown = capsys.readouterr().out
    assert "mirrord-trace ls" in shown
    assert "mirrord-trace doctor" in shown
    assert "mirrord-trace explain" in shown


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UsageError("no such pod; try mirrord-trace ls", 3), 3, "mirrord-trace: no such pod; try mirrord-trace ls\n"),
        (KeyboardInterrupt(), 130, "mirrord-trace: interrupted\n"),
        (RuntimeError("oops"), 125, "mirrord-trace: internal error; please report it with the lines above\n"),
    ],
)
def test_failures(
    error: BaseException, status: int, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> int:
        raise error

    monkeypatch.setattr(run_module, "run", run)
    assert _status("-t", "demo", "--", "x") == status
    shown = capsys.readouterr().err
    assert shown.endswith(text)
    assert ("oops" in shown) is isinstance(error, RuntimeError)


def test_with_standard_error_closed_there_is_still_a_status(ran: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert _status("-t", "demo", "--", "x") == 42
    assert sys.stderr is not None
    sys.stderr.close()


def test_the_version_without_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(module, "version", missing)
    assert module._version() == "unknown"
