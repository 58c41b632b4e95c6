"""The command as the user runs it, in the context of a local process: statuses, signals, pipes, and nothing left behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mirrord_trace.supervisor.cli.run import occupy_standard_files

_TOOL = [sys.executable, "-c", "from mirrord_trace.supervisor.cli.main import main; main()"]
_LIMIT_S = 60


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    """A process whose context is this test's own."""
    with subprocess.Popen(["/bin/sleep", "600"]) as process:
        yield f"pid/{process.pid}"
        process.kill()


def _command(target: str, *words: str) -> list[str]:
    return [*_TOOL, "-t", target, "--fs-mode", "local", "--no-outgoing", "--", *words]


def _run(target: str, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(target, *words), input=given, capture_output=True, text=True, timeout=_LIMIT_S, check=False)


@contextlib.contextmanager
def _running(command: list[str], **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Killed at the end if it still runs: Popen alone would wait for it, and a failed test hang."""
    with subprocess.Popen(command, start_new_session=True, **more) as tool:
        try:
            yield tool
        finally:
            tool.kill()


@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_status_is_the_programs(target: str, status: int) -> None:
    done = _run(target, "/bin/sh", "-c", f"exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV, signal.SIGRTMIN + 1])
def test_the_tool_dies_by_the_programs_signal(target: str, number: int) -> None:
    done = _run(target, "/bin/sh", "-c", f"ulimit -c 0; kill -{int(number)} $$")
    assert (done.returncode, done.stderr) == (-number, "")


@pytest.mark.parametrize(("program", "status"), [("no-such-program", 127), ("/nowhere/program", 127), ("/etc/passwd", 126)])
def test_a_program_that_cannot_be_executed(target: str, program: str, status: int) -> None:
    done = _run(target, program)
    assert done.returncode == status
    assert done.stderr.startswith(f"mirrord-trace: cannot execute {program}: ")
    assert done.stderr.count("\n") == 1


def test_no_command_is_wrong_usage() -> None:
    done = subprocess.run([*_TOOL, "-t", "demo"], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert (done.returncode, done.stderr) == (2, "mirrord-trace: no command: give -- CMD ARGS after the options\n")


def test_standard_files_are_the_programs(target: str) -> None:
    done = _run(target, "/bin/sh", "-c", "tr a-z A-Z; echo problem >&2", given="some text")
    assert (done.stdout, done.stderr) == ("SOME TEXT", "problem\n")


def test_a_pipe_ends_when_the_program_closes_it(target: str) -> None:
    # The program goes on after it has closed its output and input; the tool must hold neither.
    command = _command(target, "/bin/sh", "-c", "echo done; exec >&- <&-; read line < $0 || exit 4; exit 5")
    gate_read, gate_write = os.pipe()
    command.append(f"/proc/self/fd/{gate_read}")
    with _running(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[gate_read]) as tool:
        assert tool.stdout is not None
        assert tool.stdin is not None
        assert tool.stdout.read() == b"done\n"
        poll = select.poll()
        poll.register(tool.stdin, 0)
        assert poll.poll(10_000)[0][1] & select.POLLERR
        assert tool.poll() is None
        os.write(gate_write, b"on\n")
        assert tool.wait(_LIMIT_S) == 5
    os.close(gate_read)
    os.close(gate_write)


@pytest.mark.parametrize("closed", [(0,), (1,), (0, 1), (2,), (0, 1, 2)])
def test_standard_files_closed_by_the_caller_stay_closed(target: str, closed: tuple[int, ...], tmp_path: Path) -> None:
    report = tmp_path / "report"
    shell = f"for fd in 0 1 2; do test -e /proc/$$/fd/$fd && echo $fd; done > {report}; exit 6"
    command = _command(target, "/bin/sh", "-c", shell)

    def close() -> None:
        for fd in closed:
            os.close(fd)

    done = subprocess.run(command, preexec_fn=close, timeout=_LIMIT_S, check=False, stderr=None)
    assert done.returncode == 6
    # Output is the report itself within the loop.
    assert {int(line) for line in report.read_text().split()} == ({0, 1, 2} - set(closed)) | {1}


def test_occupied_files_are_closed_for_the_program() -> None:
    pid = os.fork()
    if pid == 0:
        os.closerange(0, 3)
        occupy_standard_files()
        os._exit(sum(os.get_inheritable(fd) for fd in range(3)))
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_tool_reaches_the_program_once(target: str, number: int) -> None:
    shell = f"trap 'echo told' {int(number)}; echo ready; read line; read line; exit 8"
    with _running(_command(target, "/bin/bash", "-c", shell), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as tool:
        assert tool.stdin is not None
        assert tool.stdout is not None
        assert tool.stdout.readline() == b"ready\n"
        tool.send_signal(number)
        assert tool.stdout.readline() == b"told\n"
        out, _ = tool.communicate(b"one\ntwo\n", timeout=_LIMIT_S)
        assert (tool.returncode, out) == (8, b"")


def test_killed_it_leaves_nothing_behind(target: str, tmp_path: Path) -> None:
    shell = f"(setsid sh -c 'echo $$ > {tmp_path}/a; echo; exec sleep 600') & echo $$ > {tmp_path}/b; wait"
    with _running(_command(target, "/bin/sh", "-c", shell), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL) as tool:
        assert tool.stdout is not None
        tool.stdout.readline()
        while not (tmp_path / "b").exists() or not (tmp_path / "b").read_text():
            assert tool.poll() is None
        pidfds = [os.pidfd_open(int((tmp_path / name).read_text())) for name in "ab"]
        with open(f"/proc/{tool.pid}/task/{tool.pid}/children", encoding="ascii") as children:
            pidfds += [os.pidfd_open(int(pid)) for pid in children.read().split()]
        tool.kill()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 20)[0]
        os.close(pidfd)


class Terminal:
    """A shell with job control on a terminal of its own, and what it has shown that was not looked at yet."""

    def __init__(self) -> None:
        self.main, terminal = pty.openpty()
        self.shell = subprocess.Popen(
            ["bash", "--norc", "--noprofile", "-i"],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
            env={**os.environ, "PS1": "prompt> ", "TERM": "dumb"},
        )
        os.close(terminal)
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self.main, text)

    def until(self, text: bytes) -> bytes:
        """Everything up to `text`."""
        while text not in self.seen:
            assert select.select([self.main], [], [], 20)[0], self.seen
            self.seen += os.read(self.main, 4096)
        before, _, self.seen = self.seen.partition(text)
        return before

    def close(self) -> None:
        os.close(self.main)  # hangs up
        self.shell.kill()
        self.shell.wait()


def test_a_terminals_ctrl_c_and_ctrl_z(target: str, tmp_path: Path) -> None:
    """Stop, continue, interrupt: the shell sees each, and the program is told of the last once."""
    script = tmp_path / "script"
    script.write_text("trap 'echo told; exit 11' INT; trap 'echo goes on' CONT; echo started; while :; do read -t 1 x; done\n")
    command = tmp_path / "command"
    command.write_text(f"#!/bin/sh\nexec {shlex.join(_command(target, 'bash', str(script)))}\n")
    command.chmod(0o755)
    terminal = Terminal()
    try:
        terminal.until(b"prompt> ")
        terminal.type(bytes(command) + b"\n")
        terminal.until(b"started\r\n")
        for _ in range(3):
            terminal.type(b"\x1a")
            terminal.until(b"Stopped")
            terminal.until(b"prompt> ")
            terminal.type(b"fg\n")
            terminal.until(b"goes on\r\n")
        terminal.type(b"\x03")
        assert terminal.until(b"prompt> ").count(b"told") == 1
        terminal.type(b"echo status=$?\n")
        terminal.until(b"status=11\r\n")
        terminal.until(b"prompt> ")
    finally:
        terminal.close()
