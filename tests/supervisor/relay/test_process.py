from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Address, GetPod, Message, Opened, OpenFile, Pod
from mirrord_trace.supervisor.channel.local import LocalChannel
from mirrord_trace.supervisor.errors import EXIT_OWN_FAILURE, UsageError
from mirrord_trace.supervisor.relay import process as relay_process
from mirrord_trace.supervisor.relay import report
from mirrord_trace.supervisor.relay.link import Packet
from mirrord_trace.supervisor.relay.process import RelayHandle, RelaySettings, start_relay
from mirrord_trace.supervisor.targets.process import ProcessTarget
from mirrord_trace.syscalls.requests import Lost, NotStarted, Ready, StartConnect, Verdict

TIMEOUT_S = 30.0


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(1000)"], env={"CONTEXT": "sleeper"}, start_new_session=True
    )
    yield process.pid
    process.kill()
    process.wait()


def receive(relay: RelayHandle, kind: type[Message]) -> Packet:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        relay.link.wait(TIMEOUT_S)
        for packet in relay.link.drain():
            if isinstance(packet.message, kind):
                return packet
    raise AssertionError(f"no {kind.__name__} came")


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        pytest.skip("this kernel does not list children")


def descendants_of(pid: int) -> list[int]:
    found = children_of(pid)
    return found + [descendant for child in found for descendant in descendants_of(child)]


def wait_until_gone(pids: list[int]) -> None:
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(TIMEOUT_S * 1000), f"process {pid} is still there"
        os.close(pidfd)


def test_from_start_to_finish(sleeper: int) -> None:
    relay = start_relay(ProcessTarget(sleeper))
    ready = receive(relay, Ready).message
    assert isinstance(ready, Ready)
    assert ready.listener4_port
    relay.link.ask(GetPod(), 1)
    pod = receive(relay, Pod).message
    assert isinstance(pod, Pod)
    assert pod.environ == (b"CONTEXT=sleeper",)
    relay.link.ask(OpenFile(b"/proc/self/status", os.O_RDONLY, 0, 1), 2)
    opened = receive(relay, Opened)
    os.close(opened.fd)
    left = descendants_of(relay.pid)
    assert left
    assert relay.finish(TIMEOUT_S)
    wait_until_gone(left)
    with pytest.raises(ChildProcessError):
        os.waitpid(relay.pid, os.WNOHANG)


def test_a_connection_through_the_agent(sleeper: int) -> None:
    """A real connect of a real socket, over the real agent, to a server of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as tracee:
        relay = start_relay(ProcessTarget(sleeper))
        ready = receive(relay, Ready).message
        assert isinstance(ready, Ready)
        tracee.bind(("127.0.0.1", 0))
        peer = Address(bytes([127, 0, 0, 1]), server.getsockname()[1])
        relay.link.tell(StartConnect(7, peer, Address(bytes([127, 0, 0, 1]), tracee.getsockname()[1])))
        tracee.settimeout(TIMEOUT_S)
        tracee.connect(("127.0.0.1", ready.listener4_port))
        verdict = receive(relay, Verdict).message
        assert isinstance(verdict, Verdict)
        assert (verdict.key, verdict.errno, verdict.peer) == (7, 0, peer)
        connection, address = server.accept()
        with connection:
            assert address[1] == verdict.local.port
            tracee.sendall(b"ping")
            assert connection.recv(10) == b"ping"
            connection.sendall(b"pong")
            assert tracee.recv(10) == b"pong"
            tracee.shutdown(socket.SHUT_WR)
            assert connection.recv(10) == b""
        assert tracee.recv(10) == b""
        assert relay.finish(TIMEOUT_S)


def test_the_last_bytes_of_a_program_that_has_ended_arrive(sleeper: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as tracee:
        relay = start_relay(ProcessTarget(sleeper))
        ready = receive(relay, Ready).message
        assert isinstance(ready, Ready)
        tracee.bind(("127.0.0.1", 0))
        peer = Address(bytes([127, 0, 0, 1]), server.getsockname()[1])
        relay.link.tell(StartConnect(7, peer, Address(bytes(4), tracee.getsockname()[1])))
        tracee.settimeout(TIMEOUT_S)
        tracee.connect(("127.0.0.1", ready.listener4_port))
        connection, _ = server.accept()
        content = os.urandom(500_000)
        tracee.sendall(content)
        tracee.close()
        received = bytearray()
        with connection:
            relay.link.close()
            while chunk := connection.recv(65536):
                received += chunk
        assert received == content
        assert relay.finish(TIMEOUT_S)


def test_it_heeds_no_terminal_and_no_request_to_end(sleeper: int) -> None:
    relay = start_relay(ProcessTarget(sleeper))
    receive(relay, Ready)
    assert os.getsid(relay.pid) == relay.pid
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGHUP, signal.SIGTERM):
        os.kill(relay.pid, number)
    relay.link.ask(GetPod(), 1)
    receive(relay, Pod)
    assert relay.finish(TIMEOUT_S)


def test_it_holds_no_descriptor_of_the_users(sleeper: int) -> None:
    reading, writing = os.pipe()
    relay = start_relay(ProcessTarget(sleeper))
    receive(relay, Ready)
    os.close(writing)
    assert os.read(reading, 1) == b"", "somebody still holds the other end"
    os.close(reading)
    fds = Path(f"/proc/{relay.pid}/fd")
    assert os.readlink(fds / "0") == os.readlink(fds / "1") == os.devnull
    assert relay.finish(TIMEOUT_S)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_when_the_tracer_is_killed(sleeper: int, number: int) -> None:
    reading, writing = os.pipe()
    tracer = os.fork()
    if tracer == 0:
        try:
            relay = start_relay(ProcessTarget(sleeper))
            receive(relay, Ready)
            os.write(writing, b"%d" % relay.pid)
            signal.pause()
        finally:
            os._exit(1)
    pid = int(os.read(reading, 20))
    everything = [pid, *descendants_of(pid)]
    assert len(everything) > 1
    os.kill(tracer, number)
    os.waitpid(tracer, 0)
    wait_until_gone(everything)
    os.close(reading)
    os.close(writing)


def test_nothing_is_left_when_the_relay_is_killed(sleeper: int) -> None:
    relay = start_relay(ProcessTarget(sleeper))
    receive(relay, Ready)
    left = descendants_of(relay.pid)
    os.kill(relay.pid, signal.SIGKILL)
    assert isinstance(receive(relay, Lost).message, Lost)
    assert relay.finish(TIMEOUT_S)
    wait_until_gone(left)


def test_a_killed_agent_is_a_loss(sleeper: int) -> None:
    relay = start_relay(ProcessTarget(sleeper))
    receive(relay, Ready)
    for pid in descendants_of(relay.pid):
        os.kill(pid, signal.SIGKILL)
    lost = receive(relay, Lost).message
    assert isinstance(lost, Lost)
    assert lost.reason.startswith(f"the session with the agent of process {sleeper} is lost: ")
    assert "\n" not in lost.reason
    relay.link.ask(GetPod(), 1)
    relay.link.wait(TIMEOUT_S)
    packet = relay.link.drain()[0]
    assert (packet.id, getattr(packet.message, "errno", 0)) == (1, errno.ENETDOWN)
    assert relay.finish(TIMEOUT_S)


class FakeTarget:
    """A target whose start the test decides. `stopped`: where `stop` leaves its mark, in another process."""

    boot_secret = b"s" * 32

    def __init__(self, start: Callable[[], Any], stopped: Path) -> None:
        self._start = start
        self._stopped = stopped

    def describe(self) -> str:
        return "pod/fake"

    def agent_target(self) -> dict[str, Any]:
        return {"pid": 1}

    def start(self, progress: Callable[[str], None]) -> Any:
        return self._start()

    def stop(self) -> None:
        with self._stopped.open("a") as file:
            file.write("stopped\n")


def fail(error: BaseException) -> Callable[[], Any]:
    def start() -> Any:
        raise error

    return start


class Elsewhere:
    """A channel to something that is no agent."""

    resumable = True

    def __init__(self, says: bytes) -> None:
        self._says = says

    def open(self) -> Any:
        from mirrord_trace.agent.pump.transport import SocketTransport

        ours, self._theirs = socket.socketpair()
        self._theirs.send(self._says)
        return SocketTransport(ours)

    def close(self) -> None:
        pass


def python_that_fails(tmp_path: Path) -> str:
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\necho 'python: no such module' >&2\nexit 1\n")
    path.chmod(0o755)
    return str(path)


def test_what_cannot_start(tmp_path: Path) -> None:
    cases: list[tuple[Callable[[], Any], str, int]] = [
        (fail(UsageError("no such pod; see mirrord-trace ls", 3)), "no such pod; see mirrord-trace ls", 3),
        (fail(OSError(errno.ECONNREFUSED, "refused")), "cannot reach the agent for pod/fake: [Errno 111] refused", 125),
        (lambda: Elsewhere(b"SSH-2.0-OpenSSH_9.2\r\n"), "did not start: this is not mirrord-trace's agent", 125),
        (lambda: LocalChannel(b"s" * 32, python=python_that_fails(tmp_path)), "did not start: python: no such module", 125),
    ]
    for number, (start, reason, status) in enumerate(cases):
        stopped = tmp_path / f"stopped{number}"
        relay = start_relay(FakeTarget(start, stopped))
        message = receive(relay, NotStarted).message
        assert isinstance(message, NotStarted)
        assert reason in message.reason
        assert message.exit_status == status
        assert relay.finish(TIMEOUT_S)
        assert stopped.read_text() == "stopped\n"


def test_a_bug_in_a_target_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    relay = start_relay(FakeTarget(fail(RuntimeError("a bug")), tmp_path / "stopped"))
    message = receive(relay, NotStarted).message
    assert isinstance(message, NotStarted)
    assert message.exit_status == EXIT_OWN_FAILURE
    assert "RuntimeError: a bug" in message.reason
    assert relay.finish(TIMEOUT_S)
    assert (tmp_path / "stopped").read_text() == "stopped\n"
    assert "RuntimeError: a bug" in capfd.readouterr().err


def test_a_start_that_hangs_ends_with_the_tracer(tmp_path: Path) -> None:
    began = tmp_path / "began"

    def hang() -> Any:
        os.mkfifo(tmp_path / "fifo")
        began.write_text("")
        with open(tmp_path / "fifo", "rb") as file:  # blocks for ever
            return file.read()

    relay = start_relay(FakeTarget(hang, tmp_path / "stopped"))
    while not began.exists():
        os.sched_yield()
    assert relay.finish(TIMEOUT_S)
    assert (tmp_path / "stopped").read_text() == "stopped\n"


class Slow(FakeTarget):
    """Reports something once, and then hangs."""

    def start(self, progress: Callable[[str], None]) -> Any:
        progress("pulling the image")
        return super().start(progress)


def test_news_of_a_slow_start_are_shown_though_none_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (relay_process, report):
        monkeypatch.setattr(module, "PATIENCE_S", 0.01)
    os.mkfifo(tmp_path / "fifo")
    reading, writing = os.pipe()
    stderr = os.dup(2)
    os.dup2(writing, 2)
    try:
        relay = start_relay(Slow((tmp_path / "fifo").read_bytes, tmp_path / "stopped"))
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(writing)
    assert os.read(reading, 100) == b"mirrord-trace: pulling the image\n"
    assert relay.finish(TIMEOUT_S)
    assert os.read(reading, 100) == b""
    os.close(reading)


def test_a_loader_that_does_not_answer(tmp_path: Path) -> None:
    relay = start_relay(FakeTarget(lambda: Elsewhere(b""), tmp_path / "stopped"), RelaySettings(startup_timeout_s=0.05))
    message = receive(relay, NotStarted).message
    assert isinstance(message, NotStarted)
    assert message.reason == "the agent for pod/fake did not start: it did not answer in time"
    assert relay.finish(TIMEOUT_S)
