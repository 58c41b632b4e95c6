from __future__ import annotations

import ipaddress

import pytest
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.incoming_rules import IncomingConfig, IncomingMode, Subscription, decide_incoming, subscription


def address(ip: str, port: int = 80) -> Address:
    return Address(ipaddress.ip_address(ip).packed, port)


def incoming(port: int, local: Address, *, ipv6: bool = True, **config: object) -> Decision:
    return decide_incoming(IncomingConfig(**config), ipv6=ipv6, port=port, local=local)  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [IncomingMode.STEAL, IncomingMode.MIRROR])
def test_what_comes_here(mode: IncomingMode) -> None:
    for ip in ("0.0.0.0", "::", "127.0.0.1", "10.0.0.1", "2001:db8::1"):
        assert incoming(80, address(ip), mode=mode) == Decision(Route.REMOTE, Reason.INCOMING)


def test_subscriptions() -> None:
    assert subscription(IncomingConfig(mode=IncomingMode.STEAL), 80) == Subscription(False, "", True)
    assert subscription(IncomingConfig(mode=IncomingMode.STEAL, flush=False), 80) == Subscription(False, "", False)
    mirror = IncomingConfig(mode=IncomingMode.MIRROR, rules="{1}", plain_rules="{2}")
    assert subscription(mirror, 80) == Subscription(True, "{1}", False)
    some = IncomingConfig(mode=IncomingMode.STEAL, rules="{1}", plain_rules="{2}", filter_ports=frozenset({80}))
    assert [subscription(some, port).rules for port in (80, 81)] == ["{1}", "{2}"]


def test_incoming_off() -> None:
    assert incoming(80, address("::"), mode=IncomingMode.OFF) == Decision(Route.LOCAL, Reason.INCOMING_OFF)
    assert incoming(80, address("2001:db8::1"), ipv6=False) == Decision(Route.LOCAL, Reason.INCOMING_OFF)
    assert incoming(80, address("::"), ipv6=False).route is Route.REMOTE


def test_incoming_ports() -> None:
    ignored = Decision(Route.LOCAL, Reason.INCOMING_IGNORED)
    assert incoming(80, address("::"), ignore_ports=frozenset({80})) == ignored
    assert incoming(81, address("::"), ignore_ports=frozenset({80})).route is Route.REMOTE
    assert incoming(80, address("::"), ports=frozenset({81})) == ignored
    assert incoming(81, address("::"), ports=frozenset({81})).route is Route.REMOTE
    assert incoming(81, address("::"), ports=frozenset()) == ignored


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_incoming_on_loopback_can_be_ignored(ip: str) -> None:
    assert incoming(80, address(ip), ignore_localhost=True) == Decision(Route.LOCAL, Reason.IGNORE_LOCALHOST)
    assert incoming(80, address("0.0.0.0"), ignore_localhost=True).route is Route.REMOTE
