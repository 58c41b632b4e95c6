from __future__ import annotations

from typing import Any

import pytest
from mirrord_trace.supervisor.config.dns import read_dns
from mirrord_trace.supervisor.config.outgoing import read_outgoing
from mirrord_trace.supervisor.config.schema import lengthen, validate
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError
from mirrord_trace.syscalls.name_rules import DnsConfig, NameRule

A, B, BELOW = NameRule("a.example"), NameRule("b.example"), NameRule("c.example", below=True)


def read(dns: Any, outgoing_filter: dict[str, Any] | None = None) -> tuple[DnsConfig, list[str]]:
    network = {"dns": dns, "outgoing": {"filter": outgoing_filter or {}}}
    root = validate("m.json", lengthen("m.json", {"feature": {"network": network}})).feature.network
    warnings: list[str] = []
    return read_dns(root.dns, read_outgoing(root.outgoing), warnings), warnings


def test_the_defaults() -> None:
    assert read(True) == (DnsConfig(), [])
    assert read({"cache": False}) == (DnsConfig(cache=False), [])


def test_off_says_what_then_does_nothing() -> None:
    assert read(False) == (DnsConfig(cache=False), [])
    config, warnings = read({"enabled": False, "filter": {"local": "a.example"}}, {"remote": ["b.example"]})
    assert config == DnsConfig(cache=False)
    assert len(warnings) == 2


def test_lists_of_names() -> None:
    assert read({"filter": {"local": ["A.example.", "*.c.example"]}}) == (DnsConfig(only_local=(A, BELOW)), [])
    assert read({"filter": {"remote": []}}) == (DnsConfig(only_remote=()), [])


def test_what_names_no_host() -> None:
    config, warnings = read({"filter": {"remote": ["a.example:53", "10.0.0.0/8", ":53"]}})
    assert config == DnsConfig(only_remote=(A,))
    assert [line.split(": ")[1].split()[0] for line in warnings] == ["a.example:53", "10.0.0.0/8", ":53"]


def test_hosts_of_the_outgoing_filter() -> None:
    assert read(True, {"local": ["tcp://a.example:80", "10.0.0.1"]}) == (DnsConfig(only_local=(A,), learn=True), [])
    assert read(True, {"remote": ["a.example"]}) == (DnsConfig(learn=True), []), "the pod resolves all names anyway"
    here = read({"filter": {"local": ["a.example"]}}, {"local": ["b.example"]})[0]
    assert here == DnsConfig(only_local=(A, B), learn=True)
    there = read({"filter": {"remote": ["a.example"]}}, {"remote": ["b.example", "a.example"]})[0]
    assert there.only_remote is not None
    assert set(there.only_remote) == {A, B}
    assert read(True, {"local": ["10.0.0.1"]}) == (DnsConfig(), [])


def test_a_rule_that_is_refused() -> None:
    with pytest.raises(UsageError, match=r"dns\.filter\.local: 'a b'") as refused:
        read({"filter": {"local": ["a b"]}})
    assert refused.value.exit_status == EXIT_USAGE
