"""The transport side: odd transports, broken transports, the backlog."""

from __future__ import annotations

import socket
from typing import Any, List, Optional

import pytest
from mirrord_trace.agent.pump import carrier
from mirrord_trace.agent.pump.carrier import Carrier
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire.connection import SILENCE_S, Connection, Role
from mirrord_trace.agent.wire.errors import RemoteProtocolError
from mirrord_trace.agent.wire.events import Event, MessageReceived
from mirrord_trace.agent.wire.frames import Buffer
from mirrord_trace.agent.wire.messages import Log


class OddTransport:
    """Like TLS or a WebSocket: takes one buffer, keeps output of its own, hands input out in small pieces."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.output = bytearray()
        self.input = bytearray()
        self.calls = 0

    def fileno(self) -> int:
        return self.sock.fileno()

    def recv(self, size: int) -> bytes:
        if not self.input:
            self.input += self.sock.recv(65536)
        data = bytes(self.input[: min(size, 1000)])
        del self.input[: len(data)]
        return data

    def send(self, data: Buffer) -> int:
        self.calls += 1
        self.output += memoryview(data)[:5000]
        del self.output[: self.sock.send(self.output[:3000])]
        return min(len(data), 5000)

    def pending(self) -> bool:
        return bool(self.input)

    def wants_write(self) -> bool:
        return bool(self.output)

    def close(self) -> None:
        self.sock.close()


class Carried:
    """A connection on a carrier, and what came of it."""

    def __init__(self, loop: Loop, role: Role) -> None:
        self.connection = Connection(role)
        self.events: List[Event] = []
        self.lost: List[Optional[Exception]] = []
        self.until = 0
        self.loop = loop
        self.carrier = Carrier(loop, self.connection, self.on_event, self.on_lost, lambda: None)

    def on_event(self, event: Event) -> None:
        self.events.append(event)
        if len(self.events) == self.until:
            self.loop.stop()

    def on_lost(self, error: Optional[Exception]) -> None:
        self.lost.append(error)
        self.loop.stop()


@pytest.mark.parametrize("wrap", [SocketTransport, OddTransport])
def test_everything_arrives_over_any_transport(loop: Loop, wrap: Any) -> None:
    client, agent = Carried(loop, Role.CLIENT), Carried(loop, Role.AGENT)
    one, other = socket.socketpair()
    client.carrier.attach(wrap(one))
    agent.carrier.attach(wrap(other))
    agent.until = 50
    for number in range(50):
        client.connection.send(Log(10, str(number) * (number * 100)))
    client.carrier.flush_soon()
    loop.run()
    assert agent.events == [MessageReceived(Log(10, str(number) * (number * 100)), 0, 0) for number in range(50)]
    assert agent.carrier.bytes_received == client.carrier.bytes_sent
    assert client.carrier.flushed
    client.carrier.detach()
    agent.carrier.detach()
    assert one.fileno() == other.fileno() == -1


def test_leftover_of_the_handshake_comes_first(loop: Loop) -> None:
    client, agent = Carried(loop, Role.CLIENT), Carried(loop, Role.AGENT)
    client.connection.resume(0)
    client.connection.send(Log(10, "first"))
    leftover = b"".join(client.connection.take())
    client.connection.send(Log(10, "second"))
    one, other = socket.socketpair()
    one.send(b"".join(client.connection.take()))
    agent.until = 2
    agent.carrier.attach(SocketTransport(other), leftover)
    loop.run()
    assert [event.message for event in agent.events if isinstance(event, MessageReceived)] == [
        Log(10, "first"),
        Log(10, "second"),
    ]
    agent.carrier.detach()
    one.close()


def test_the_end_of_the_transport(loop: Loop) -> None:
    agent = Carried(loop, Role.AGENT)
    one, other = socket.socketpair()
    agent.carrier.attach(SocketTransport(other))
    one.close()
    loop.run()
    assert agent.lost == [None]
    assert not agent.carrier.attached
    assert not agent.connection.connected
    assert other.fileno() == -1


def test_a_broken_transport(loop: Loop, tcp_pair: Any) -> None:
    one, other = tcp_pair()
    agent = Carried(loop, Role.AGENT)
    agent.carrier.attach(SocketTransport(other))
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    one.close()
    loop.run()
    assert isinstance(agent.lost[0], ConnectionResetError)


def test_garbage_from_the_peer(loop: Loop) -> None:
    agent = Carried(loop, Role.AGENT)
    one, other = socket.socketpair()
    agent.carrier.attach(SocketTransport(other))
    with one:
        one.send(b"GET / HTTP/1.1\r\n\r\n")
        loop.run()
    assert isinstance(agent.lost[0], RemoteProtocolError)


def test_a_callback_may_find_the_peer_at_fault_but_not_raise_anything_else(loop: Loop) -> None:
    agent = Carried(loop, Role.AGENT)
    client = Connection(Role.CLIENT)
    client.resume(0)
    for error in (RemoteProtocolError("bad payload"), OSError("a bug")):
        one, other = socket.socketpair()
        agent.carrier.attach(SocketTransport(other))
        client.send(Log(10, ""))
        one.send(b"".join(client.take()))

        def refuse(event: Event, error: Exception = error) -> None:
            raise error

        agent.carrier._on_event = refuse
        if isinstance(error, OSError):
            with pytest.raises(OSError, match="a bug"):
                loop.run()
            agent.carrier.detach()
        else:
            loop.run()
            assert agent.lost == [error]
        one.close()


def test_silence(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]

    class Clock:
        @staticmethod
        def monotonic() -> float:
            now[0] += 21.0
            return now[0]

    monkeypatch.setattr(carrier, "time", Clock)
    monkeypatch.setattr(carrier, "TICK_S", 0.001)
    agent = Carried(loop, Role.AGENT)
    one, other = socket.socketpair()
    agent.carrier.attach(SocketTransport(other))
    with one:
        loop.run()
        assert isinstance(agent.lost[0], TimeoutError)
        assert now[0] - 1000.0 < SILENCE_S + 42.0
        assert one.recv(1) == b"\x0a"  # it asked first


def test_room_is_bounded_and_comes_back(loop: Loop) -> None:
    agent, client = Carried(loop, Role.AGENT), Carried(loop, Role.CLIENT)
    stream = client.connection.open_stream()
    assert client.carrier.has_room()
    client.connection.send_data(stream, bytes(1 << 20))
    assert not client.carrier.has_room()

    class Waiting:
        def on_room(self) -> None:
            assert client.carrier.has_room()
            loop.stop()

    client.carrier.wait_for_room(Waiting())  # type: ignore[arg-type]
    one, other = socket.socketpair()
    agent.carrier.attach(SocketTransport(other))
    client.carrier.attach(SocketTransport(one))
    loop.run()
    client.carrier.detach()
    agent.carrier.detach()
