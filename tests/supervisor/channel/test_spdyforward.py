from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakespdy import GOAWAY, PING, RST_STREAM, SpdyPeer, control, data
from mirrord_trace.supervisor.channel import spdyforward
from mirrord_trace.supervisor.channel.forwarding import ForwardFailed
from mirrord_trace.supervisor.channel.rawsocket import RawSocket
from mirrord_trace.supervisor.channel.spdyforward import SpdyTransport

Start = Callable[[Callable[[SpdyPeer], Any]], SpdyTransport]


@pytest.fixture
def start() -> Iterator[Start]:
    """A transport whose server does what it is told, in a thread."""
    threads: list[threading.Thread] = []

    def made(does: Callable[[SpdyPeer], Any]) -> SpdyTransport:
        ours, theirs = socket.socketpair()
        theirs.settimeout(5)

        def serve() -> None:
            with theirs:
                peer = SpdyPeer(theirs)
                peer.announce()
                does(peer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return SpdyTransport(RawSocket(ours), 61000)

    yield made
    for thread in threads:
        thread.join(5)


def until_end(transport: SpdyTransport) -> bytes:
    received = b""
    while True:
        assert transport.wait_readable(5) or received
        while transport.pending():
            part = transport.recv(1 << 16)
            if not part:
                return received
            received += part


def test_the_streams_are_named_as_by_kubectl(start: Start) -> None:
    seen: list[SpdyPeer] = []

    def does(peer: SpdyPeer) -> None:
        seen.append(peer)
        peer.send(0, b"!")
        assert peer.receive() == b""

    transport = start(does)
    assert transport.wait_readable(5)
    transport.close()
    assert seen[0].headers == {kind: {"streamtype": kind, "port": "61000", "requestid": "0"} for kind in ("error", "data")}
    assert seen[0].streams["error"] in seen[0].ended


def test_the_pod_ends_in_order(start: Start) -> None:
    def does(peer: SpdyPeer) -> None:
        peer.send(0, b"last words")
        peer.end()

    transport = start(does)
    assert transport.wait_readable(5)
    assert transport.recv(100) == b"last words"
    with pytest.raises(ForwardFailed, match="the pod closed the connection"):
        transport.wait_readable(5)
    assert transport.recv(100) == b""
    transport.close()


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (control(RST_STREAM, struct.pack("!II", 3, 5)), "reset"),
        (control(GOAWAY, bytes(8)), "closes"),
        (data(1, b"connection refused"), "connection refused"),
        (b"", "broke off"),
        (data(3, b"12345")[:-1], "broke off"),
    ],
)
def test_it_breaks(said: bytes, text: str, start: Start) -> None:
    transport = start(lambda peer: peer.sock.sendall(data(3, b"x") + said))
    with pytest.raises(ForwardFailed, match=text):
        until_end(transport)
    transport.close()


def test_a_ping_is_answered(start: Start) -> None:
    answers: list[object] = []

    def does(peer: SpdyPeer) -> None:
        peer.sock.sendall(control(PING, struct.pack("!I", 2)))
        answers.append(peer.frame())
        peer.send(0, b"!")
        peer.receive()

    transport = start(does)
    assert transport.wait_readable(5)
    transport.close()
    assert answers == [(PING, 0, struct.pack("!I", 2))]


def test_close_waits_until_the_pod_has_heard_all(start: Start) -> None:
    heard: list[bytes] = []

    def does(peer: SpdyPeer) -> None:
        while part := peer.receive():
            heard.append(part[1:])
        peer.send(0, b"nobody takes this")
        heard.append(b"end")
        peer.end()

    transport = start(does)
    transport.send(b"bye")
    transport.close()
    assert heard == [b"bye", b"end"]
    assert transport.fileno() == -1
    transport.close()


def test_close_does_not_wait_for_ever(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spdyforward, "LINGER_S", 0.05)
    done = threading.Event()
    transport = start(lambda _: done.wait(5))
    began = time.monotonic()
    transport.close()
    assert time.monotonic() - began < 4
    done.set()
