from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mirrord_trace.supervisor.relay import dns_local, dns_message
from mirrord_trace.supervisor.relay.dns_local import LocalNames, hosts_entries, search_domains
from mirrord_trace.supervisor.targets.demo import dns
from queries import GREETER, GREETER4, query


def _on_one_port() -> tuple[socket.socket, socket.socket]:
    """A port that is free for UDP may be some client's for TCP."""
    while True:
        udp = socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        try:
            return udp, socket.create_server(udp.getsockname())
        except OSError:
            udp.close()


class Machine:
    """This machine's resolver files, and a name server of its own on a free port, over UDP and TCP."""

    def __init__(self, pod: Any, folder: Path) -> None:
        self.pod = pod
        self.folder = folder
        self.udp, self.tcp = _on_one_port()
        self.udp.setblocking(False)
        self.tcp.setblocking(False)
        self.names = LocalNames(pod.loop, folder / "hosts", folder / "resolv.conf")
        self.replies: list[bytes] = []

    def ask(self, message: bytes, *names: str, by_tcp: bool = False) -> None:
        asked = dns_message.read_query(message)
        assert asked is not None
        self.names.ask(message, asked, names or (asked.name,), by_tcp, self.replies.append)

    def asked(self) -> tuple[bytes, Any]:
        came: list[Any] = []

        def arrived() -> bool:
            try:
                came.append(self.udp.recvfrom(65535))
            except BlockingIOError:
                return False
            return True

        self.pod.until(arrived)
        return came[0]

    def reply(self) -> dns_message.Response:
        self.pod.until(lambda: self.replies)
        read = dns_message.read_response(self.replies.pop())
        assert read is not None
        return read


@pytest.fixture
def machine(pod: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    machine = Machine(pod, tmp_path)
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    monkeypatch.setattr(dns_local, "_PORT", machine.udp.getsockname()[1])
    with machine.udp, machine.tcp:
        yield machine
        machine.names.close()


def test_its_hosts_file_comes_first(machine: Machine) -> None:
    (machine.folder / "hosts").write_text("127.0.0.9 My.Host alias # x\n::9 my.host\n")
    machine.ask(query("my.host"))
    assert machine.reply().addresses()[1] == (bytes((127, 0, 0, 9)),)
    machine.ask(query("my.host.search.domain", 28), "my.host.search.domain", "my.host")
    assert machine.reply().addresses()[1] == (bytes(15) + b"\x09",)


def test_its_name_server_is_asked_under_an_id_of_our_own(machine: Machine) -> None:
    machine.ask(query(GREETER, id=1))
    message, peer = machine.asked()
    forged = dns.answer(query(f"other.{GREETER}"))
    machine.udp.sendto(message[:2] + forged[2:], peer)
    machine.udp.sendto(dns.answer(message), peer)
    reply = machine.reply()
    assert (reply.id, reply.addresses()[1]) == (1, (GREETER4,))
    assert not machine.replies


def test_over_tcp(machine: Machine) -> None:
    machine.ask(query(GREETER, id=2), by_tcp=True)
    came: list[socket.socket] = []

    def accepted() -> bool:
        try:
            came.append(machine.tcp.accept()[0])
        except BlockingIOError:
            return False
        return True

    machine.pod.until(accepted)
    with came[0] as connection:
        connection.setblocking(False)
        received = bytearray()

        def arrived() -> bool:
            try:
                received.extend(connection.recv(1000))
            except BlockingIOError:
                return False
            return len(received) >= 2 and len(received) == 2 + int.from_bytes(received[:2], "big")

        machine.pod.until(arrived)
        answer = dns.answer(bytes(received[2:]))
        for part in (len(answer).to_bytes(2, "big")[:1], len(answer).to_bytes(2, "big")[1:] + answer[:9], answer[9:]):
            connection.send(part)
        assert machine.reply().addresses()[1] == (GREETER4,)


def test_a_silent_or_missing_server_is_a_failure(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns_local, "TIMEOUT_S", 0.01)
    machine.ask(query("a.example"))
    assert machine.reply().status == dns_message.SERVFAIL
    machine.udp.close()
    machine.ask(query("a.example"))
    assert machine.reply().status == dns_message.SERVFAIL
    (machine.folder / "resolv.conf").unlink()
    machine.ask(query("a.example"))
    assert machine.reply().status == dns_message.SERVFAIL


def test_close_forgets_the_queries_under_way(machine: Machine) -> None:
    machine.ask(query("a.example"))
    machine.names.close()
    assert not machine.replies


def test_resolver_files() -> None:
    hosts = "# c\n10.0.0.1 a B.c. # d\nbad x\n::1\n fe80::1%lo z\n"
    assert [names for _, names in hosts_entries(hosts)] == [frozenset({"a", "b.c"}), frozenset({"z"})]
    assert search_domains("domain x\nsearch A.b. c\nnameserver 1.1.1.1\n") == ("a.b", "c")
    assert search_domains("") == ()
