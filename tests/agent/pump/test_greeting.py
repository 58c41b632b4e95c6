"""The handshake over real transports."""

from __future__ import annotations

import os
import socket
from typing import List, Optional

import pytest
from mirrord_trace.agent.pump.greeting import greet
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire.errors import RemoteProtocolError
from mirrord_trace.agent.wire.handshake import MAGIC, AgentHandshake, ClientHandshake, HandshakeResult

SECRET = bytes(32)


def no_session(session: bytes) -> Optional[int]:
    return None


class Outcome:
    """What one greeting came to."""

    def __init__(self, loop: Loop, expected: int, everyone: List[Outcome]) -> None:
        self.results: List[HandshakeResult] = []
        self.errors: List[Exception] = []
        self.loop = loop
        self.expected = expected
        self.everyone = everyone
        everyone.append(self)

    def done(self, result: HandshakeResult) -> None:
        self.results.append(result)
        self.look()

    def error(self, error: Exception) -> None:
        self.errors.append(error)
        self.look()

    def look(self) -> None:
        if sum(len(each.results) + len(each.errors) for each in self.everyone) == self.expected:
            self.loop.stop()


def test_both_sides(loop: Loop) -> None:
    one, other = socket.socketpair()
    everyone: List[Outcome] = []
    client, agent = Outcome(loop, 2, everyone), Outcome(loop, 2, everyone)
    transports = SocketTransport(one), SocketTransport(other)
    greet(loop, transports[0], ClientHandshake(SECRET), client.done, client.error)
    greet(loop, transports[1], AgentHandshake(SECRET, no_session, 30), agent.done, agent.error)
    loop.run()
    assert client.results[0].session == agent.results[0].session
    for transport in transports:
        transport.close()


def test_bytes_behind_the_handshake_are_kept(loop: Loop) -> None:
    one, other = socket.socketpair()
    everyone: List[Outcome] = []
    agent = Outcome(loop, 1, everyone)
    transport = SocketTransport(other)
    greet(loop, transport, AgentHandshake(SECRET, no_session, 30), agent.done, agent.error)
    handshake = ClientHandshake(SECRET)

    def speak() -> None:
        one.send(handshake.output())
        loop.watch(one.fileno(), 1, answer)

    def answer(events: int) -> None:
        handshake.receive(one.recv(4096))
        one.send(handshake.output() + b"frames")
        loop.unwatch(one.fileno())

    loop.call_soon(speak)
    loop.run()
    assert agent.results[0].leftover == b"frames"
    transport.close()
    one.close()


def test_wrong_secret(loop: Loop) -> None:
    one, other = socket.socketpair()
    everyone: List[Outcome] = []
    client, agent = Outcome(loop, 2, everyone), Outcome(loop, 2, everyone)
    greet(loop, SocketTransport(one), ClientHandshake(SECRET), client.done, client.error)
    greet(loop, SocketTransport(other), AgentHandshake(SECRET[1:] + b"x", no_session, 30), agent.done, agent.error)
    loop.run()
    assert isinstance(client.errors[0], RemoteProtocolError)
    assert isinstance(agent.errors[0], OSError)  # the client hung up
    assert one.fileno() == other.fileno() == -1


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), MAGIC + b"\0\1x"])
def test_garbage(loop: Loop, garbage: bytes) -> None:
    one, other = socket.socketpair()
    everyone: List[Outcome] = []
    agent = Outcome(loop, 1, everyone)
    with one:
        one.send(garbage)
        greet(loop, SocketTransport(other), AgentHandshake(SECRET, no_session, 30), agent.done, agent.error)
        loop.run()
    assert isinstance(agent.errors[0], RemoteProtocolError)
    assert other.fileno() == -1


def test_silence(loop: Loop) -> None:
    one, other = socket.socketpair()
    everyone: List[Outcome] = []
    agent = Outcome(loop, 1, everyone)
    with one:
        greet(loop, SocketTransport(other), AgentHandshake(SECRET, no_session, 30), agent.done, agent.error, timeout_s=0.01)
        loop.run()
    assert isinstance(agent.errors[0], TimeoutError)


def test_cancel(loop: Loop) -> None:
    one, other = socket.socketpair()
    everyone: List[Outcome] = []
    agent = Outcome(loop, 1, everyone)
    with one:
        greeting = greet(loop, SocketTransport(other), AgentHandshake(SECRET, no_session, 30), agent.done, agent.error, 0.01)
        greeting.cancel()
        greeting.cancel()
        loop.call_later(0.03, loop.stop)
        loop.run()
    assert not agent.results
    assert not agent.errors
    assert other.fileno() == -1
