"""The relay's netlink socket: questions to the pod, answers to the right sockets, nothing lost and nothing unbounded."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import AskRoutes, Done, Failed, Message, RouteReplies
from mirrord_trace.supervisor.relay import routes
from mirrord_trace.supervisor.relay.routes import FRESH_S, Routes
from mirrord_trace.syscalls.abi import netlink
from mirrord_trace.syscalls.requests import AwaitRoutes, RouteSocket

_NEWADDR, _GETADDR, _DELADDR = 20, 22, 21
_DUMP, _ACK, _REQUEST = netlink.NLM_F_DUMP | 1, netlink.NLM_F_ACK, netlink.NLM_F_REQUEST


def message(kind: int, flags: int, sequence: int = 1, body: bytes = b"body", port: int = 0) -> bytes:
    return netlink.encode_header(netlink.Header(16 + len(body), kind, flags, sequence, port)) + body


class Relay:
    """Routes over a fake pod whose answer is `reply`, at a time of ours."""

    def __init__(self, pod: Any) -> None:
        self.pod = pod
        self.now = 0.0
        self.routes = Routes(pod.loop, pod.session, clock=lambda: self.now)
        self.asked: list[bytes] = []
        self.reply: Message = RouteReplies((message(_NEWADDR, 2), message(3, 2, body=bytes(4))))
        pod.answers[AskRoutes] = self._answer

    def _answer(self, request: AskRoutes, reply: Any) -> None:
        self.asked.append(request.request)
        reply(self.reply)

    def tracee(self, known_as: int = 0, *, told: bool = True) -> socket.socket:
        """A socket of a tracee, made as syscalls/net/routes.py does."""
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, netlink.NETLINK_USERSOCK)
        sock.bind((0, 0))
        sock.connect((self.routes.port, 0))
        if told:
            self.tell(sock, known_as)
        return sock

    def tell(self, sock: socket.socket, known_as: int = 0) -> None:
        port = sock.getsockname()[0]
        self.routes.add(RouteSocket(port, known_as or port))

    def received(self, sock: socket.socket, count: int = 1) -> list[bytes]:
        """The next datagrams."""
        found: list[bytes] = []

        def all_there() -> bool:
            try:
                found.append(sock.recv(65536))
            except BlockingIOError:
                return False
            return len(found) >= count

        self.pod.until(all_there)
        return found


@pytest.fixture
def relay(pod: Any) -> Iterator[Relay]:
    relay = Relay(pod)
    yield relay
    relay.routes.close()


def headers(datagrams: list[bytes]) -> list[tuple[int, int, int]]:
    """(type, sequence, port) of all messages."""
    found = [header for datagram in datagrams for header, _ in netlink.messages(datagram)]
    return [(header.type, header.sequence, header.port) for header in found]


def test_question_and_answer(relay: Relay) -> None:
    with relay.tracee() as sock, relay.tracee(4711) as bound:
        sock.send(message(_GETADDR, _DUMP, 5))
        port = sock.getsockname()[0]
        assert headers(relay.received(sock, 2)) == [(_NEWADDR, 5, port), (3, 5, port)]
        bound.send(message(_GETADDR, _DUMP, 6, port=9))
        assert headers(relay.received(bound, 2)) == [(_NEWADDR, 6, 4711), (3, 6, 4711)]
    assert relay.asked == [message(_GETADDR, _DUMP, 0)]  # once for both, and without what tells them apart


def test_an_answer_counts_for_a_moment(relay: Relay) -> None:
    with relay.tracee() as sock:
        for sequence, later in ((1, 0.0), (2, FRESH_S / 2), (3, FRESH_S)):
            relay.now += later
            sock.send(message(_GETADDR, _DUMP, sequence))
            relay.received(sock, 2)
    assert len(relay.asked) == 2


def test_nothing_can_be_changed(relay: Relay) -> None:
    with relay.tracee() as sock:
        for kind in (_NEWADDR, _DELADDR, 19):
            request = message(kind, _REQUEST)
            sock.send(request)
            (answer,) = relay.received(sock)
            assert struct.unpack_from("=i", answer, 16) == (-errno.EPERM,)
            assert answer[20:] == request
    assert relay.asked == []


def test_what_asks_nothing(relay: Relay) -> None:
    """No request, control messages, rubbish: acknowledged if wanted, as by the kernel."""
    with relay.tracee() as sock:
        sock.send(message(_GETADDR, 0) + message(1, _REQUEST) + message(1, _REQUEST | _ACK, 8) + b"\xff" * 5)
        (answer,) = relay.received(sock)
        assert headers([answer]) == [(2, 8, sock.getsockname()[0])]
        assert not any(answer[16:20])


def test_a_pod_that_refuses(relay: Relay) -> None:
    relay.reply = Failed(errno.ENETDOWN)
    with relay.tracee() as sock:
        for _ in range(2):
            sock.send(message(_GETADDR, _DUMP))
            (answer,) = relay.received(sock)
            assert struct.unpack_from("=i", answer, 16) == (-errno.ENETDOWN,)
    assert len(relay.asked) == 2  # a failure is not kept


def test_a_question_before_its_socket_is_known(relay: Relay) -> None:
    with relay.tracee(told=False) as sock:
        sock.send(message(_GETADDR, _DUMP, 5))
        relay.pod.settle()
        assert relay.asked == []
        relay.tell(sock)
        assert len(relay.received(sock, 2)) == 2


def test_strangers_get_no_answer(relay: Relay) -> None:
    with relay.tracee(told=False) as sock:
        for _ in range(200):
            sock.send(message(_GETADDR, _DUMP, 5))
            relay.pod.settle()
        with pytest.raises(BlockingIOError):
            sock.recv(100)
    assert relay.asked == []


def test_a_program_that_reads_slowly(relay: Relay) -> None:
    parts = tuple(message(_NEWADDR, 2, body=bytes(3000)) for _ in range(200))
    relay.reply = RouteReplies((*parts, message(3, 2, body=bytes(4))))
    with relay.tracee() as sock:
        sock.send(message(_GETADDR, _DUMP))
        relay.pod.until(lambda: relay.asked)
        relay.pod.settle()
        done: list[Message] = []
        relay.routes.wait(AwaitRoutes(sock.getsockname()[0]), done.append)
        assert done == [Done()]  # there is something to read
        found = relay.received(sock, 201)
    assert [len(part) for part in found] == [len(part) for part in (*parts, found[-1])]
    assert headers(found)[-1][0] == 3


def test_a_program_that_closes_with_answers_under_way(relay: Relay) -> None:
    before = len(os.listdir("/proc/self/fd"))
    relay.reply = RouteReplies(tuple(message(_NEWADDR, 2, body=bytes(3000)) for _ in range(200)))
    sock = relay.tracee()
    sock.send(message(_GETADDR, _DUMP))
    relay.pod.until(lambda: relay.asked)
    relay.pod.settle()
    sock.close()
    relay.pod.until(lambda: not relay.routes._sockets)
    assert len(os.listdir("/proc/self/fd")) == before


def test_waiting_for_an_answer(relay: Relay) -> None:
    held: list[Any] = []
    relay.pod.answers[AskRoutes] = lambda request, reply: held.append(reply)
    done: list[Message] = []
    with relay.tracee() as sock:
        request = AwaitRoutes(sock.getsockname()[0])
        relay.routes.wait(request, done.append)
        assert done.pop() == Done()  # nothing was asked
        sock.send(message(_GETADDR, _DUMP))
        relay.routes.wait(request, done.append)
        assert done == []
        relay.pod.until(lambda: held)
        held.pop()(relay.reply)
        relay.pod.until(lambda: done)
        assert len(sock.recv(1000)) == 20
        relay.routes.wait(AwaitRoutes(1), done.append)
        assert done == [Done(), Done()]


def test_a_question_that_is_faster_than_bind(relay: Relay) -> None:
    held: list[Any] = []
    relay.pod.answers[AskRoutes] = lambda request, reply: held.append(reply)
    with relay.tracee() as sock:
        sock.send(message(_GETADDR, _DUMP, 1))
        relay.pod.until(lambda: held)
        relay.tell(sock, 4711)
        held.pop()(relay.reply)
        assert headers(relay.received(sock, 2)) == [(_NEWADDR, 1, 4711), (3, 1, 4711)]


def test_bounds(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_SOCKETS", 3)
    kept = relay.tracee()
    for _ in range(5):
        relay.tracee().close()
    others = [relay.tracee() for _ in range(2)]
    assert len(relay.routes._sockets) <= 3
    kept.send(message(_GETADDR, _DUMP))
    assert len(relay.received(kept, 2)) == 2  # the closed ones went first
    others.append(relay.tracee())
    assert len(relay.routes._sockets) == 3
    for sock in (kept, *others):
        sock.close()


def test_asks_of_the_tracer(relay: Relay) -> None:
    answers: list[Message] = []
    for _ in range(2):
        relay.routes.ask(AskRoutes(message(_GETADDR, _DUMP, 3)), answers.append)
        relay.pod.until(lambda: answers)
        assert answers.pop() == relay.reply
    assert len(relay.asked) == 1
