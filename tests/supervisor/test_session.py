"""A whole session with a relay that plays its part over a real link, in a process of the test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).with_name("tracer")))

from mirrord_trace.agent.wire.codec import decode, encode
from mirrord_trace.agent.wire.messages import Attributes, Failed, FileStat, GetPod, Message, Pod, Stat
from mirrord_trace.supervisor import session as module
from mirrord_trace.supervisor.config.load import Machine, load
from mirrord_trace.supervisor.config.overlays import Flags
from mirrord_trace.supervisor.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_OWN_FAILURE, UsageError
from mirrord_trace.supervisor.fuse.generation import Generation
from mirrord_trace.supervisor.relay.addresses import AddressTable
from mirrord_trace.supervisor.relay.link import RelayLink, make_link
from mirrord_trace.supervisor.relay.process import RelayHandle
from mirrord_trace.supervisor.session import Options, Session, Statistics
from mirrord_trace.supervisor.tracer.launch import Inherited
from mirrord_trace.supervisor.tracer.stops import Ended
from mirrord_trace.syscalls.requests import Counts, GetCounts, Lost, NotStarted, Ready
from rig import apart

_POD = Pod((b"POD_SAYS=hello",), b"pod-7", (b"serve",), b"/", (bytes((10, 0, 0, 7)),))
_READY = Ready(0, 0)
_NO_OPTIONS = Options()

Play = Callable[["FakeRelay"], None]


class FakeRelay:
    """The relay's end of the link, in its own process."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.doorbell = 0

    def send(self, kind: bytes, number: int, message: Message) -> None:
        self.sock.send(struct.pack(">cI", kind, number) + encode(message))
        if self.doorbell:
            os.kill(self.doorbell, signal.SIGUSR1)

    def serve(self, answers: dict[type[Message], Message]) -> None:
        """Answer until the tracer is gone. Requests without an answer stay open."""
        while packet := self.sock.recv(65536):
            kind, number = struct.unpack_from(">cI", packet)
            if kind == b"D":
                self.doorbell = number
                continue
            request = decode(packet[5:])
            if kind == b"A" and type(request) in answers:
                self.send(b"R", number, answers[type(request)])


def _usual(relay: FakeRelay) -> None:
    relay.send(b"T", 0, _READY)
    relay.serve({GetPod: _POD, GetCounts: Counts(4, 300, 500)})


def _session(play: Play, options: Options = _NO_OPTIONS, **flags: object) -> Session:
    ours, theirs = make_link()
    theirs.setblocking(True)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            play(FakeRelay(theirs))
        finally:
            os._exit(0)
    theirs.close()
    config = load(Flags(target="demo", **flags), Machine({}, b"/"))  # type: ignore[arg-type]
    return Session(config, options, RelayHandle(RelayLink(ours), pid, AddressTable(), Generation()), Inherited.now())


def _run(arguments: list[str], play: Play = _usual, options: Options = _NO_OPTIONS, **flags: object) -> tuple[Ended, str]:
    read, write = os.pipe()
    os.dup2(write, 1)
    os.close(write)
    end = _session(play, options, **flags).run(arguments)
    # The tool has let go of its standard output: nothing but the program held the pipe.
    output = b""
    while piece := os.read(read, 65536):
        output += piece
    return end, output.decode()


@apart
def test_a_program_sees_the_pods_name_and_environment() -> None:
    end, output = _run(["/bin/sh", "-c", "uname -n; echo $POD_SAYS; exit 3"], fs_mode="local")
    assert output == "pod-7\nhello\n"
    assert end == Ended(3, 0, False)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)


@apart
def test_what_is_on_the_pods_volumes_is_asked_of_the_pod() -> None:
    pod = replace(_POD, volumes=(b"/etc/app",))
    found = FileStat(0, 1, 0o100644, 1, 0, 0, 0, 5, 4096, 8, 0, 0, 0, 0)

    def play(relay: FakeRelay) -> None:
        relay.send(b"T", 0, _READY)
        relay.serve({GetPod: pod, GetCounts: Counts(0, 0, 0), Stat: Attributes(found)})

    end, _ = _run(["/bin/sh", "-c", "test -f /etc/app/config"], play)
    assert end.exit_code == 0


@apart
@pytest.mark.parametrize(
    ("arguments", "mode", "text", "status"),
    [
        ([], 0, "cannot execute serve: there is no such program in the pod (looked in /bin, /usr/bin)", EXIT_NOT_FOUND),
        (["sh"], 0o100644, "cannot execute sh: the pod's file is not executable", EXIT_NOT_EXECUTABLE),
    ],
)
def test_the_pods_own_program_is_looked_for_in_the_pod(arguments: list[str], mode: int, text: str, status: int) -> None:
    found = Attributes(FileStat(0, 1, mode, 1, 0, 0, 0, 5, 4096, 8, 0, 0, 0, 0)) if mode else Failed(2, "")

    def play(relay: FakeRelay) -> None:
        relay.send(b"T", 0, _READY)
        relay.serve({GetPod: _POD, Stat: found})

    with pytest.raises(UsageError) as caught:
        _session(play, from_pod=True).run(arguments)
    assert caught.value.text.startswith(text)
    assert caught.value.exit_status == status


@apart
def test_statistics_as_a_file(tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    _run(["/bin/true"], options=Options(file), fs_mode="local")
    counted = json.loads(file.read_text())
    assert (counted["round_trips"], counted["bytes_sent"], counted["bytes_received"]) == (4, 300, 500)
    assert counted["stops"] > 0
    assert counted["seconds"] > 0


def test_statistics_for_people() -> None:
    assert Statistics(5, 1, 10, 20, 0.5).line() == "5 stops, 1 round trips, 10 bytes sent, 20 bytes received, 0.500 s"


@apart
@pytest.mark.parametrize(
    ("play", "text", "status"),
    [
        (lambda relay: relay.send(b"T", 0, NotStarted("no such pod: x", 7)), "no such pod: x", 7),
        (lambda relay: relay.send(b"T", 0, Lost("the channel broke")), "the channel broke", 125),
        (lambda relay: None, "the relay process of mirrord-trace was killed", 125),
        (
            lambda relay: (relay.send(b"T", 0, _READY), relay.serve({GetPod: Failed(13, "")})),
            "the agent cannot describe its pod: Permission denied",
            125,
        ),
    ],
    ids=["not started", "lost", "killed", "no pod"],
)
def test_without_an_agent_nothing_is_executed(play: Play, text: str, status: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        _session(play).run(["/bin/touch", str(tmp_path / "ran")])
    assert (caught.value.text, caught.value.exit_status) == (text, status)
    assert list(tmp_path.iterdir()) == []


@apart
def test_an_agent_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POD_DEADLINE_S", 0.01)

    def silent(relay: FakeRelay) -> None:
        relay.send(b"T", 0, _READY)
        relay.serve({})

    with pytest.raises(UsageError, match="does not answer"):
        _session(silent).run(["/bin/true"])


@apart
def test_a_program_that_does_not_exist_takes_the_relay_down_too() -> None:
    session = _session(_usual, fs_mode="local")
    with pytest.raises(UsageError) as caught:
        session.run(["/nowhere/program"])
    assert caught.value.exit_status == 127
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, 0)


def _losing(say: bool, running: Path) -> Play:
    def play(relay: FakeRelay) -> None:
        relay.send(b"T", 0, _READY)
        answers: dict[type[Message], Message] = {GetPod: _POD}
        while packet := relay.sock.recv(65536):
            kind, number = struct.unpack_from(">cI", packet)
            if kind == b"D":
                relay.doorbell = number
                break
            relay.send(b"R", number, answers[type(decode(packet[5:]))])
        while not running.exists():
            time.sleep(0.01)
        if say:
            relay.send(b"T", 0, Lost("the node is gone"))
            relay.serve({})

    return play


@apart
@pytest.mark.parametrize("say", [True, False], ids=["told", "killed"])
@pytest.mark.parametrize(("trap", "said"), [("echo asked; exit", "asked\n"), ("", "")], ids=["ends", "ignores it"])
def test_a_lost_session_ends_the_program(
    say: bool, trap: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_GRACE_S", 0.05)
    running = tmp_path / "runs"
    shell = f"trap '{trap}' TERM; : > {running}; while :; do :; done"
    end, output = _run(["/bin/sh", "-c", shell], _losing(say, running), fs_mode="local")
    assert (end, output) == (Ended(EXIT_OWN_FAILURE, 0, False), said)


@apart
def test_a_signal_to_the_tool_is_the_programs(tmp_path: Path) -> None:
    file = tmp_path / "runs"
    tool = os.getpid()
    if os.fork() == 0:
        while not file.exists():
            time.sleep(0.01)
        os.kill(tool, signal.SIGINT)
        os._exit(0)
    end, output = _run(["/bin/sh", "-c", f"trap 'echo told; exit 9' INT; : > {file}; while :; do :; done"], fs_mode="local")
    assert (end.exit_code, output) == (9, "told\n")
