"""A whole attachment with a relay that plays its part over a real link, in a process of the test's own."""

from __future__ import annotations

import errno
import os
import signal
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from attaching import LIMIT_S, Program, tracer_of, until
from mirrord_trace.agent.wire.codec import decode, encode
from mirrord_trace.agent.wire.messages import GetPod, Message, Pod
from mirrord_trace.supervisor.attach.session import AttachSession, in_a_thread
from mirrord_trace.supervisor.config.load import Machine, load
from mirrord_trace.supervisor.config.overlays import Flags
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.fuse.generation import Generation
from mirrord_trace.supervisor.relay.addresses import AddressTable
from mirrord_trace.supervisor.relay.link import RelayLink, make_link
from mirrord_trace.supervisor.relay.process import RelayHandle
from mirrord_trace.supervisor.session import Options
from mirrord_trace.supervisor.tracer.launch import Inherited
from mirrord_trace.supervisor.tracer.stops import Ended
from mirrord_trace.syscalls.requests import Counts, GetCounts, Lost, NotStarted, Ready
from rig import apart

_POD = Pod((), b"pod-7", (b"serve",), b"/", (bytes((10, 0, 0, 7)),))
_ANSWERS: dict[type[Message], Message] = {GetPod: _POD, GetCounts: Counts(4, 300, 500)}
_NO_OPTIONS = Options()
_HOST = "while heard(): say(os.uname().nodename)"


# The relay's end of the link: its process's whole life. `then`: what it says once `GetPod` has been answered.
def _serve(link: socket.socket, then: Message | None) -> None:
    doorbell = 0
    link.send(struct.pack(">cI", b"T", 0) + encode(Ready(0, 0)))
    while packet := link.recv(65536):
        kind, number = struct.unpack_from(">cI", packet)
        if kind == b"D":
            doorbell = number
            if then is not None:
                link.send(struct.pack(">cI", b"T", 0) + encode(then))
                os.kill(doorbell, signal.SIGUSR1)
            continue
        request = decode(packet[5:])
        if kind == b"A" and type(request) in _ANSWERS:
            link.send(struct.pack(">cI", b"R", number) + encode(_ANSWERS[type(request)]))


def _session(play: Callable[[socket.socket], None], options: Options = _NO_OPTIONS) -> AttachSession:
    ours, theirs = make_link()
    theirs.setblocking(True)
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            play(theirs)
        finally:
            os._exit(0)
    theirs.close()
    config = load(Flags(target="demo", fs_mode="local"), Machine({}, b"/"))
    return AttachSession(config, options, RelayHandle(RelayLink(ours), pid, AddressTable(), Generation()), Inherited.now())


# Ctrl-C, once this has been seen of the program.
def _end_after(pid: int, seen: Callable[[], None]) -> None:
    def wait() -> None:
        until(lambda: tracer_of(pid) != 0)
        seen()
        os.kill(os.getpid(), signal.SIGINT)

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    threading.Thread(target=wait).start()


def test_in_the_pods_context_until_ctrl_c(tmp_path: Path) -> None:
    @apart
    def attach(pid: int) -> None:
        def seen() -> None:
            until(lambda: program.asked("x") == "pod-7")

        _end_after(pid, seen)
        stats = tmp_path / "stats.json"
        assert _session(lambda link: _serve(link, None), Options(stats)).attach(pid) is None
        assert '"round_trips": 4' in stats.read_text()
        assert tracer_of(pid) == 0
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, 0)

    with Program(_HOST) as program:
        assert program.asked("x") == os.uname().nodename
        attach(program.pid)
        assert program.asked("x") == os.uname().nodename


def test_the_end_of_the_process() -> None:
    @apart
    def attach(pid: int) -> None:
        threading.Thread(target=lambda: (until(lambda: tracer_of(pid) != 0), program.tell("x"))).start()
        assert _session(lambda link: _serve(link, None)).attach(pid) == Ended(6, 0, False)

    with Program("heard(); os._exit(6)") as program:
        attach(program.pid)


def test_a_lost_session_lets_the_process_go(capfd: pytest.CaptureFixture[str]) -> None:
    @apart
    def attach(pid: int) -> None:
        assert _session(lambda link: _serve(link, Lost("the agent has ended"))).attach(pid) is None

    with Program(_HOST) as program:
        attach(program.pid)
        assert program.asked("x") == os.uname().nodename
    assert "mirrord-trace: the agent has ended\n" in capfd.readouterr().err


@apart
def test_no_agent() -> None:
    def play(link: socket.socket) -> None:
        link.send(struct.pack(">cI", b"T", 0) + encode(NotStarted("no such pod", 125)))
        link.recv(1)

    with pytest.raises(UsageError, match="no such pod"):
        _session(play).attach(os.getppid())


@apart
def test_a_process_that_has_closed_itself_meanwhile() -> None:
    """The kernel's last word is heard in the tracing thread."""
    with pytest.raises(UsageError, match="may not attach"):
        _session(lambda link: _serve(link, None)).attach(os.getpid())


@apart
def test_a_process_that_has_ended_meanwhile() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    with pytest.raises(UsageError, match=f"process {process.pid} has ended"):
        _session(lambda link: _serve(link, None)).attach(process.pid)


def test_what_a_thread_raises() -> None:
    def fail() -> None:
        raise OSError(errno.EIO, "x")

    with pytest.raises(OSError, match="x"):
        in_a_thread(fail)


def test_the_kernel_has_seen_the_thread_end() -> None:
    seen: list[int] = []
    in_a_thread(lambda: seen.append(threading.get_native_id()))
    assert not os.path.exists(f"/proc/self/task/{seen[0]}")
    began = time.monotonic()
    in_a_thread(lambda: None)
    assert time.monotonic() - began < LIMIT_S
