from __future__ import annotations

import os
import select
from pathlib import Path

import pytest
from mirrord_trace.agent.bootstrap.payload import BootClient, build
from mirrord_trace.agent.options import Options
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire.handshake import ClientHandshake
from mirrord_trace.supervisor.channel.local import LocalChannel
from mirrord_trace.supervisor.errors import UsageError

SECRET = b"s" * 32


def interpreter(tmp_path: Path, script: str) -> str:
    """Stands for the interpreter; is called with -c and the loader like it."""
    path = tmp_path / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def receive(transport: SocketTransport) -> bytes:
    select.select([transport], [], [], 20)
    return transport.recv(65536)


def send(transport: SocketTransport, content: bytes) -> None:
    while content:
        select.select([], [transport], [], 20)
        content = content[transport.send(content) :]


def boot(transport: SocketTransport) -> Options:
    """Send the agent, as the relay does."""
    options = Options(pid=os.getpid())
    client = BootClient(SECRET, build(options))
    send(transport, client.output())
    while not client.done:
        client.receive(receive(transport))
    send(transport, client.output())
    return options


def test_an_agent_answers_and_ends_with_the_channel() -> None:
    channel = LocalChannel(SECRET)
    transport = channel.open()
    handshake = ClientHandshake(boot(transport).secret)
    send(transport, handshake.output())
    while handshake.result is None:
        handshake.receive(receive(transport))
    assert channel._process is not None
    assert channel._process.poll() is None
    transport.close()
    channel.close()
    assert channel._process.returncode is not None
    assert channel._process.returncode >= 0, "it was not killed but ended by itself"


def test_it_opens_once() -> None:
    channel = LocalChannel(SECRET)
    channel.open().close()
    with pytest.raises(UsageError, match="has ended"):
        channel.open()
    channel.close()


def test_no_interpreter(tmp_path: Path) -> None:
    channel = LocalChannel(SECRET, python=str(tmp_path / "missing"))
    with pytest.raises(UsageError, match=r"cannot start .*missing for the agent: No such file"):
        channel.open()
    channel.close()


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo first >&2; echo 'ImportError: no module' >&2; exit 1", "ImportError: no module"),
        ("exit 3", "it exited with status 3"),
        ("kill -9 $$", "it was killed by signal 9"),
    ],
)
def test_last_words(tmp_path: Path, script: str, words: str) -> None:
    channel = LocalChannel(SECRET, python=interpreter(tmp_path, script))
    assert channel.last_words() == ""
    transport = channel.open()
    assert receive(transport) == b""
    assert channel._process is not None
    channel._process.wait(20)
    assert channel.last_words() == words
    transport.close()
    channel.close()


def test_what_does_not_end_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirrord_trace.supervisor.channel.local._END_TIMEOUT_S", 0.01)
    monkeypatch.setattr("mirrord_trace.supervisor.channel.local._TERMINATE_TIMEOUT_S", 0.01)
    channel = LocalChannel(SECRET, python=interpreter(tmp_path, "trap '' TERM; echo ready >&2; while :; do sleep 1; done"))
    channel.open().close()
    while channel.last_words() != "ready":
        pass
    channel.close()
    assert channel._process is not None
    assert channel._process.returncode == -9


def test_the_agent_inherits_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEAKED", "1")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    channel = LocalChannel(SECRET, python=interpreter(tmp_path, "ls /proc/self/fd | tr '\\n' ' ' >&2; echo \" $LEAKED\" >&2"))
    transport = channel.open()
    assert receive(transport) == b""
    numbers = channel.last_words().split()
    assert len(numbers) == 5  # standard ones, the channel, and that of ls itself
    assert str(writing) not in numbers
    os.close(reading)
    os.close(writing)
    transport.close()
    channel.close()
