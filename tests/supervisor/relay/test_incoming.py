from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Address, Done, Failed, Incoming, Message, Subscribe, Unsubscribe
from mirrord_trace.supervisor.relay.addresses import AddressTable
from mirrord_trace.supervisor.relay.incoming import IncomingTraffic
from mirrord_trace.supervisor.relay.loopback import packed
from mirrord_trace.syscalls.requests import Listen

PEER = Address(bytes([10, 0, 0, 9]), 51000)
LOCAL = Address(bytes([10, 0, 0, 1]), 80)
POD_PORT = 80


def listen_request(sock: socket.socket, port: int = POD_PORT, **more: Any) -> Listen:
    given = {"multipath": False, "mirror": False, "rules": "", "flush": False, **more}
    return Listen(os.fstat(sock.fileno()).st_ino, packed(sock.getsockname()[:2]), port, **given)


class Relay:
    """Incoming traffic over a fake pod; `visit` is a stolen connection."""

    def __init__(self, pod: Any) -> None:
        self.pod = pod
        self.table = AddressTable()
        self.traffic = IncomingTraffic(pod.loop, pod.session, self.table)
        pod.session._on_notice = self.traffic.accept
        self.replies: list[Message] = []

    def listen(self, sock: socket.socket, port: int = POD_PORT) -> None:
        self.traffic.listen(listen_request(sock, port), self.replies.append)
        self.pod.until(lambda: self.replies)

    def visit(self, port: int = POD_PORT, peer: Address = PEER) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        stream = self.pod.agent.new_stream()
        self.pod.agent.notify(Incoming(stream, port, peer, LOCAL))
        self.pod.agent.bridge(stream, theirs)
        return ours

    def asked(self, kind: type[Message]) -> list[Message]:
        return [message for message in self.pod.asked if isinstance(message, kind)]


@pytest.fixture
def relay(pod: Any) -> Iterator[Relay]:
    relay = Relay(pod)
    yield relay
    relay.traffic.close()


def listener(host: str = "127.0.0.1", family: int = socket.AF_INET, v6only: bool = False) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
        sock.bind((host, 0))
    except OSError as error:
        sock.close()
        pytest.skip(f"cannot bind {host}: {error}")
    sock.listen()
    sock.setblocking(False)
    return sock


def accept(relay: Relay, sock: socket.socket) -> tuple[socket.socket, tuple[str, int]]:
    accepted: list[Any] = []

    def try_it() -> bool:
        try:
            accepted.append(sock.accept())
        except BlockingIOError:
            return False
        return True

    relay.pod.until(try_it)
    connection, peer = accepted[0]
    connection.setblocking(False)
    return connection, peer


def received(relay: Relay, sock: socket.socket) -> bytes | OSError:
    got: list[bytes | OSError] = []

    def try_it() -> bool:
        try:
            got.append(sock.recv(100))
        except BlockingIOError:
            return False
        except OSError as error:
            got.append(error)
        return True

    relay.pod.until(try_it)
    return got[0]


@pytest.mark.parametrize(
    ("host", "family", "v6only"),
    [
        ("127.0.0.1", socket.AF_INET, False),
        ("0.0.0.0", socket.AF_INET, False),
        ("127.3.2.1", socket.AF_INET, False),
        ("::", socket.AF_INET6, False),
        ("::", socket.AF_INET6, True),
        ("::1", socket.AF_INET6, False),
    ],
)
def test_a_visit_reaches_the_listener(relay: Relay, host: str, family: int, v6only: bool) -> None:
    with listener(host, family, v6only) as sock:
        relay.listen(sock)
        assert relay.replies == [Done()]
        visitor = relay.visit()
        connection, peer = accept(relay, sock)
        is_v6 = peer[0] == "::1"
        assert peer[0] in ("127.0.0.1", "::ffff:127.0.0.1", "::1")
        assert is_v6 == (v6only or host == "::1")
        assert relay.table.lookup(is_v6, peer[1], sock.getsockname()[1]) == (PEER, LOCAL)
        visitor.send(b"ping")
        assert received(relay, connection) == b"ping"
        connection.send(b"pong")
        assert received(relay, visitor) == b"pong"
        visitor.shutdown(socket.SHUT_WR)
        assert received(relay, connection) == b""
        connection.close()
        assert received(relay, visitor) == b""
        relay.pod.until(lambda: relay.table.lookup(is_v6, peer[1], sock.getsockname()[1]) is None)
        visitor.close()


def test_an_address_of_this_machine_that_is_not_loopback(relay: Relay) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError as error:
            pytest.skip(f"this machine has no address but loopback: {error}")
        host = probe.getsockname()[0]
    with listener(host) as sock:
        relay.listen(sock)
        with relay.visit():
            connection, peer = accept(relay, sock)
            assert peer[0] == "127.0.0.1"
            connection.close()


def test_a_second_listener_shares_the_port(relay: Relay) -> None:
    with listener() as second:
        with listener() as first:
            relay.listen(first)
            relay.listen(second)
            relay.listen(second)
            assert relay.replies == [Done()] * 3
            assert relay.asked(Subscribe) == [Subscribe(POD_PORT, False, "", False)]
        relay.traffic._watch.check()
        relay.pod.settle()
        assert relay.asked(Unsubscribe) == []
        with relay.visit():
            accept(relay, second)[0].close()
    relay.traffic._watch.check()
    relay.pod.until(lambda: relay.asked(Unsubscribe))
    assert relay.asked(Unsubscribe) == [Unsubscribe(POD_PORT)]


def test_a_port_that_cannot_be_stolen(relay: Relay) -> None:
    relay.pod.answers[Subscribe] = lambda message, reply: reply(Failed(errno.EPERM, "no CAP_NET_ADMIN"))
    with listener() as sock:
        relay.listen(sock)
        assert relay.replies == [Failed(errno.EPERM, "no CAP_NET_ADMIN")]
        del relay.pod.answers[Subscribe]
        relay.replies.clear()
        relay.listen(sock)
        assert relay.replies == [Done()]


def test_the_port_is_stolen_again_after_it_was_given_back(relay: Relay) -> None:
    for _ in range(2):
        with listener() as sock:
            relay.replies.clear()
            relay.listen(sock)
            assert relay.replies == [Done()]
        relay.traffic._watch.check()
    relay.pod.until(lambda: len(relay.asked(Unsubscribe)) == 2)
    kinds = [type(message) for message in relay.pod.asked if isinstance(message, (Subscribe, Unsubscribe))]
    assert kinds == [Subscribe, Unsubscribe, Subscribe, Unsubscribe]


def test_a_visit_that_nobody_accepts_is_reset(relay: Relay) -> None:
    sock = listener()
    relay.listen(sock)
    sock.close()
    with relay.visit() as visitor:
        assert received(relay, visitor) == b""
    relay.pod.until(lambda: relay.asked(Unsubscribe))
    assert relay.pod.session.connection.open_streams == 0


def test_a_visit_to_a_port_that_was_never_stolen_is_reset(relay: Relay) -> None:
    with relay.visit(port=81):
        relay.pod.settle()
        relay.pod.until(lambda: relay.pod.agent.connection.open_streams == 0)


def test_the_listener_goes_before_the_port_is_stolen(relay: Relay) -> None:
    late: list[Any] = []
    relay.pod.answers[Subscribe] = lambda message, reply: late.append(reply)
    sock = listener()
    relay.traffic.listen(listen_request(sock), relay.replies.append)
    relay.pod.until(lambda: late)
    sock.close()
    relay.traffic._watch.check()
    late[0](Done())
    relay.pod.until(lambda: relay.asked(Unsubscribe))


def test_many_visits_have_their_own_peers(relay: Relay) -> None:
    with listener() as sock:
        relay.listen(sock)
        peers = [Address(bytes([10, 0, 1, number]), 1000 + number) for number in range(50)]
        visitors = [relay.visit(peer=peer) for peer in peers]
        seen = []
        for _ in peers:
            connection, (_, port) = accept(relay, sock)
            entry = relay.table.lookup(False, port, sock.getsockname()[1])
            assert entry is not None
            seen.append(entry[0])
            connection.close()
        assert sorted(seen, key=lambda peer: peer.port) == peers
        for visitor in visitors:
            visitor.close()


def test_a_mirrored_port_with_rules(relay: Relay) -> None:
    with listener() as sock:
        relay.traffic.listen(listen_request(sock, mirror=True, rules='{"marker":true}'), relay.replies.append)
        relay.pod.until(lambda: relay.replies)
        assert relay.asked(Subscribe) == [Subscribe(POD_PORT, True, '{"marker":true}', False)]
        visitor = relay.visit()
        connection, _ = accept(relay, sock)
        visitor.send(b"a copy")
        assert received(relay, connection) == b"a copy"
        connection.close()
        visitor.close()


def test_a_multipath_listener_is_known_by_its_port(relay: Relay) -> None:
    with listener() as sock:
        request = listen_request(sock, multipath=True)
        relay.traffic.listen(replace(request, inode=request.inode + 1_000_000), relay.replies.append)
        relay.pod.until(lambda: relay.replies)
        relay.traffic._watch.check()
        relay.pod.settle()
        assert relay.asked(Unsubscribe) == []
    relay.traffic._watch.check()
    relay.pod.until(lambda: relay.asked(Unsubscribe))


def test_a_client_of_the_protocol_can_have_a_session_for_each_replica(relay: Relay, other_pod: Any) -> None:
    """Fan-in: the listeners of one program, subscribed over two sessions; streams are numbered by each session itself."""
    other = IncomingTraffic(other_pod.loop, other_pod.session, relay.table)
    other_pod.session._on_notice = other.accept
    with listener() as sock:
        relay.listen(sock)
        replies: list[Message] = []
        other.listen(listen_request(sock), replies.append)
        other_pod.until(lambda: replies)
        peers = [PEER, Address(bytes([10, 0, 9, 9]), 4)]
        visitors = [relay.visit(peer=peers[0])]
        seen = [accept(relay, sock)]
        ours, theirs = socket.socketpair()
        stream = other_pod.agent.new_stream()
        other_pod.agent.notify(Incoming(stream, POD_PORT, peers[1], LOCAL))
        other_pod.agent.bridge(stream, theirs)
        relay.pod = other_pod
        seen.append(accept(relay, sock))
        for (connection, (_, port)), peer in zip(seen, peers, strict=True):
            entry = relay.table.lookup(False, port, sock.getsockname()[1])
            assert entry is not None
            assert entry[0] == peer
            connection.close()
        for visitor in (*visitors, ours):
            visitor.close()
    other.close()


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_port_that_is_not_given_back_is_told_unless_all_ends(
    relay: Relay, is_closed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """The end of the session gives all ports back, and may be faster than the answer."""

    def refuse(message: Message, reply: Any) -> None:
        if is_closed:
            relay.traffic.close()
        reply(Failed(errno.EIO, "no way"))

    relay.pod.answers[Unsubscribe] = refuse
    with listener() as sock:
        relay.listen(sock)
    relay.pod.until(lambda: relay.asked(Unsubscribe) and relay.pod.session.connection.open_requests == 0)
    assert ("did not give port 80 back to the pod: no way" in capfd.readouterr().err) is not is_closed
