"""Two sessions, client and agent, on one loop, joined by a socketpair that can be cut and joined again."""

from __future__ import annotations

import gc
import socket
import time
from typing import Callable, Iterator, List, Optional, Tuple

import pytest
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.pump.session import Session
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire.connection import Connection, Role
from mirrord_trace.agent.wire.messages import Done, Message

Reply = Callable[[Message], None]


class Side:
    """A session and what its callbacks were told."""

    def __init__(self, loop: Loop, role: Role, **limits: int) -> None:
        self.requests: List[Tuple[Message, Reply]] = []
        self.notices: List[Message] = []
        self.lost: List[Optional[Exception]] = []
        self.on_request: Callable[[Message, Reply], None] = self.keep
        self.session = Session(
            loop,
            Connection(role, **limits),
            on_request=self.asked,
            on_notice=self.notices.append,
            on_lost=self.lost.append,
        )

    def asked(self, message: Message, reply: Reply) -> None:
        """Whatever `on_request` is by now."""
        self.on_request(message, reply)

    def keep(self, message: Message, reply: Reply) -> None:
        """Until a test says otherwise requests are only noted."""
        self.requests.append((message, reply))


class World:
    """The loop, both sides, and ways to wait without sleeping."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.rewire()

    def rewire(self, **limits: int) -> None:
        """Fresh sides, joined."""
        self.client = Side(self.loop, Role.CLIENT, **limits)
        self.agent = Side(self.loop, Role.AGENT, **limits)
        self.join()

    def join(self) -> None:
        """A new transport for both, as after a handshake."""
        one, other = socket.socketpair()
        received = [side.session.connection.received for side in (self.client, self.agent)]
        self.client.session.attach(SocketTransport(one), b"", received[1])
        self.agent.session.attach(SocketTransport(other), b"", received[0])

    def until(self, condition: Callable[[], bool], within_s: float = 10.0) -> None:
        """Run the loop until the condition holds; it is looked at whenever something happened."""
        deadline = time.monotonic() + within_s

        def look() -> None:
            if condition() or time.monotonic() > deadline:
                self.loop.stop()
            else:
                self.loop.call_later(0.0005, look)

        look_now = self.loop.call_later(0, look)
        self.loop.run()
        look_now.cancel()
        assert condition(), "it did not happen"

    def round_trip(self) -> None:
        """Until everything queued so far was seen by the agent."""
        before, self.agent.on_request = self.agent.on_request, lambda message, reply: reply(Done())
        replies: List[Message] = []
        self.client.session.request(Done(), replies.append)
        self.until(lambda: bool(replies))
        self.agent.on_request = before

    def stream(self) -> int:
        """A stream opened by the client and known to the agent."""
        stream = self.client.session.new_stream()
        self.until(lambda: self.agent.session.connection.is_open(stream))
        return stream

    def close(self) -> None:
        """Give everything back."""
        self.client.session.abandon()
        self.agent.session.abandon()
        self.loop.close()


@pytest.fixture
def world(tcp_pair: object) -> Iterator[World]:
    """A `World`, closed afterwards (before `tcp_pair`'s sockets); what was not closed shows as ResourceWarning."""
    world = World()
    yield world
    world.close()
    gc.collect()


@pytest.fixture
def loop() -> Iterator[Loop]:
    """A loop alone."""
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def tcp_pair() -> Iterator[Callable[[], Tuple[socket.socket, socket.socket]]]:
    """Makes connected TCP sockets on loopback; (dialling side, accepting side)."""
    made: List[socket.socket] = []

    def make() -> Tuple[socket.socket, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            dialled = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        made.extend((dialled, accepted))
        return dialled, accepted

    yield make
    for sock in made:
        sock.close()
