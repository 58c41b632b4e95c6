"""`ConnectUnix`: the pod's unix sockets by path and by abstract name, and the errno of its kernel."""

from __future__ import annotations

import os
import socket
from errno import EAGAIN, ECONNREFUSED, ENOENT, ENOTDIR, EPROTOTYPE, ESOCKTNOSUPPORT
from pathlib import Path
from typing import Any, Callable, List

import pytest
from mirrord_trace.agent.wire.messages import ConnectUnix, Failed, UnixConnected

_STREAM, _DGRAM, _SEQPACKET = (int(kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET))

Start = Callable[..., Any]


def _listener(path: Path, kind: int = _STREAM, backlog: int = 8) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(os.fspath(path))
    if kind != _DGRAM:
        listener.listen(backlog)
    return listener


def _connect(client: Any, path: bytes, kind: int = _STREAM, patience_ms: int = 0) -> Any:
    stream = client.session.new_stream()
    return stream, client.ask(ConnectUnix(stream, path, kind, patience_ms))


def _messages(client: Any, stream: int) -> List[bytes]:
    received: List[bytes] = []
    client.session.datagrams(stream, received.append, lambda errno: None)
    return received


def test_a_path(start_agent: Start, tmp_path: Path) -> None:
    _, client = start_agent(pid=os.getpid())
    with _listener(tmp_path / "s") as listener:
        stream, reply = _connect(client, os.fsencode(tmp_path / "s"))
        assert reply == UnixConnected(os.fsencode(tmp_path / "s"))
        inside, _ = listener.accept()
    with inside, client.joined(stream) as program:
        program.send(b"question")
        client.until(lambda: bool(_peek(inside)))
        assert inside.recv(100) == b"question"
        inside.send(b"answer")
        assert client.receive(program, 6) == b"answer"
        inside.shutdown(socket.SHUT_WR)
        assert client.receive(program, 1) == b""


def _peek(sock: socket.socket) -> bytes:
    try:
        return sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def test_a_link_stays_in_the_root_of_the_pod_and_the_name_is_the_servers(start_agent: Start, tmp_path: Path) -> None:
    _, client = start_agent(pid=os.getpid())
    (tmp_path / "link").symlink_to(tmp_path / "s")
    with _listener(tmp_path / "s"):
        _, reply = _connect(client, os.fsencode(tmp_path / "link"))
        assert reply == UnixConnected(os.fsencode(tmp_path / "s"))


def test_an_abstract_name_is_of_the_pods_network(start_agent: Start, pod: Any) -> None:
    name = b"\0mirrord-trace-test-" + os.urandom(8).hex().encode()
    _, client = start_agent(pid=pod.pid)
    with pod.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(name)
        listener.listen()
        _, reply = _connect(client, name)
        assert reply == UnixConnected(name)
    with socket.socket(socket.AF_UNIX) as here:
        here.bind(name)
        here.listen()
        _, reply = _connect(client, name)
        assert reply.errno == ECONNREFUSED


def test_seqpacket_keeps_borders(start_agent: Start, tmp_path: Path) -> None:
    _, client = start_agent(pid=os.getpid())
    with _listener(tmp_path / "q", _SEQPACKET) as listener:
        stream, reply = _connect(client, os.fsencode(tmp_path / "q"), _SEQPACKET)
        assert isinstance(reply, UnixConnected)
        inside, _ = listener.accept()
    with inside:
        received = _messages(client, stream)
        client.session.send_datagram(stream, b"\0one")
        client.session.send_datagram(stream, b"\0")
        client.until(lambda: bool(_peek(inside)))
        assert inside.recv(100) == b"one"
        inside.send(b"answer")
        client.until(lambda: bool(received))
        assert received == [b"\0answer"]


def test_datagrams_and_their_answer(start_agent: Start, tmp_path: Path) -> None:
    _, client = start_agent(pid=os.getpid())
    with _listener(tmp_path / "d", _DGRAM) as inside:
        stream, reply = _connect(client, os.fsencode(tmp_path / "d"), _DGRAM)
        assert isinstance(reply, UnixConnected)
        received = _messages(client, stream)
        client.session.send_datagram(stream, b"\0hello")
        client.until(lambda: bool(_peek(inside)))
        content, sender = inside.recvfrom(100)
        assert content == b"hello"
        inside.sendto(b"answer", sender)
        client.until(lambda: bool(received))
        assert received == [b"\0answer"]


@pytest.mark.parametrize(
    ("name", "kind", "errno"),
    [
        ("none", _STREAM, ENOENT),
        ("stream/below", _STREAM, ENOTDIR),
        ("file", _STREAM, ECONNREFUSED),
        ("dead", _STREAM, ECONNREFUSED),
        ("stream", _DGRAM, EPROTOTYPE),
        ("stream", 3, ESOCKTNOSUPPORT),
    ],
)
def test_failures_are_the_kernels(start_agent: Start, tmp_path: Path, name: str, kind: int, errno: int) -> None:
    _, client = start_agent(pid=os.getpid())
    (tmp_path / "file").write_text("")
    _listener(tmp_path / "dead").close()
    with _listener(tmp_path / "stream"):
        _, reply = _connect(client, os.fsencode(tmp_path / name), kind)
    assert isinstance(reply, Failed)
    assert reply.errno == errno


def test_a_full_backlog(start_agent: Start, tmp_path: Path) -> None:
    _, client = start_agent(pid=os.getpid())
    with _listener(tmp_path / "s", backlog=0) as listener, socket.socket(socket.AF_UNIX) as first:
        first.connect(os.fspath(tmp_path / "s"))
        _, reply = _connect(client, os.fsencode(tmp_path / "s"))
        assert reply.errno == EAGAIN
        # One that waits gets its turn.
        outcome: List[Any] = []
        stream = client.session.new_stream()
        client.session.request(ConnectUnix(stream, os.fsencode(tmp_path / "s"), _STREAM, 20_000), outcome.append)
        client.until(lambda: not client.session.connection.backlog)
        assert not outcome
        listener.accept()[0].close()
        client.until(lambda: bool(outcome))
        assert isinstance(outcome[0], UnixConnected)
