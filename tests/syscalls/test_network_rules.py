from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.name_rules import NameRule
from mirrord_trace.syscalls.network_rules import (
    AddressRule,
    FilterError,
    OutgoingConfig,
    decide_outgoing,
    is_loopback,
    parse_rule,
    plain_ip,
)


def address(ip: str, port: int = 80) -> Address:
    return Address(ipaddress.ip_address(ip).packed, port)


def outgoing(
    peer: Address,
    protocol: str = "tcp",
    *,
    dns: bool = True,
    ipv6: bool = True,
    names: tuple[str, ...] = (),
    **config: object,
) -> Decision:
    return decide_outgoing(
        OutgoingConfig(**config),  # type: ignore[arg-type]
        dns=dns,
        ipv6=ipv6,
        protocol=protocol,
        peer=peer,
        own_ports={8080},
        names=names,
    )


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize("ip", ["10.0.0.1", "127.0.0.1", "::1", "2001:db8::1", "::ffff:10.0.0.1", "0.0.0.0", "::"])
def test_outgoing_leaves_from_the_pod(protocol: str, ip: str) -> None:
    assert outgoing(address(ip), protocol) == Decision(Route.REMOTE, Reason.OUTGOING)


def test_each_protocol_can_be_off() -> None:
    off = Decision(Route.LOCAL, Reason.OUTGOING_OFF)
    assert outgoing(address("10.0.0.1"), "tcp", tcp=False) == off
    assert outgoing(address("10.0.0.1"), "udp", tcp=False).route is Route.REMOTE
    assert outgoing(address("10.0.0.1"), "udp", udp=False) == off
    assert outgoing(address("2001:db8::1"), ipv6=False) == off
    assert outgoing(address("::ffff:10.0.0.1"), ipv6=False).route is Route.REMOTE


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"])
def test_own_listeners_and_ignored_loopback_stay_local(ip: str) -> None:
    assert outgoing(address(ip, 8080)) == Decision(Route.LOCAL, Reason.OWN_LISTENER)
    assert outgoing(address(ip), ignore_localhost=True) == Decision(Route.LOCAL, Reason.IGNORE_LOCALHOST)


def test_an_own_port_elsewhere_is_not_ours() -> None:
    assert outgoing(address("10.0.0.1", 8080), ignore_localhost=True) == Decision(Route.REMOTE, Reason.OUTGOING)


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_name_servers_follow_dns_whatever_else_is_set(protocol: str) -> None:
    server = address("10.96.0.10", 53)
    rules = (parse_rule(":53"),)
    assert outgoing(server, protocol, tcp=False, udp=False) == Decision(Route.REMOTE, Reason.DNS)
    assert outgoing(server, protocol, only_local=rules) == Decision(Route.REMOTE, Reason.DNS)
    assert outgoing(server, protocol, dns=False, only_remote=rules) == Decision(Route.LOCAL, Reason.DNS_OFF)


def test_a_filter_of_remote_addresses() -> None:
    rules = (parse_rule("tcp://10.0.0.0/8:443"), parse_rule("[2001:db8::]/32"))
    inside = Decision(Route.REMOTE, Reason.OUTGOING_FILTER)
    outside = Decision(Route.LOCAL, Reason.OUTGOING_FILTER)
    assert outgoing(address("10.1.2.3", 443), only_remote=rules) == inside
    assert outgoing(address("::ffff:10.1.2.3", 443), only_remote=rules) == inside
    assert outgoing(address("2001:db8::7"), "udp", only_remote=rules) == inside
    assert outgoing(address("10.1.2.3", 80), only_remote=rules) == outside
    assert outgoing(address("10.1.2.3", 443), "udp", only_remote=rules) == outside
    assert outgoing(address("11.0.0.1", 443), only_remote=rules) == outside
    assert outgoing(address("10.1.2.3", 443), only_remote=()) == outside


def test_filters_of_names() -> None:
    rules = (parse_rule("tcp://*.db.example:5432"), parse_rule("cache"))
    local = AddressRule(None, None, NameRule("cache"))
    assert rules[1] == local
    peer = address("1.1.1.1", 5432)
    assert outgoing(peer, only_local=rules, names=("a.db.example",)) == Decision(Route.LOCAL, Reason.OUTGOING_FILTER)
    assert outgoing(peer, only_local=rules, names=("x", "cache")) == Decision(Route.LOCAL, Reason.OUTGOING_FILTER)
    assert outgoing(peer, only_local=rules, names=("db.example",)) == Decision(Route.REMOTE, Reason.OUTGOING)
    assert outgoing(peer, only_local=rules) == Decision(Route.REMOTE, Reason.OUTGOING)


def test_a_filter_of_local_addresses() -> None:
    rules = (parse_rule("1.1.1.1"), parse_rule("db.local"))
    assert outgoing(address("1.1.1.1"), only_local=rules) == Decision(Route.LOCAL, Reason.OUTGOING_FILTER)
    assert outgoing(address("1.1.1.2"), only_local=rules) == Decision(Route.REMOTE, Reason.OUTGOING)


V4 = ipaddress.ip_network


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("tcp://1.2.3.0/24:7777", AddressRule("tcp", V4("1.2.3.0/24"), None, 7777)),
        ("TCP://1.2.3.9/24", AddressRule("tcp", V4("1.2.3.0/24"), None, 0)),
        ("tcp://[2800:3f0::2004]:7777", AddressRule("tcp", V4("2800:3f0::2004/128"), None, 7777)),
        ("[2800:3f0::]/32:80", AddressRule(None, V4("2800:3f0::/32"), None, 80)),
        ("[2800:3f0::/32]:80", AddressRule(None, V4("2800:3f0::/32"), None, 80)),
        ("2800:3f0::/32", AddressRule(None, V4("2800:3f0::/32"), None, 0)),
        ("::1", AddressRule(None, V4("::1/128"), None, 0)),
        ("[::ffff:1.2.3.4]:5", AddressRule(None, V4("1.2.3.4/32"), None, 5)),
        ("tcp://", AddressRule("tcp")),
        ("any://", AddressRule()),
        ("udp://:7777", AddressRule("udp", None, None, 7777)),
        (":7777", AddressRule(None, None, None, 7777)),
        (":0", AddressRule()),
        ("0.0.0.0", AddressRule()),
        ("0.0.0.0:80", AddressRule(None, None, None, 80)),
        ("[::]:80", AddressRule(None, None, None, 80)),
        ("0.0.0.0/0", AddressRule(None, V4("0.0.0.0/0"), None, 0)),
        ("tcp://google.com:7777", AddressRule("tcp", None, NameRule("google.com"), 7777)),
        ("localhost", AddressRule(None, None, NameRule("localhost"))),
        ("My_db-1.x.", AddressRule(None, None, NameRule("my_db-1.x"))),
        ("udp://*.Svc:53", AddressRule("udp", None, NameRule("svc", below=True), 53)),
    ],
)
def test_filter_entries(text: str, rule: AddressRule) -> None:
    assert parse_rule(text) == rule


@pytest.mark.parametrize(
    "text",
    [
        *("", "meow://1.1.1.1", ":7777udp://", "google.com/24", "tcp://google.com/24:7777", "1.1.1.1:65536", "1.1.1.1:"),
        *("1.1.1.1:x", "1.2.3.4/33", "[::1", "[::1]x", "a b", "1.1.1.1:٣", "host/", "a*.b", "*.*.c", "a..b"),
    ],
)
def test_filter_entries_that_are_refused(text: str) -> None:
    with pytest.raises(FilterError):
        parse_rule(text)


@given(st.text(), st.ip_addresses(), st.integers(0, 65535))
def test_any_entry_is_refused_or_matches_without_failing(text: str, ip: ipaddress.IPv4Address, port: int) -> None:
    try:
        rule = parse_rule(text)
    except FilterError:
        return
    rule.matches("tcp", ip.packed, port)


@given(st.ip_addresses(), st.integers(0, 32), st.ip_addresses(v=4))
def test_subnets_match_as_in_ipaddress(base: ipaddress.IPv4Address, length: int, ip: ipaddress.IPv4Address) -> None:
    network = ipaddress.ip_network((base, length), strict=False)
    assert AddressRule(None, network).matches("udp", ip.packed, 1) == (ip in network)


def test_addresses() -> None:
    assert plain_ip(address("::ffff:1.2.3.4").ip) == bytes([1, 2, 3, 4])
    assert plain_ip(address("::1").ip) == address("::1").ip
    assert is_loopback(bytes([127, 0, 0, 1]))
    assert not is_loopback(address("::2").ip)
