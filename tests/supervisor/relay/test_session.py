from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from mirrord_trace.agent.bootstrap.payload import BootClient
from mirrord_trace.agent.pump.greeting import greet
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.pump.session import Session
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.wire.connection import Connection, Role
from mirrord_trace.agent.wire.errors import RemoteProtocolError
from mirrord_trace.agent.wire.handshake import AgentHandshake, HandshakeResult
from mirrord_trace.agent.wire.messages import Done, Failed, GetPod, LinkTarget, Message, ReadLink
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.relay import session as session_module
from mirrord_trace.supervisor.relay.session import AgentSession

SECRET = b"s" * 32


class Booted(BootClient):
    """A loader that wants nothing: the transport is the agent's at once."""

    def __init__(self) -> None:
        super().__init__(b"b" * 32, b"")
        self.output()
        self.done = True


class Garbled(Booted):
    """What hears a loader that is none."""

    def __init__(self) -> None:
        super().__init__()
        self.done = False

    def receive(self, data: bytes) -> None:
        raise RemoteProtocolError("this is not mirrord-trace's agent")


@dataclass
class Words:
    """What is said about the session."""

    up: int = 0
    over: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


class Agent:
    """The agent's end on the same loop: holds its session over any number of transports. It is a channel, too."""

    resumable = True

    def __init__(self, loop: Loop, lease_s: int = 60) -> None:
        self.loop = loop
        self.lease_s = lease_s
        self.identity = b""
        self.refusals: list[Exception] = []
        self.opened = 0
        self.secret = SECRET
        self.link: SocketTransport | None = None
        self.bytes = bytearray()
        self.session = Session(
            loop, Connection(Role.AGENT), on_request=self._answer, on_notice=lambda message: None, on_lost=lambda error: None
        )

    def _answer(self, message: Message, reply: Callable[[Message], None]) -> None:
        reply(LinkTarget(message.path) if isinstance(message, ReadLink) else Done())

    def _lookup(self, identity: bytes) -> int | None:
        return self.session.connection.received if identity == self.identity else None

    def open(self) -> SocketTransport:
        self.opened += 1
        if self.refusals:
            raise self.refusals.pop(0)
        ours, theirs = socket.socketpair()
        self.loop.call_threadsafe(lambda: self._serve(SocketTransport(theirs)))
        return SocketTransport(ours)

    def _serve(self, transport: SocketTransport) -> None:
        def on_done(result: HandshakeResult) -> None:
            self.identity = result.session
            self.session.attach(transport, result.leftover, result.peer_received)

        self.link = transport
        greet(self.loop, transport, AgentHandshake(self.secret, self._lookup, self.lease_s), on_done, lambda error: None)

    def cut(self) -> None:
        """The transport breaks, noticed by the client first."""
        assert self.link is not None
        self.session._carrier.detach()

    def close(self) -> None:
        pass


class Relay:
    """An AgentSession on a loop, and the agent."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.agent = Agent(self.loop)
        self.words = Words()
        self.replies: list[Message] = []
        self.link = self.make()

    def make(self) -> AgentSession:
        def on_up() -> None:
            self.words.up += 1

        return AgentSession(
            self.loop,
            self.agent,
            SECRET,
            name="pod/web",
            on_notice=lambda message: None,
            on_up=on_up,
            on_over=self.words.over.append,
            say=self.words.said.append,
        )

    def begin(self, boot: BootClient | None = None) -> None:
        self.link.begin(self.agent.open(), boot or Booted(), 5.0)

    def until(self, condition: Callable[[], object]) -> None:
        timer = self.loop.call_later(20.0, self._expire)

        def check() -> None:
            if condition():
                self.loop.stop()
            else:
                self.loop.call_later(0.001, check)

        self.loop.call_soon(check)
        self.loop.run()
        timer.cancel()

    def _expire(self) -> None:
        raise AssertionError("the condition did not come true in time")

    def ask(self, path: bytes) -> None:
        self.link.session.request(ReadLink(path), self.replies.append)


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.link.abandon()
    relay.agent.session.abandon()
    relay.loop.close()


def test_a_session_begins(relay: Relay) -> None:
    relay.ask(b"/early")  # queued until there is a session
    relay.begin()
    relay.until(lambda: relay.replies)
    assert relay.words == Words(up=1)
    assert relay.replies == [LinkTarget(b"/early")]


def test_a_broken_transport_is_replaced_and_nothing_is_lost(relay: Relay) -> None:
    relay.begin()
    relay.until(lambda: relay.words.up)
    stream = relay.link.session.new_stream()
    content = bytes(range(256)) * 8192
    received = bytearray()
    ours, theirs = socket.socketpair()
    relay.until(lambda: relay.agent.session.connection.is_open(stream))
    relay.agent.session.consume(stream, received.extend, lambda number: None)
    relay.link.session.bridge(stream, theirs)
    ours.setblocking(False)
    unsent = memoryview(content)

    def push() -> bool:
        nonlocal unsent
        with contextlib.suppress(BlockingIOError):
            while unsent:
                unsent = unsent[ours.send(unsent[:100_000]) :]
        return not unsent

    for turn in range(4):
        before = len(received)
        relay.until(lambda before=before: push() or len(received) > before)
        relay.agent.cut()
        relay.ask(b"/meanwhile")
        relay.until(lambda count=2 * turn + 2: len(relay.words.said) == count)
    relay.until(push)
    relay.until(lambda: len(received) == len(content) and len(relay.replies) == 4)
    assert received == content
    assert relay.words.up == 1
    assert relay.words.over == []
    assert len(relay.words.said) == 8
    assert relay.words.said[0].startswith("the connection to the agent of pod/web broke (")
    assert relay.words.said[1] == "the connection to the agent of pod/web is back"
    ours.close()


def test_connecting_again_is_tried_again(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_FIRST_PAUSE_S", 0.001)
    relay.link = relay.make()
    relay.begin()
    relay.until(lambda: relay.words.up)
    relay.agent.refusals = [ConnectionRefusedError(), TimeoutError(), OSError(errno.EHOSTUNREACH, "no route")]
    relay.agent.cut()
    relay.until(lambda: len(relay.words.said) == 2)
    assert relay.agent.opened == 5
    assert relay.words.over == []


def test_the_lease_ends(relay: Relay) -> None:
    relay.agent.lease_s = 0
    relay.begin()
    relay.until(lambda: relay.words.up)
    relay.agent.refusals = [ConnectionRefusedError(errno.ECONNREFUSED, "refused")]
    relay.agent.cut()
    relay.until(lambda: relay.words.over)
    assert "lost: the connection could not be resumed within 0 s: [Errno 111] refused" in relay.words.over[0]


@pytest.mark.parametrize("failure", [UsageError("the pod is gone; start again"), RuntimeError("our bug")])
def test_what_cannot_succeed_is_not_tried_again(relay: Relay, failure: Exception) -> None:
    relay.begin()
    relay.until(lambda: relay.words.up)
    relay.agent.refusals = [failure]
    relay.agent.cut()
    relay.until(lambda: relay.words.over)
    assert relay.words.over == [f"the session with the agent of pod/web is lost: {failure}"]
    assert relay.agent.opened == 2


def test_an_agent_that_has_forgotten_the_session(relay: Relay) -> None:
    relay.begin()
    relay.until(lambda: relay.words.up)
    relay.agent.identity = b"x" * 16
    relay.agent.cut()
    relay.until(lambda: relay.words.over)
    assert "the agent no longer knows this session" in relay.words.over[0]


class Dead(Agent):
    """An agent that has died: there is a way to its port still, where nobody answers, and the cluster knows why."""

    is_dead = False

    def open(self) -> SocketTransport:
        if not self.is_dead:
            return super().open()
        self.opened += 1
        ours, theirs = socket.socketpair()
        theirs.close()
        return SocketTransport(ours)

    def last_words(self) -> str:
        return "the agent ended (exit status 137, OOMKilled)" if self.is_dead else ""


def test_an_agent_that_has_died_is_not_waited_for(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_FIRST_PAUSE_S", 0.001)
    relay.agent = dead = Dead(relay.loop)
    relay.link = relay.make()
    relay.begin()
    relay.until(lambda: relay.words.up)
    dead.is_dead = True
    relay.agent.cut()
    relay.until(lambda: relay.words.over)
    lost = "the session with the agent of pod/web is lost: the agent ended (exit status 137, OOMKilled)"
    assert relay.words.over == [lost]
    assert relay.agent.opened == 2


def test_a_channel_that_is_not_resumable(relay: Relay) -> None:
    relay.agent.resumable = False
    relay.begin()
    relay.until(lambda: relay.words.up)
    relay.agent.cut()
    relay.until(lambda: relay.words.over)
    assert relay.words.over == ["the session with the agent of pod/web is lost: it ended"]
    assert relay.agent.opened == 1


def test_something_else_answers_the_boot(relay: Relay) -> None:
    ours, theirs = socket.socketpair()
    relay.link.begin(SocketTransport(ours), Garbled(), 5.0)
    theirs.send(b"SSH-2.0-OpenSSH\r\n")
    relay.until(lambda: relay.words.over)
    assert relay.words.over[0].startswith("the agent for pod/web did not start: this is not mirrord-trace's agent (")
    theirs.close()


def test_something_else_answers_the_handshake(relay: Relay) -> None:
    relay.agent.secret = b"t" * 32
    relay.begin()
    relay.until(lambda: relay.words.over)
    assert relay.words.over[0].startswith("the agent for pod/web did not start: ")
    assert relay.words.up == 0


@pytest.mark.parametrize("speak", [True, False])
def test_a_loader_that_ends_or_stays_silent(relay: Relay, speak: bool) -> None:
    ours, theirs = socket.socketpair()
    relay.link.begin(SocketTransport(ours), BootClient(b"b" * 32, b"payload"), 0.01)
    if speak:
        theirs.close()
    relay.until(lambda: relay.words.over)
    reason = "it closed the connection" if speak else "it did not answer in time"
    assert relay.words.over == [f"the agent for pod/web did not start: {reason}"]
    theirs.close()


def test_close_says_bye(relay: Relay) -> None:
    relay.begin()
    relay.until(lambda: relay.words.up)
    closed: list[bool] = []
    relay.link.close("done", lambda: closed.append(True))
    relay.until(lambda: closed)
    relay.link.close("again", lambda: closed.append(True))
    relay.until(lambda: len(closed) == 2)
    assert relay.words.over == []


def test_requests_fail_when_it_is_abandoned(relay: Relay) -> None:
    relay.begin()
    relay.until(lambda: relay.words.up)
    relay.link.session.request(GetPod(), relay.replies.append)
    relay.link.abandon()
    relay.until(lambda: relay.replies)
    assert isinstance(relay.replies[0], Failed)
