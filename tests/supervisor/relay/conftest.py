"""A pod for the relay's parts: the agent's end of a real session on the same loop, whose answers the test decides."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.pump.session import Session
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire.connection import Connection, Role
from mirrord_trace.agent.wire.messages import Done, Failed, Message

Reply = Callable[[Message], None]

TIMEOUT_S = 20.0


class Pod:
    """`answers[type of request](request, reply)`; what is not there is answered `Done`. `asked`: all requests."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.answers: dict[type[Message], Callable[[Message, Reply], None]] = {}
        self.asked: list[Message] = []
        self.notices: list[Message] = []
        self.session = self._session(Role.CLIENT, self._refuse, self.notices.append)
        self.agent = self._session(Role.AGENT, self._on_request, lambda message: None)
        ours, theirs = socket.socketpair()
        self.session.attach(SocketTransport(ours))
        self.agent.attach(SocketTransport(theirs))

    def _session(
        self, role: Role, on_request: Callable[[Message, Reply], None], on_notice: Callable[[Message], None]
    ) -> Session:
        return Session(self.loop, Connection(role), on_request=on_request, on_notice=on_notice, on_lost=lambda error: None)

    def _refuse(self, message: Message, reply: Reply) -> None:
        reply(Failed(38))

    def _on_request(self, message: Message, reply: Reply) -> None:
        self.asked.append(message)
        answer = self.answers.get(type(message))
        if answer is None:
            reply(Done())
        else:
            answer(message, reply)

    def until(self, condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
        """Run the loop until the condition holds."""
        deadline = time.monotonic() + timeout_s
        failed = False

        def check() -> None:
            nonlocal failed
            failed = time.monotonic() > deadline
            if condition() or failed:
                self.loop.stop()
            else:
                self.loop.call_later(0.001, check)

        self.loop.call_soon(check)
        self.loop.run()
        assert not failed, "the condition did not come true in time"

    def settle(self) -> None:
        """Let everything that is under way between the two ends arrive."""
        arrived: list[Message] = []
        self.session.request(Done(), arrived.append)
        self.until(lambda: arrived)

    def close(self) -> None:
        self.session.abandon()
        self.agent.abandon()
        self.loop.close()


@pytest.fixture
def pod() -> Iterator[Pod]:
    pod = Pod()
    yield pod
    pod.close()


@pytest.fixture
def other_pod() -> Iterator[Pod]:
    """A second one, with a loop of its own."""
    pod = Pod()
    yield pod
    pod.close()
