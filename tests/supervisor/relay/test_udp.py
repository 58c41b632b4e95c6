from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from mirrord_trace.agent.wire.frames import pack_datagram, unpack_datagram
from mirrord_trace.agent.wire.messages import Address, DatagramFailed, Failed, Message, OpenPing, OpenUdp, UdpOpened
from mirrord_trace.supervisor.relay import udp
from mirrord_trace.supervisor.relay.addresses import AddressTable
from mirrord_trace.supervisor.relay.dns import Dns
from mirrord_trace.supervisor.relay.dns_local import LocalNames
from mirrord_trace.supervisor.relay.udp import IDLE_POD_SOCKET_S, UdpTraffic
from mirrord_trace.supervisor.relay.watch import udp_ports
from mirrord_trace.supervisor.targets.demo import dns as zone
from mirrord_trace.syscalls.name_rules import DnsConfig
from mirrord_trace.syscalls.requests import PeerRefused, UdpPeer
from queries import GREETER, query

DNS = Address(bytes([10, 96, 0, 10]), 53)
OTHER = Address(bytes([10, 1, 1, 1]), 69)
MAPPED = Address(bytes(10) + b"\xff\xff" + DNS.ip, 53)
DNS6 = Address(socket.inet_pton(socket.AF_INET6, "fd00::a"), 53)
POD_LOCAL = Address(bytes([10, 0, 0, 1]), 33333)

WITHOUT_CACHE = DnsConfig(cache=False)


class Relay:
    """UDP over a fake pod that keeps what was sent to it; the clock is ours."""

    def __init__(self, pod: Any, config: DnsConfig = WITHOUT_CACHE) -> None:
        self.pod = pod
        self.now = 1000.0
        self.table = AddressTable()
        self.told: list[Message] = []
        self.dns = Dns(config, LocalNames(pod.loop), self.told.append)
        self.traffic = UdpTraffic(pod.loop, pod.session, self.table, self.dns, self.told.append, clock=lambda: self.now)
        self.opened: list[OpenUdp] = []
        self.ended: list[int] = []
        self.sent: list[tuple[Address, bytes]] = []
        pod.answers[OpenUdp] = self._on_open

    def _on_open(self, message: OpenUdp, reply: Any) -> None:
        self.opened.append(message)
        self.pod.agent.datagrams(
            message.stream, lambda datagram: self.sent.append(unpack_datagram(datagram)), self.ended.append
        )
        reply(UdpOpened(POD_LOCAL))

    def peer(self, peer: Address, key: int = 1, family: int = socket.AF_INET) -> tuple[str, int]:
        """A loopback socket for `peer` is handed over, as the tracer does. Returns its address."""
        sock = socket.socket(family, socket.SOCK_DGRAM)
        try:
            sock.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        except OSError as error:
            sock.close()
            pytest.skip(f"no such loopback address: {error}")
        address = sock.getsockname()[:2]
        self.traffic.add(UdpPeer(key, 4, peer), sock.detach())
        return address

    def from_pod(self, peer: Address, content: bytes) -> None:
        self.pod.agent.send_datagram(self.opened[-1].stream, pack_datagram(peer, content))

    def until_sent(self, count: int) -> None:
        self.pod.until(lambda: len(self.sent) == count)


@pytest.fixture
def relay(pod: Any) -> Iterator[Relay]:
    relay = Relay(pod)
    yield relay
    relay.traffic.close()


@pytest.fixture
def tracee() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        yield sock


def received(relay: Relay, sock: socket.socket) -> tuple[bytes, Any]:
    got: list[tuple[bytes, Any]] = []

    def try_it() -> bool:
        try:
            got.append(sock.recvfrom(70000))
        except BlockingIOError:
            return False
        return True

    relay.pod.until(try_it)
    return got[0]


def test_question_and_answer(relay: Relay, tracee: socket.socket) -> None:
    address = relay.peer(DNS)
    tracee.sendto(b"who?", address)
    relay.until_sent(1)
    assert relay.sent == [(DNS, b"who?")]
    assert [message.family for message in relay.opened] == [4]
    relay.from_pod(DNS, b"me")
    assert received(relay, tracee) == (b"me", address)
    assert relay.table.lookup(False, address[1], tracee.getsockname()[1]) == (DNS, POD_LOCAL)


def test_a_connected_socket_and_empty_and_large_datagrams(relay: Relay, tracee: socket.socket) -> None:
    tracee.connect(relay.peer(DNS))
    sizes = [0, 1, 65507]
    for size in sizes:
        tracee.send(b"x" * size)
    relay.until_sent(3)
    assert [len(content) for _, content in relay.sent] == sizes
    for size in sizes:
        relay.from_pod(DNS, b"y" * size)
        assert len(received(relay, tracee)[0]) == size


def test_peers_of_one_socket_share_a_pod_socket(relay: Relay, tracee: socket.socket) -> None:
    first, second = relay.peer(DNS), relay.peer(OTHER)
    tracee.sendto(b"1", first)
    relay.until_sent(1)
    tracee.sendto(b"2", second)
    relay.until_sent(2)
    assert relay.sent == [(DNS, b"1"), (OTHER, b"2")]
    assert len(relay.opened) == 1
    relay.from_pod(OTHER, b"b")
    assert received(relay, tracee) == (b"b", second)


def test_sockets_of_the_tracee_are_apart(relay: Relay, tracee: socket.socket) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as second:
        second.setblocking(False)
        tracee.sendto(b"1", relay.peer(DNS, key=1))
        relay.until_sent(1)
        second.sendto(b"2", relay.peer(DNS, key=2))
        relay.until_sent(2)
        assert len(relay.opened) == 2
        relay.from_pod(DNS, b"for the second")
        assert received(relay, second)[0] == b"for the second"


def test_an_answer_from_an_unexpected_peer(relay: Relay, tracee: socket.socket) -> None:
    tracee.sendto(b"read", relay.peer(DNS))
    relay.until_sent(1)
    unexpected = Address(DNS.ip, 40000)
    relay.from_pod(unexpected, b"block 1")
    content, sender = received(relay, tracee)
    assert content == b"block 1"
    entry = relay.table.lookup(False, sender[1], tracee.getsockname()[1])
    assert entry is not None
    assert entry[0] == unexpected
    tracee.sendto(b"ack", sender)
    relay.until_sent(2)
    assert relay.sent[1] == (unexpected, b"ack")


def test_an_ipv4_peer_of_a_dual_stack_socket(relay: Relay) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as tracee:
        tracee.setblocking(False)
        host, port = relay.peer(MAPPED)
        tracee.sendto(b"q", (f"::ffff:{host}", port))
        relay.until_sent(1)
        assert relay.sent == [(DNS, b"q")]
        assert [message.family for message in relay.opened] == [4]
        relay.from_pod(DNS, b"a")
        assert received(relay, tracee)[0] == b"a"
        entry = relay.table.lookup(False, port, tracee.getsockname()[1])
        assert entry is not None
        assert entry[0] == MAPPED


def test_ipv6(relay: Relay) -> None:
    address = relay.peer(DNS6, family=socket.AF_INET6)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as tracee:
        tracee.setblocking(False)
        tracee.sendto(b"q", address)
        relay.until_sent(1)
        assert [message.family for message in relay.opened] == [6]
        relay.from_pod(DNS6, b"a")
        content, sender = received(relay, tracee)
        assert (content, sender[:2]) == (b"a", address)


def test_everything_is_closed_when_the_socket_has_gone(relay: Relay, tracee: socket.socket) -> None:
    before = len(os.listdir("/proc/self/fd"))
    address = relay.peer(DNS)
    tracee.sendto(b"q", address)
    relay.until_sent(1)
    relay.now += 10
    relay.traffic.sweep()
    assert relay.ended == []
    tracee.close()
    relay.traffic.sweep()
    relay.pod.until(lambda: relay.ended)
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert relay.table.lookup(False, address[1], 1) is None
    assert address[1] not in {local for local, _ in udp_ports()}


def test_a_connected_socket_that_never_sends_keeps_its_peer(relay: Relay, tracee: socket.socket) -> None:
    tracee.connect(relay.peer(DNS))
    relay.now += 1000
    relay.traffic.sweep()
    tracee.send(b"at last")
    relay.until_sent(1)


def test_a_peer_that_nobody_uses_goes(relay: Relay, tracee: socket.socket) -> None:
    address = relay.peer(DNS)
    relay.traffic.sweep()
    assert address[1] in {local for local, _ in udp_ports()}
    relay.now += 10
    relay.traffic.sweep()
    assert address[1] not in {local for local, _ in udp_ports()}


def test_an_idle_pod_socket_is_closed_and_opened_again(relay: Relay, tracee: socket.socket) -> None:
    address = relay.peer(DNS)
    tracee.sendto(b"1", address)
    relay.until_sent(1)
    relay.now += IDLE_POD_SOCKET_S
    relay.traffic.sweep()
    relay.pod.until(lambda: relay.ended)
    tracee.sendto(b"2", address)
    relay.until_sent(2)
    assert len(relay.opened) == 2


def test_a_pod_without_that_family(relay: Relay, tracee: socket.socket) -> None:
    failures = []

    def refuse(message: OpenUdp, reply: Any) -> None:
        failures.append(message)
        reply(Failed(errno.EAFNOSUPPORT))

    relay.pod.answers[OpenUdp] = refuse
    address = relay.peer(DNS)
    tracee.sendto(b"1", address)
    relay.pod.until(lambda: failures)
    relay.pod.settle()
    tracee.sendto(b"2", address)
    relay.pod.settle()
    assert len(failures) == 1  # not asked again at once
    relay.pod.answers[OpenUdp] = relay._on_open
    relay.now += 5
    tracee.sendto(b"3", address)
    relay.until_sent(1)
    assert relay.sent == [(DNS, b"3")]


def test_bounds(relay: Relay, tracee: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "MAX_PEERS", 3)
    monkeypatch.setattr(udp, "MAX_ASSOCIATIONS", 2)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1, 6):
        relay.peer(Address(DNS.ip, number))
    assert len(os.listdir("/proc/self/fd")) == before + 3
    for key in range(2, 6):
        relay.now += 1
        relay.peer(DNS, key=key)
    assert len(os.listdir("/proc/self/fd")) == before + 2


def test_the_port_that_the_program_asked_for(relay: Relay, tracee: socket.socket) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as stand_in:
        stand_in.bind(("127.0.0.1", 0))
        address = stand_in.getsockname()
        relay.traffic.add(UdpPeer(1, 4, OTHER, 40123), stand_in.detach())
    tracee.sendto(b"x", address)
    relay.until_sent(1)
    assert relay.opened[0].port == 40123


def test_a_refusal_closes_the_stand_in_and_is_told(relay: Relay, tracee: socket.socket) -> None:
    tracee.connect(relay.peer(OTHER))
    tracee.send(b"anybody?")
    relay.until_sent(1)
    stream = relay.opened[0].stream
    for report in (
        DatagramFailed(stream, OTHER, errno.EMSGSIZE),
        DatagramFailed(stream, DNS, errno.ECONNREFUSED),
        DatagramFailed(stream + 2, OTHER, errno.ECONNREFUSED),
    ):
        relay.traffic.failed(report)
    assert not relay.told
    relay.traffic.failed(DatagramFailed(stream, OTHER, errno.ECONNREFUSED))
    assert relay.told == [PeerRefused(1, OTHER)]
    tracee.send(b"?")
    with pytest.raises(ConnectionRefusedError):
        tracee.recv(10)


def test_echo_messages_have_the_identifier_of_the_tracee(relay: Relay, tracee: socket.socket) -> None:
    peer = Address(OTHER.ip, 0)
    asked: list[OpenPing] = []

    def open_ping(message: OpenPing, reply: Any) -> None:
        asked.append(message)
        relay.pod.agent.datagrams(message.stream, lambda each: relay.sent.append(unpack_datagram(each)), relay.ended.append)
        reply(UdpOpened(POD_LOCAL))

    relay.pod.answers[OpenPing] = open_ping
    with socket.socket(type=socket.SOCK_DGRAM) as stand_in:
        stand_in.bind(("127.0.0.1", 0))
        address = stand_in.getsockname()
        relay.traffic.add(UdpPeer(1, 4, peer, 0, True), stand_in.detach())
    tracee.sendto(b"\x08\0\0\0\0\0\0\1hi", address)
    relay.until_sent(1)
    assert relay.sent == [(peer, b"\x08\0\0\0\0\0\0\1hi")]
    relay.pod.agent.send_datagram(asked[0].stream, pack_datagram(peer, b"\0\0\0\0\x82\x35\0\1hi"))
    content, _ = received(relay, tracee)
    assert content[4:] == tracee.getsockname()[1].to_bytes(2, "big") + b"\0\1hi"


def test_a_name_query_is_answered_from_the_cache(pod: Any, tracee: socket.socket) -> None:
    relay = Relay(pod, DnsConfig())
    address = relay.peer(DNS)
    for id in (1, 2):
        tracee.sendto(query(GREETER, id=id), address)
        if id == 1:
            relay.until_sent(1)
            relay.from_pod(DNS, zone.answer(query(GREETER, id=1)))
        content, sender = received(relay, tracee)
        assert (content[:2], sender) == (id.to_bytes(2, "big"), address)
    assert len(relay.sent) == 1
    relay.traffic.close()
