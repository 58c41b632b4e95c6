from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mirrord_trace.agent.wire.messages import Address, Done, Failed, Message, OpenPing, OpenUdp, UdpOpened
from mirrord_trace.supervisor.relay.pod_socket import PodSocket, probe

LOCAL = Address(bytes([10, 0, 0, 1]), 33333)


class Agent:
    """Opens sockets when `open` is called, and keeps what was sent to them."""

    def __init__(self, pod: Any) -> None:
        self.pod = pod
        self.requests: list[tuple[OpenUdp, Callable[[Message], None]]] = []
        self.sent: list[bytes] = []
        self.ended: list[int] = []
        pod.answers[OpenUdp] = lambda message, reply: self.requests.append((message, reply))

    def open(self) -> None:
        self.pod.until(lambda: self.requests)
        message, reply = self.requests.pop()
        self.pod.agent.datagrams(message.stream, self.sent.append, self.ended.append)
        reply(UdpOpened(LOCAL))


def opening(stream: int) -> Message:
    return OpenUdp(stream, 4, 0)


def test_datagrams_wait_for_it_to_be_open(pod: Any) -> None:
    agent, came, opened = Agent(pod), [], []
    sock = PodSocket(pod.session, opening, came.append, lambda: opened.append(sock.local))
    sock.send(b"one")
    sock.send(b"two")
    agent.open()
    pod.until(lambda: len(agent.sent) == 2)
    assert opened == [LOCAL]
    sock.send(b"three")
    pod.until(lambda: len(agent.sent) == 3)
    pod.agent.send_datagram(sock.stream, b"back")
    pod.until(lambda: came)
    assert (agent.sent, came) == ([b"one", b"two", b"three"], [b"back"])
    sock.close()
    pod.until(lambda: agent.ended)


def test_what_waits_is_bounded(pod: Any) -> None:
    agent = Agent(pod)
    sock = PodSocket(pod.session, opening, lambda datagram: None, lambda: None)
    for _ in range(2000):
        sock.send(b"x")
    sock.send(bytes(300_000))
    agent.open()
    pod.until(lambda: len(agent.sent) >= 1024)
    sock.send(b"last")
    pod.until(lambda: agent.sent[-1] == b"last")
    assert len(agent.sent) == 1025
    sock.close()


def test_a_failure_is_worth_another_try_later(pod: Any) -> None:
    now = [100.0]
    pod.answers[OpenUdp] = lambda message, reply: reply(Failed(97))
    sock = PodSocket(pod.session, opening, lambda datagram: None, lambda: None, lambda: now[0])
    pod.settle()
    assert not sock.is_over()
    sock.send(b"lost")
    now[0] += 2
    assert sock.is_over()


def test_whether_the_pod_allows_pings(pod: Any) -> None:
    for answer, expected in ((UdpOpened(LOCAL), Done()), (Failed(13), Failed(13))):
        replies: list[Message] = []
        pod.answers[OpenPing] = lambda message, reply, answer=answer: reply(answer)
        probe(pod.session, 4, replies.append)
        pod.until(lambda replies=replies: replies)
        assert replies == [expected]
