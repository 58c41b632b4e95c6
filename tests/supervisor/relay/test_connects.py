from __future__ import annotations

import errno
import os
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Address, Connected, ConnectTcp, Failed, GiveUpConnect, Message
from mirrord_trace.supervisor.relay import connects
from mirrord_trace.supervisor.relay.connects import (
    MAX_UNDER_WAY,
    Connects,
    FullListener,
    open_listeners,
)
from mirrord_trace.supervisor.relay.loopback import loopback_of, packed
from mirrord_trace.supervisor.relay.tcpstate import Presence, TcpStates
from mirrord_trace.syscalls.requests import EndConnect, StartConnect, Verdict

POD_LOCAL = Address(bytes([10, 1, 2, 3]), 40000)
POD_PEER = Address(bytes([10, 9, 8, 7]), 80)
Reply = Callable[[Message], None]
SO_COOKIE = 57
FAMILIES = [socket.AF_INET, socket.AF_INET6]


class Relay:
    """Connects over a fake pod whose verdicts are given by hand, and which echoes what it is sent."""

    def __init__(self, pod: Any) -> None:
        self.pod = pod
        self.listeners = open_listeners()
        self.told: list[Message] = []
        self.connects = Connects(pod.loop, pod.session, self.listeners, self.told.append)
        self.waiting: list[tuple[ConnectTcp, Reply]] = []
        self.far_ends: dict[int, socket.socket] = {}
        pod.answers[ConnectTcp] = lambda message, reply: self.waiting.append((message, reply))

    def start(self, tracee: socket.socket, key: int = 1) -> None:
        cookie = int.from_bytes(tracee.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little")
        self.connects.start(StartConnect(key, POD_PEER, packed(tracee.getsockname()[:2]), cookie))

    def listener(self, family: int) -> FullListener:
        return self.listeners[family]

    def accept(self, index: int = 0) -> socket.socket:
        """The pod connected: returns the far end."""
        message, reply = self.waiting.pop(index)
        ours, theirs = socket.socketpair()
        reply(Connected(POD_LOCAL, POD_PEER))
        self.pod.agent.bridge(message.stream, theirs)
        return ours

    def refuse(self, number: int) -> None:
        _, reply = self.waiting.pop(0)
        reply(Failed(number))

    def until_asked(self, count: int = 1) -> None:
        self.pod.until(lambda: len(self.waiting) == count)


@pytest.fixture
def relay(pod: Any) -> Iterator[Relay]:
    relay = Relay(pod)
    yield relay
    relay.connects.close()
    for listener in relay.listeners.values():
        listener.close()


def bound_socket(family: int) -> socket.socket:
    if family == socket.AF_INET6 and not socket.has_ipv6:
        pytest.skip("no IPv6")
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.bind((loopback_of(socket.AddressFamily(family)), 0))
    except OSError as error:
        sock.close()
        pytest.skip(f"no loopback address of this family: {error}")
    return sock


def begin(relay: Relay, tracee: socket.socket) -> None:
    """A non-blocking connect as the tracer lets the kernel run it."""
    tracee.setblocking(False)
    listener = relay.listener(tracee.family)
    assert tracee.connect_ex((loopback_of(tracee.family), listener.port)) == errno.EINPROGRESS


def events_of(tracee: socket.socket) -> int:
    poll = select.poll()
    poll.register(tracee, select.POLLIN | select.POLLOUT)
    return dict(poll.poll(0)).get(tracee.fileno(), 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_pending_until_the_verdict_then_connected(relay: Relay, family: int) -> None:
    with bound_socket(family) as tracee:
        relay.start(tracee)
        begin(relay, tracee)
        epoll = select.epoll()
        epoll.register(tracee.fileno(), select.EPOLLIN | select.EPOLLOUT | select.EPOLLET)
        relay.until_asked()
        assert epoll.poll(0.05) == []
        assert select.select([tracee], [tracee], [tracee], 0) == ([], [], [])
        assert relay.told == []
        with relay.accept() as far:
            relay.pod.until(lambda: events_of(tracee))
            assert relay.told == [Verdict(1, 0, POD_LOCAL, POD_PEER)]
            assert epoll.poll(1) == [(tracee.fileno(), select.EPOLLOUT)]
            assert tracee.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert tracee.getpeername()[1] == relay.listener(family).port
            far.sendall(b"welcome")
            tracee.sendall(b"hello")
            relay.pod.until(lambda: events_of(tracee) & select.POLLIN)
            assert tracee.recv(100) == b"welcome"
            far.setblocking(False)
            relay.pod.until(lambda: select.select([far], [], [], 0)[0])
            assert far.recv(100) == b"hello"
        epoll.close()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ETIMEDOUT])
def test_failure_is_told_and_resets_the_socket(relay: Relay, family: int, number: int) -> None:
    with bound_socket(family) as tracee:
        relay.start(tracee)
        begin(relay, tracee)
        relay.until_asked()
        relay.refuse(number)
        relay.pod.until(lambda: events_of(tracee))
        assert relay.told == [Verdict(1, number, Address(bytes(4), 0), POD_PEER)]
        assert events_of(tracee) & (select.POLLERR | select.POLLHUP) == select.POLLERR | select.POLLHUP
        assert tracee.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNRESET


@pytest.mark.parametrize("verdict", [0, errno.ECONNREFUSED])
def test_verdict_is_told_before_the_socket_changes(relay: Relay, verdict: int) -> None:
    with bound_socket(socket.AF_INET) as tracee:
        states: list[int] = []
        relay.connects._tell = lambda message: states.append(events_of(tracee))
        relay.start(tracee)
        begin(relay, tracee)
        relay.until_asked()
        far = None if verdict else relay.accept()
        if verdict:
            relay.refuse(verdict)
        relay.pod.until(lambda: events_of(tracee))
        assert states == [0]
        if far is not None:
            far.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_blocking_connect_returns_with_the_verdict(relay: Relay, family: int) -> None:
    with bound_socket(family) as tracee, bound_socket(family) as refused:
        results: list[object] = []

        def connect(sock: socket.socket) -> None:
            results.append(sock.connect_ex((loopback_of(sock.family), relay.listener(family).port)))

        for index, sock in enumerate((tracee, refused)):
            thread = threading.Thread(target=connect, args=(sock,))
            relay.start(sock, index)
            thread.start()
            relay.until_asked()
            assert len(results) == index
            if index == 0:
                far = relay.accept()
            else:
                relay.refuse(errno.ENETUNREACH)
            relay.pod.until(lambda index=index: len(results) == index + 1)
            thread.join()
        assert results == [0, errno.ECONNRESET]
        far.close()


def test_verdict_faster_than_the_connect(relay: Relay) -> None:
    with bound_socket(socket.AF_INET) as tracee:
        relay.start(tracee)
        relay.until_asked()
        with relay.accept() as far:
            relay.pod.until(lambda: relay.told)
            relay.pod.settle()
            begin(relay, tracee)
            relay.pod.until(lambda: events_of(tracee))
            assert events_of(tracee) == select.POLLOUT
            tracee.sendall(b"x")
            far.setblocking(False)
            relay.pod.until(lambda: select.select([far], [], [], 0)[0])
            assert far.recv(1) == b"x"


def test_socket_closed_before_the_verdict(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connects, "SETTLE_FOR_S", 0.1)
    tracee = bound_socket(socket.AF_INET)
    relay.start(tracee)
    begin(relay, tracee)
    relay.until_asked()
    tracee.close()
    with relay.accept() as far:
        far.setblocking(False)
        relay.pod.until(lambda: select.select([far], [], [], 0)[0])
        assert far.recv(1) == b""
    assert relay.pod.session.connection.open_streams == 0


def test_the_last_words_of_a_program_that_ends_as_soon_as_it_is_connected(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is connected as soon as the kernel says so, which may be before the relay has looked."""
    tracee = bound_socket(socket.AF_INET)
    looked = connects._Settling._on_ready

    def program_ends_first(settling: connects._Settling, events: int) -> None:
        tracee.sendall(b"last words")
        tracee.close()
        relay.connects.close()
        looked(settling, events)

    monkeypatch.setattr(connects._Settling, "_on_ready", program_ends_first)
    relay.start(tracee)
    begin(relay, tracee)
    relay.until_asked()
    with relay.accept() as far:
        far.setblocking(False)
        relay.pod.until(lambda: select.select([far], [], [], 0)[0])
        assert far.recv(100) == b"last words"


def test_failure_for_a_closed_socket_leaves_nothing(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connects, "SETTLE_FOR_S", 0.01)
    before = len(os.listdir("/proc/self/fd"))
    tracee = bound_socket(socket.AF_INET)
    relay.start(tracee)
    begin(relay, tracee)
    relay.until_asked()
    tracee.close()
    relay.refuse(errno.ECONNREFUSED)
    relay.pod.until(lambda: relay.told)
    # One more, by which the kernel is asked about sockets.
    relay.pod.until(lambda: len(os.listdir("/proc/self/fd")) == before + 1)
    assert relay.pod.session.connection.open_streams == 0


def test_socket_bound_to_every_address(relay: Relay) -> None:
    with socket.socket() as tracee:
        tracee.bind(("0.0.0.0", 0))
        relay.start(tracee)
        begin(relay, tracee)
        relay.until_asked()
        with relay.accept():
            relay.pod.until(lambda: events_of(tracee))
            assert tracee.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


def test_same_source_port_again_after_the_pod_closed_first(relay: Relay) -> None:
    """The relay's side is in TIME_WAIT then, with the very pair of addresses that the next connection has."""
    port = 0
    for round_number in range(3):
        with socket.socket() as tracee:
            tracee.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tracee.bind(("127.0.0.1", port))
            port = tracee.getsockname()[1]
            relay.start(tracee, round_number)
            begin(relay, tracee)
            relay.until_asked()
            far = relay.accept()
            relay.pod.until(lambda tracee=tracee: events_of(tracee))
            assert tracee.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            far.close()
            relay.pod.until(lambda tracee=tracee: events_of(tracee) & select.POLLIN)
            assert tracee.recv(1) == b""
        relay.pod.until(lambda: relay.pod.session.connection.open_streams == 0)


def test_many_pending_at_once(relay: Relay) -> None:
    """2,000 connects to one listener, settled in another order; every byte arrives at the right socket."""
    count = min(2000, _descriptor_limit() // 4 - 50)
    tracees = [bound_socket(socket.AF_INET) for _ in range(count)]
    for key, tracee in enumerate(tracees):
        relay.start(tracee, key)
        begin(relay, tracee)
    poll = select.epoll()
    for tracee in tracees:
        poll.register(tracee.fileno(), select.EPOLLOUT)
    relay.pod.until(lambda: len(relay.waiting) == min(count, MAX_UNDER_WAY))
    assert poll.poll(0) == []
    fars = {}
    while len(fars) < count:
        relay.pod.until(lambda: relay.waiting)
        while relay.waiting:
            stream = relay.waiting[-1][0].stream
            fars[stream] = relay.accept(-1)
    relay.pod.until(lambda: len(poll.poll(0, count)) == count)
    # The verdicts come in the order of the pod's answers, the streams in that of the connects.
    streams = sorted(fars)
    for stream, far in fars.items():
        far.send(b"%d" % stream)
    relay.pod.until(lambda: all(events_of(tracee) & select.POLLIN for tracee in tracees))
    assert [tracee.recv(10) for tracee in tracees] == [b"%d" % stream for stream in streams]
    for sock in (*tracees, *fars.values()):
        sock.close()
    poll.close()


def _descriptor_limit() -> int:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def test_no_listener_of_that_family(relay: Relay) -> None:
    for listener in relay.listeners.values():
        listener.close()
    relay.listeners.clear()
    relay.connects.start(StartConnect(5, POD_PEER, Address(bytes([127, 0, 0, 1]), 1)))
    relay.until_asked()
    with relay.accept() as far:
        far.setblocking(False)
        relay.pod.until(lambda: select.select([far], [], [], 0)[0])
    assert relay.told == [Verdict(5, 0, POD_LOCAL, POD_PEER)]


def test_nobody_else_gets_the_connection(relay: Relay) -> None:
    """The tracee's socket is closed, and its port belongs to a listener by the time of the verdict."""
    tracee = bound_socket(socket.AF_INET)
    relay.start(tracee)
    begin(relay, tracee)
    relay.until_asked()
    name = tracee.getsockname()
    tracee.close()
    with socket.create_server(name) as other, relay.accept() as far:
        far.setblocking(False)
        relay.pod.until(lambda: not relay.connects.pending)
        relay.pod.until(lambda: select.select([far], [], [], 0)[0])
        assert far.recv(1) == b""
        assert select.select([other], [], [], 0) == ([], [], [])


def test_a_listener_that_comes_in_between_is_reset(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connects, "SETTLE_FOR_S", 0.05)
    answers = [Presence.UNKNOWN, Presence.ABSENT]
    monkeypatch.setattr(TcpStates, "presence", lambda *_: answers.pop(0) if answers else Presence.ABSENT)
    with socket.create_server(("127.0.0.1", 0)) as other:
        relay.connects.start(StartConnect(5, POD_PEER, packed(other.getsockname()), 77))
        relay.until_asked()
        with relay.accept() as far:
            relay.pod.until(lambda: not relay.connects.pending)
            far.setblocking(False)
            relay.pod.until(lambda: select.select([far], [], [], 0)[0])
            assert far.recv(1) == b""
        accepted, _ = other.accept()
        with accepted, pytest.raises(ConnectionResetError):
            accepted.recv(1)


def test_a_pending_socket_that_is_closed_is_given_up_in_the_pod(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connects, "FIRST_CHECK_S", 0.01)
    notices: list[Message] = []
    relay.pod.agent._on_notice = notices.append
    tracee = bound_socket(socket.AF_INET)
    relay.start(tracee, 3)
    begin(relay, tracee)
    relay.until_asked()
    stream = relay.waiting[0][0].stream
    relay.pod.until(lambda: relay.connects._attempts[3].was_there)
    tracee.close()
    relay.pod.until(lambda: notices)
    assert notices == [GiveUpConnect(stream)]
    assert relay.connects.pending == 0
    relay.refuse(errno.ECANCELED)
    relay.pod.settle()
    assert relay.told == []
    assert relay.pod.session.connection.open_streams == relay.pod.agent.connection.open_streams == 0


def test_an_ended_connect_leaves_the_tracees_socket_alone(relay: Relay) -> None:
    """The next connect of the same socket, from the same port, is not settled by the verdict on the one before."""
    with bound_socket(socket.AF_INET) as tracee:
        relay.start(tracee, 1)
        begin(relay, tracee)
        relay.until_asked()
        relay.connects.end(EndConnect(1))
        tracee.shutdown(socket.SHUT_RDWR)
        begin(relay, tracee)
        relay.start(tracee, 2)
        relay.until_asked(2)
        first = relay.accept(0)
        relay.pod.settle()
        assert events_of(tracee) == 0
        with relay.accept(0) as far:
            relay.pod.until(lambda: events_of(tracee))
            far.sendall(b"second")
            relay.pod.until(lambda: events_of(tracee) & select.POLLIN)
            assert tracee.recv(10) == b"second"
        first.close()
    assert [message.key for message in relay.told if isinstance(message, Verdict)] == [2]


def test_ended_while_it_waits_its_turn_or_is_being_settled(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connects, "MAX_UNDER_WAY", 1)
    with bound_socket(socket.AF_INET) as one, bound_socket(socket.AF_INET) as other:
        relay.start(one, 1)
        relay.start(other, 2)
        relay.until_asked()
        relay.connects.end(EndConnect(2))
        with relay.accept() as far:  # `one` never connects: the relay keeps trying
            relay.pod.until(lambda: relay.told)
            relay.connects.end(EndConnect(1))
            far.setblocking(False)
            relay.pod.until(lambda: select.select([far], [], [], 0)[0])
        relay.pod.settle()
        assert relay.waiting == []
    relay.connects.end(EndConnect(9))  # nobody knows of it
    assert relay.pod.session.connection.open_streams == 0


def test_what_the_program_asked_of_its_socket_goes_along(relay: Relay) -> None:
    source = Address(bytes([10, 1, 2, 3]), 4711)
    with bound_socket(socket.AF_INET) as tracee:
        local = packed(tracee.getsockname())
        relay.connects.start(StartConnect(1, POD_PEER, local, 0, source, True, (1, 9, 1)))
        relay.until_asked()
    question, _ = relay.waiting[0]
    assert question == ConnectTcp(question.stream, POD_PEER, source, True, (1, 9, 1))
    relay.connects.close()
    assert relay.connects.pending == 0
