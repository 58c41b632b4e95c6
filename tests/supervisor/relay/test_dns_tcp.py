from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.supervisor.relay.dns import Dns
from mirrord_trace.supervisor.relay.dns_local import LocalNames
from mirrord_trace.supervisor.relay.dns_tcp import DnsConnection, NameConnections
from mirrord_trace.supervisor.targets.demo import dns as zone
from mirrord_trace.syscalls.name_rules import DnsConfig, parse_name_rule
from queries import DOMAIN, GREETER, query

SERVER = Address(bytes((10, 96, 0, 10)), 53)


class Connection:
    """A program and a pod with a DnsConnection between them."""

    def __init__(self, pod: Any, folder: Path) -> None:
        (folder / "hosts").write_text("127.0.0.9 here.example\n")
        config = DnsConfig(only_local=(parse_name_rule("*.example"),))
        self.dns = Dns(config, LocalNames(pod.loop, folder / "hosts", folder / "none"), lambda message: None)
        self.loop = pod
        self.program, program = socket.socketpair()
        self.pod, theirs = socket.socketpair()
        self.ended: list[DnsConnection] = []
        for each in (self.program, self.pod):
            each.setblocking(False)
        self.connection = DnsConnection(pod.loop, self.dns, SERVER, program, theirs, self.ended.append)

    def receive(self, sock: socket.socket, size: int) -> bytes:
        received = bytearray()

        def arrived() -> bool:
            try:
                chunk = sock.recv(size - len(received))
            except BlockingIOError:
                return False
            received.extend(chunk)
            return len(received) == size or not chunk

        self.loop.until(arrived)
        return bytes(received)

    def close(self) -> None:
        self.connection.close()
        self.program.close()
        self.pod.close()


@pytest.fixture
def connection(pod: Any, tmp_path: Path) -> Iterator[Connection]:
    connection = Connection(pod, tmp_path)
    yield connection
    connection.close()


def framed(message: bytes) -> bytes:
    return len(message).to_bytes(2, "big") + message


def test_queries_go_to_the_pod_the_cache_or_this_machine(connection: Connection) -> None:
    asked = framed(query(GREETER, id=1))
    for size in (1, 7):
        connection.program.send(asked[:size])
        asked = asked[size:]
    connection.program.send(asked + framed(query("here.example", id=2)))
    assert connection.receive(connection.pod, len(framed(query(GREETER)))) == framed(query(GREETER, id=1))
    here = connection.receive(connection.program, 2 + len(query("here.example")) + 16)
    assert here[2:4] == b"\0\2"
    answer = framed(zone.answer(query(GREETER, id=1)))
    connection.pod.send(answer)
    assert connection.receive(connection.program, len(answer)) == answer
    connection.program.send(framed(query(GREETER, id=3)))
    assert connection.receive(connection.program, len(answer))[2:4] == b"\0\3", "from the cache"


def test_long_answers_and_both_ends(connection: Connection) -> None:
    asked = framed(query(f"long.{DOMAIN}", zone.TXT))
    connection.program.send(asked)
    assert connection.receive(connection.pod, len(asked)) == asked
    connection.program.shutdown(socket.SHUT_WR)
    assert connection.receive(connection.pod, 1) == b""
    answer = framed(zone.answer(asked[2:]))
    connection.pod.send(answer)
    connection.pod.shutdown(socket.SHUT_WR)
    assert connection.receive(connection.program, len(answer)) == answer
    assert connection.receive(connection.program, 1) == b""
    connection.loop.until(lambda: connection.ended)


def test_what_is_no_dns_is_copied(connection: Connection) -> None:
    text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    connection.program.send(text)
    assert connection.receive(connection.pod, len(text)) == text
    connection.pod.send(b"HTTP")
    assert connection.receive(connection.program, 4) == b"HTTP"


def test_who_speaks_first_is_no_name_server(connection: Connection) -> None:
    connection.pod.send(b"220 hello\r\n")
    assert connection.receive(connection.program, 11) == b"220 hello\r\n"
    connection.program.send(b"EHLO")
    assert connection.receive(connection.pod, 4) == b"EHLO"


def test_the_end_of_one_side_ends_the_other(connection: Connection) -> None:
    connection.pod.close()
    assert connection.receive(connection.program, 1) == b""
    connection.program.close()
    connection.loop.until(lambda: connection.ended)


def test_a_reader_that_does_not_read_stops_the_sender(connection: Connection) -> None:
    connection.program.send(b"no query, but long enough")
    connection.receive(connection.pod, 25)
    sent = 0
    for _ in range(200):
        try:
            sent += connection.pod.send(bytes(65536))
        except BlockingIOError:
            connection.loop.settle()
    assert sent < 100 * 65536
    assert len(connection.receive(connection.program, sent)) == sent


def test_only_port_53_is_read(pod: Any, tmp_path: Path) -> None:
    joined: list[int] = []

    class Session:
        def bridge(self, stream: int, sock: socket.socket) -> None:
            joined.append(stream)
            sock.close()

    def join(config: DnsConfig, port: int) -> None:
        dns = Dns(config, LocalNames(pod.loop, tmp_path / "x", tmp_path / "x"), lambda message: None)
        connections = NameConnections(pod.loop, Session(), dns)  # type: ignore[arg-type]
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            theirs.setblocking(False)
            connections.join(Address(SERVER.ip, port), port, theirs)
            connections_end: list[bytes] = []

            def ended() -> bool:
                try:
                    connections_end.append(ours.recv(1))
                except BlockingIOError:
                    return False
                return True

            pod.until(ended)
        pod.until(lambda: not connections.connections)

    join(DnsConfig(), 80)
    join(DnsConfig(cache=False), 53)
    join(DnsConfig(), 53)
    assert joined == [80, 53, 53]
