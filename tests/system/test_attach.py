"""A process that runs already gets into the pod's context and out of it again, and does not notice how."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from build import FLAVOURS, c_program, go_program
from mirrord_trace.supervisor.targets.demo import network
from runs import Argument, Runner, tool, until

pytestmark = pytest.mark.own_engine

_HOST, _POD_HOST = os.uname().nodename, "demo-pod-0"
_GREETER = f"connect {network.GREETER[0]} {network.HTTP_PORT}"
_LIMIT_S = 60


class Program:
    """Runs by itself; answers each line of its input by one of its output."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def asked(self, line: str) -> str:
        """Tell it this, and what it says then."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.line()

    def line(self) -> str:
        """What it says next."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")


class Attached:
    """The tool while it holds a process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said = ""

    def end(self, number: int = signal.SIGINT) -> int:
        """Send it a signal; its status."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Its status, once it has ended by itself."""
        _, rest = self.process.communicate(timeout=_LIMIT_S)
        self.said += rest
        return self.process.returncode


@contextlib.contextmanager
def _program(runner: Runner, *command: Argument, ready: bool = True) -> Iterator[Program]:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=runner.folder,
        start_new_session=True,
    ) as process:  # fmt: skip
        program = Program(process)
        try:
            if ready:
                assert program.line().startswith("ready")
            yield program
        finally:
            process.kill()


@contextlib.contextmanager
def _attached(runner: Runner, pid: int, *options: Argument) -> Iterator[Attached]:
    process = subprocess.Popen(
        [*tool(), "attach", "-t", "demo", *options, str(pid)], cwd=runner.folder, env=runner.environment_for({}),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    attached = Attached(process)
    try:
        while "attached to" not in attached.said:
            line = process.stderr.readline()
            assert line, attached.said
            attached.said += line
        yield attached
        if process.returncode is None:
            assert attached.end() == 0, attached.said
    finally:
        if process.returncode is None:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_threads_in_every_call_that_blocks(runner: Runner, flavour: str) -> None:
    """In the pod while attached, here before, between and after; nobody is woken but by what they wait for."""
    with _program(runner, c_program("held", flavour)) as program:
        for _ in range(2):
            _is_here(program)
            with _attached(runner, program.pid):
                _is_in_pod(program)
                assert program.asked("wake") == "woken"
        _is_here(program)
        assert program.asked("wake") == "woken"
        assert program.asked("quit") == "OK"
        assert program.process.wait(_LIMIT_S) == 7


def _is_here(program: Program) -> None:
    assert program.asked("host") == _HOST
    assert program.asked("fork") == _HOST
    assert program.asked("open /app/config.json") == "errno 2"


def _is_in_pod(program: Program) -> None:
    assert program.asked("host") == _POD_HOST
    assert program.asked("fork") == _POD_HOST
    assert program.asked("open /app/config.json").startswith('{"pod": "demo-pod-0"')
    assert program.asked("open /etc/hostname") == _POD_HOST
    assert program.asked(_GREETER).startswith(f"{network.POD[0]} HTTP/1.1 200")


def test_two_hundred_threads(runner: Runner) -> None:
    with _program(runner, c_program("held"), "200") as program:
        with _attached(runner, program.pid):
            assert program.asked("host") == _POD_HOST
            assert program.asked("wake") == "woken"
        assert program.asked("host") == _HOST
        assert program.asked("quit") == "OK"


def test_attached_and_let_go_many_times(runner: Runner) -> None:
    with _program(runner, c_program("held"), "20") as program:
        for number in range(4):
            with _attached(runner, program.pid, "--fs-mode", "local", "--no-outgoing") as attached:
                assert program.asked("host") == _POD_HOST
                assert attached.end(signal.SIGTERM if number % 2 else signal.SIGINT) == 0
            assert program.asked("host") == _HOST
        assert program.asked("wake") == "woken"
        assert program.asked("quit") == "OK"


def test_what_is_left_of_the_pod_is_told(runner: Runner) -> None:
    with _program(runner, c_program("held")) as program:
        with _attached(runner, program.pid) as attached:
            assert program.asked("keep /app/config.json") == "kept"
            assert program.asked("again").startswith('{"pod"')
        assert "what it still has of the pod ends now: 1 open file" in attached.said
        assert "takes too long" not in attached.said
        assert program.asked("quit") == "OK"


def test_a_killed_tool_leaves_the_program_running(runner: Runner) -> None:
    with _program(runner, c_program("held"), "20") as program:
        for _ in range(2):
            # Not the pod's files: what is being opened when they vanish may fail.
            with _attached(runner, program.pid, "--fs-mode", "local") as attached:
                assert program.asked("host") == _POD_HOST
                assert program.asked(_GREETER).startswith(network.POD[0])
                assert attached.end(signal.SIGKILL) == -signal.SIGKILL
            assert program.asked("host") == _HOST
            assert program.asked("wake") == "woken"
        assert program.asked("quit") == "OK"


@pytest.mark.parametrize(("how", "status"), [("exit 5", 5), ("kill -TERM $$", -signal.SIGTERM)])
def test_the_program_ends_meanwhile(runner: Runner, how: str, status: int) -> None:
    script = f"echo ready; read line; cat /etc/hostname; {how}"
    with _program(runner, "sh", "-c", script) as program, _attached(runner, program.pid) as attached:
        assert program.asked("go") == _POD_HOST
        assert attached.wait() == status
        assert program.process.wait(_LIMIT_S) == status


def test_a_shell_and_its_children(runner: Runner) -> None:
    """Children that it has already come along; those that it starts do, too."""
    script = "echo ready; (read x < gate; cat /etc/hostname) & while read line; do eval $line; done"
    os.mkfifo(runner.folder / "gate")
    with _program(runner, "bash", "-c", script) as program:
        with _attached(runner, program.pid):
            assert program.asked("cat /etc/hostname") == _POD_HOST
            (runner.folder / "gate").write_text("go\n")
            assert program.line() == _POD_HOST
        assert program.asked("cat /etc/hostname") == Path("/etc/hostname").read_text().strip()


def test_a_stopped_process_stays_stopped(runner: Runner) -> None:
    with _program(runner, c_program("held"), "20") as program:
        os.kill(program.pid, signal.SIGSTOP)
        until(lambda: _state(program.pid) == "T", "it is stopped")
        with _attached(runner, program.pid):
            assert _state(program.pid) in "Tt"
        until(lambda: _state(program.pid) == "T", "it is stopped still")
        os.kill(program.pid, signal.SIGCONT)
        assert program.asked("host") == _HOST
        with _attached(runner, program.pid):
            assert program.asked("host") == _POD_HOST
            os.kill(program.pid, signal.SIGSTOP)
            until(lambda: _state(program.pid) in "Tt", "it is stopped while attached")
            os.kill(program.pid, signal.SIGCONT)
            assert program.asked("host") == _POD_HOST
            os.kill(program.pid, signal.SIGSTOP)
        until(lambda: _state(program.pid) == "T", "stopped, and let go")
        os.kill(program.pid, signal.SIGCONT)
        assert program.asked("host") == _HOST
        os.kill(program.pid, signal.SIGTERM)
        assert program.process.wait(_LIMIT_S) == -signal.SIGTERM


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_go_server(runner: Runner) -> None:
    """Goroutines wait in accept and epoll, SIGURG comes; every request is answered, attached or not."""
    with _program(runner, go_program("server"), "127.0.0.1:0", ready=False) as program:
        port = int(program.line().removeprefix("ready "))
        with _requests(port) as answered:
            for _ in range(2):
                with _attached(runner, program.pid):
                    answered()
                answered()
        os.kill(program.pid, signal.SIGTERM)
        assert program.process.wait(_LIMIT_S) == 0


def test_a_python_server(runner: Runner) -> None:
    (runner.folder / "index.html").write_text("here\n")
    server = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
    with subprocess.Popen(
        server, cwd=runner.folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline().split(" port ")[1].split()[0])
            with _requests(port) as answered:
                with _attached(runner, process.pid):
                    answered()
                answered()
        finally:
            process.kill()


@contextlib.contextmanager
def _requests(port: int) -> Iterator[object]:
    # A client that never stops asking; the function that is given waits for twenty answers more.
    count, wrong, over = [0], [], threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=_LIMIT_S) as peer:
                    peer.sendall(b"GET / HTTP/1.0\r\n\r\n")
                    while piece := peer.recv(65536):
                        last = piece
                    assert last
                count[0] += 1
            except (OSError, AssertionError) as error:
                wrong.append(error)
                return

    def answered() -> None:
        wanted = count[0] + 20
        until(lambda: bool(wrong) or count[0] >= wanted, "twenty answers", _LIMIT_S)
        assert not wrong, wrong

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answered
    finally:
        over.set()
        thread.join()


def test_a_busy_loop(runner: Runner) -> None:
    """It makes no calls, and is neither slowed down nor stopped."""
    text = "import time\nprint('ready', flush=True)\nwhile True: pass"
    with _program(runner, sys.executable, "-c", text) as program:
        with _attached(runner, program.pid):
            before = _cpu_ticks(program.pid)
            until(lambda: _cpu_ticks(program.pid) > before + 10, "it runs")
        before = _cpu_ticks(program.pid)
        until(lambda: _cpu_ticks(program.pid) > before + 10, "it runs on")


def _cpu_ticks(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


def test_a_sleep_is_not_longer(runner: Runner) -> None:
    began = time.monotonic()
    with _program(runner, "sleep", "8", ready=False) as program:
        with _attached(runner, program.pid):
            pass
        assert program.process.wait(_LIMIT_S) == 0
        assert time.monotonic() - began < 14


def test_refusals(runner: Runner) -> None:
    """One clear line each."""
    strace = shutil.which("strace")
    assert strace
    with _program(runner, "sh", "-c", "echo ready; read x") as program:
        assert "runs below" in _refused(runner, os.getpid())
        assert "process 1" in _refused(runner, 1)
        assert "there is no process" in _refused(runner, 4194304)
        with subprocess.Popen([strace, "-o", "/dev/null", "-p", str(program.pid)], stderr=subprocess.PIPE) as other:
            assert other.stderr is not None
            assert b"attached" in other.stderr.readline()
            assert f"is traced by strace (pid {other.pid})" in _refused(runner, program.pid)
            other.terminate()


def _refused(runner: Runner, pid: int) -> str:
    done = subprocess.run(
        [*tool(), "attach", "-t", "demo", str(pid)], env=runner.environment_for({}), capture_output=True, text=True,
        timeout=_LIMIT_S, check=False,
    )  # fmt: skip
    assert done.returncode in (2, 125), done
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr
