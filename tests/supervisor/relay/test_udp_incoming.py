from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from mirrord_trace.agent.wire.frames import pack_datagram, unpack_datagram
from mirrord_trace.agent.wire.messages import Address, Done, Failed, Message, SubscribeUdp
from mirrord_trace.supervisor.relay import udp_incoming
from mirrord_trace.supervisor.relay.addresses import AddressTable
from mirrord_trace.supervisor.relay.loopback import packed
from mirrord_trace.supervisor.relay.udp_incoming import UdpIncoming
from mirrord_trace.syscalls.requests import ReceiveUdp

PEER = Address(bytes([10, 0, 0, 9]), 51000)
PEER6 = Address(bytes([0xFD, *bytes(14), 9]), 51000)
POD_PORT = 53


class Relay:
    """UDP servers over a fake pod, whose end of each subscription's stream the test holds."""

    def __init__(self, pod: Any) -> None:
        self.pod = pod
        self.table = AddressTable()
        self.now = 0.0
        self.traffic = UdpIncoming(pod.loop, pod.session, self.table, clock=lambda: self.now)
        self.replies: list[Message] = []
        self.sent: list[tuple[Address, bytes]] = []
        self.streams: list[int] = []
        self.ended: list[int] = []
        pod.answers[SubscribeUdp] = self.subscribe

    def subscribe(self, message: SubscribeUdp, reply: Any) -> None:
        self.streams.append(message.stream)
        self.pod.agent.datagrams(message.stream, lambda one: self.sent.append(unpack_datagram(one)), self.ended.append)
        reply(Done())

    def receive(self, sock: socket.socket, port: int = POD_PORT, mirror: bool = False) -> None:
        count = len(self.replies)
        request = ReceiveUdp(os.fstat(sock.fileno()).st_ino, packed(sock.getsockname()[:2]), port, mirror)
        self.traffic.receive(request, self.replies.append)
        self.pod.until(lambda: len(self.replies) > count)

    def arrives(self, content: bytes, peer: Address = PEER, stream: int = 0) -> None:
        self.pod.agent.send_datagram(self.streams[stream], pack_datagram(peer, content))

    def received(self, sock: socket.socket) -> tuple[bytes, Any]:
        got: list[tuple[bytes, Any]] = []

        def try_it() -> bool:
            try:
                got.append(sock.recvfrom(100))
            except BlockingIOError:
                return False
            return True

        self.pod.until(try_it)
        return got[0]

    def asked(self) -> list[Message]:
        return [message for message in self.pod.asked if isinstance(message, SubscribeUdp)]


@pytest.fixture
def relay(pod: Any) -> Iterator[Relay]:
    relay = Relay(pod)
    yield relay
    relay.traffic.close()


def server(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.bind((host, 0))
    except OSError as error:
        sock.close()
        pytest.skip(f"cannot bind {host}: {error}")
    sock.setblocking(False)
    return sock


@pytest.mark.parametrize(
    ("host", "peer"), [("127.0.0.1", PEER), ("0.0.0.0", PEER), ("::", PEER), ("::", PEER6), ("::1", PEER6)]
)
def test_a_question_and_its_answer(relay: Relay, host: str, peer: Address) -> None:
    with server(host) as sock:
        relay.receive(sock)
        assert relay.replies == [Done()]
        relay.arrives(b"question", peer)
        content, name = relay.received(sock)
        assert content == b"question"
        entry = relay.table.lookup(len(peer.ip) == 16, name[1], 0)
        assert entry is not None
        assert entry[0] == peer
        sock.sendto(b"answer", name)
        relay.pod.until(lambda: relay.sent)
        assert relay.sent == [(peer, b"answer")]
        relay.arrives(b"again", peer)
        assert relay.received(sock) == (b"again", name)


def test_mirrored_answers_are_dropped(relay: Relay) -> None:
    with server() as sock:
        relay.receive(sock, mirror=True)
        assert relay.asked() == [SubscribeUdp(POD_PORT, True, relay.streams[0])]
        relay.arrives(b"question")
        _, name = relay.received(sock)
        sock.sendto(b"answer", name)
        relay.arrives(b"second")
        relay.received(sock)
        relay.pod.settle()
        assert relay.sent == []


def test_a_peer_of_another_family_reaches_nobody(relay: Relay) -> None:
    with server() as sock:
        relay.receive(sock)
        relay.arrives(b"six", PEER6)
        relay.arrives(b"four")
        assert relay.received(sock)[0] == b"four"


def test_several_sockets_share_a_port_until_the_last_is_gone(relay: Relay) -> None:
    with server("::1") as second:
        with server() as first:
            relay.receive(first)
            relay.receive(second)
            assert relay.replies == [Done(), Done()]
            assert len(relay.asked()) == 1
        relay.traffic._watched().check()
        relay.pod.settle()
        assert relay.ended == []
        relay.arrives(b"six", PEER6)
        _, (_, port, *_) = relay.received(second)
    relay.traffic._watched().check()
    relay.pod.until(lambda: relay.ended)
    assert relay.table.lookup(True, port, 0) is None
    with server() as third:
        relay.receive(third)
        assert len(relay.asked()) == 2


def test_a_port_that_cannot_be_had(relay: Relay) -> None:
    answer = Failed(errno.EADDRINUSE, "ann has it")
    relay.pod.answers[SubscribeUdp] = lambda message, reply: reply(answer)
    with server() as sock:
        relay.receive(sock)
        assert relay.replies == [answer]
        relay.pod.answers[SubscribeUdp] = relay.subscribe
        relay.receive(sock)
        assert relay.replies == [answer, Done()]


def test_the_agent_ends_the_subscription(relay: Relay) -> None:
    with server() as sock:
        relay.receive(sock)
        relay.pod.agent.reset(relay.streams[0], 0)
        relay.pod.until(lambda: not relay.traffic._ports)


def test_the_socket_goes_before_the_port_is_there(relay: Relay) -> None:
    late: list[Any] = []
    relay.pod.answers[SubscribeUdp] = lambda message, reply: late.append((message, reply))
    sock = server()
    request = ReceiveUdp(os.fstat(sock.fileno()).st_ino, packed(sock.getsockname()), POD_PORT, False)
    relay.traffic.receive(request, relay.replies.append)
    relay.pod.until(lambda: late)
    sock.close()
    relay.traffic._watched().check()
    relay.subscribe(*late[0])
    relay.pod.until(lambda: relay.ended)
    assert relay.replies == [Done()]


def test_peers_make_room(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp_incoming, "MAX_PEERS", 2)
    peers = [Address(PEER.ip, 1000 + number) for number in range(3)]
    with server() as sock:
        relay.receive(sock)
        names = []
        for peer in (peers[0], peers[1], peers[0], peers[2]):
            relay.arrives(b"x", peer)
            names.append(relay.received(sock)[1])
        known = [relay.table.lookup(False, name[1], 0) for name in names]
        assert [entry and entry[0] for entry in known] == [peers[0], None, peers[0], peers[2]]
        relay.now = udp_incoming.IDLE_PEER_S - 1
        relay.arrives(b"y", peers[0])
        relay.received(sock)
        relay.now += 1
        relay.traffic.sweep()
        assert [relay.table.lookup(False, names[index][1], 0) is None for index in (0, 3)] == [False, True]
