from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Message
from mirrord_trace.supervisor.relay import dns_message
from mirrord_trace.supervisor.relay.dns import FOREVER_S, MOST_PENDING, Dns, is_name_server
from mirrord_trace.supervisor.relay.dns_local import LocalNames
from mirrord_trace.supervisor.targets.demo import dns as zone
from mirrord_trace.syscalls.name_rules import DnsConfig, parse_name_rule
from mirrord_trace.syscalls.requests import NamesLearnt
from queries import DOMAIN, GREETER, GREETER4, query

LEARN = DnsConfig(cache=False, learn=True)


class Names:
    """A Dns whose pod answers from the demo's zone, on a machine with one entry in its hosts file."""

    def __init__(self, pod: Any, folder: Path, config: DnsConfig) -> None:
        (folder / "hosts").write_text("127.0.0.9 here.example\n")
        self.told: list[Message] = []
        self.replies: list[bytes] = []
        self.now = 1000.0
        local = LocalNames(pod.loop, folder / "hosts", folder / "none")
        self.dns = Dns(config, local, self.told.append, lambda: self.now)

    def ask(self, message: bytes, *, by_tcp: bool = False) -> str:
        """Who has answered; the answer is the last of `replies`."""
        if self.dns.ask(self, "server", message, self.replies.append, by_tcp=by_tcp):
            return "relay"
        answer = zone.answer(message)
        self.dns.answered(self, "server", answer)
        self.replies.append(answer)
        return "pod"

    def addresses(self) -> tuple[bytes, ...]:
        """What the last answer says."""
        read = dns_message.read_response(self.replies[-1])
        assert read is not None
        return read.addresses()[1]


@pytest.fixture
def names(pod: Any, tmp_path: Path) -> Any:
    return lambda config: Names(pod, tmp_path, config)


def test_the_cache_answers_the_second_time(names: Any) -> None:
    kept = names(DnsConfig())
    assert [kept.ask(query(GREETER)), kept.ask(query(GREETER.upper(), id=8))] == ["pod", "relay"]
    assert kept.addresses() == (GREETER4,)
    assert kept.replies[-1][:2] == b"\0\x08"
    kept.now += 6
    assert kept.ask(query(GREETER)) == "pod"
    assert not kept.told
    off = names(DnsConfig(cache=False))
    assert off.dns.is_idle
    assert [off.ask(query(GREETER)), off.ask(query(GREETER))] == ["pod", "pod"]


def test_a_long_answer_is_kept_for_those_who_can_take_it(names: Any) -> None:
    kept = names(DnsConfig())
    message = query(f"long.{DOMAIN}")
    assert kept.ask(message, by_tcp=True) == "pod"
    assert len(kept.replies[-1]) > 512
    assert kept.ask(message, by_tcp=True) == "relay"
    assert kept.ask(message) == "pod", "by UDP it would be too long"


def test_an_answer_that_nobody_asked_for_is_not_kept(names: Any) -> None:
    kept = names(DnsConfig(learn=True))
    kept.dns.answered(kept, "server", zone.answer(query(GREETER)))
    assert not kept.told
    assert kept.ask(query(GREETER)) == "pod"
    assert kept.ask(b"no query at all, but long enough") == "pod"
    for id in range(MOST_PENDING + 1):
        kept.dns.ask(kept, "server", query("a.example", id=id), kept.replies.append)


def test_names_are_told_before_the_program_has_the_answer(names: Any) -> None:
    learning = names(LEARN)
    assert learning.dns.wants_pod_files
    learning.dns.learn_files(f"search {DOMAIN} cluster.local\n".encode(), b"10.9.9.9 db db.example\n")
    assert learning.told == [NamesLearnt(("db", "db.example"), (bytes((10, 9, 9, 9)),), FOREVER_S)]
    learning.told.clear()
    learning.ask(query(f"alias.{DOMAIN}"))
    expected = (f"alias.{DOMAIN}", "alias", "alias.demo.svc", GREETER, "greeter", "greeter.demo.svc")
    assert learning.told == [NamesLearnt(expected, (GREETER4,), 5)]
    learning.told.clear()
    learning.ask(query(f"missing.{DOMAIN}"))
    assert not learning.told


def test_names_of_this_machine(names: Any) -> None:
    filtered = names(DnsConfig(only_local=(parse_name_rule("*.example"),), learn=True))
    assert filtered.ask(query("Here.example")) == "relay"
    assert filtered.addresses() == (bytes((127, 0, 0, 9)),)
    assert filtered.told == [NamesLearnt(("here.example",), (bytes((127, 0, 0, 9)),), 5)]
    assert filtered.ask(query("there.example")) == "relay"
    read = dns_message.read_response(filtered.replies[-1])
    assert read is not None
    assert read.status == dns_message.SERVFAIL, "this machine has no name server"
    assert filtered.ask(query(GREETER)) == "pod"
    filtered.dns.close()


def test_a_name_of_this_machine_with_a_search_domain_of_the_pod(names: Any) -> None:
    filtered = names(DnsConfig(only_local=(parse_name_rule("here.example"),)))
    filtered.dns.learn_files(f"search {DOMAIN}\n".encode(), b"")
    assert filtered.ask(query(f"here.example.{DOMAIN}")) == "relay"
    assert filtered.addresses() == (bytes((127, 0, 0, 9)),)


def test_all_but_some_names_of_this_machine(names: Any) -> None:
    filtered = names(DnsConfig(only_remote=(parse_name_rule(GREETER),)))
    assert [filtered.ask(query(GREETER)), filtered.ask(query("here.example"))] == ["pod", "relay"]


def test_the_port_of_name_servers() -> None:
    assert is_name_server(53)
    assert not is_name_server(5353)
