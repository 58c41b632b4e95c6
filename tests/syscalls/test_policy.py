from __future__ import annotations

import pytest
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.syscalls import policy as policy_module
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.incoming_rules import IncomingConfig, subscription
from mirrord_trace.syscalls.network_rules import OutgoingConfig, parse_rule
from mirrord_trace.syscalls.path_rules import FileConfig, PatternError
from mirrord_trace.syscalls.policy import Policy, PolicyConfig


def test_file_decisions_are_remembered() -> None:
    policy = Policy(PolicyConfig())
    assert policy.file(b"/data/x") is policy.file(b"/data/x")
    assert policy.file(b"/data/x").route is Route.REMOTE
    assert policy.file(b"/data/x", write=True).route is Route.LOCAL
    assert policy.file(b"/etc/x") is policy.file(b"/etc/y")


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_module, "CACHE_LIMIT", 3)
    policy = Policy(PolicyConfig())
    first = policy.file(b"/data/0")
    for number in range(10):
        assert policy.file(b"/data/%d" % number).path == b"/data/%d" % number
    assert policy.file(b"/data/0") == first
    assert policy.file(b"/data/0") is not first


def test_bad_patterns_are_refused_at_once() -> None:
    with pytest.raises(PatternError):
        Policy(PolicyConfig(files=FileConfig(local=("(",))))


def test_dns_reaches_the_files() -> None:
    assert Policy(PolicyConfig(dns=False)).file(b"/etc/hosts").reason is Reason.DNS_OFF


def test_outgoing() -> None:
    peer = Address(bytes([10, 0, 0, 1]), 80)
    assert Policy(PolicyConfig()).outgoing("tcp", peer, ()) == Decision(Route.REMOTE, Reason.OUTGOING)
    by_name = Policy(PolicyConfig(outgoing=OutgoingConfig(only_remote=(parse_rule("*.example"),))))
    assert by_name.wants_names
    assert by_name.outgoing("tcp", peer, (), ["db.example"]).route is Route.REMOTE
    assert by_name.outgoing("tcp", peer, (), ["db.other"]).route is Route.LOCAL
    off = Policy(PolicyConfig(outgoing=OutgoingConfig(tcp=False)))
    assert not off.wants_names
    assert off.outgoing("tcp", peer, ()) == Decision(Route.LOCAL, Reason.OUTGOING_OFF)


def test_incoming_and_the_pod_port() -> None:
    policy = Policy(PolicyConfig(incoming=IncomingConfig(port_mapping=((8080, 80),), ignore_ports=frozenset({9}))))
    anywhere = Address(bytes(4), 0)
    assert policy.incoming(8080, anywhere) == Decision(Route.REMOTE, Reason.INCOMING)
    assert policy.incoming(9, anywhere) == Decision(Route.LOCAL, Reason.INCOMING_IGNORED)
    assert (policy.pod_port(8080), policy.pod_port(80)) == (80, 80)


def test_ports_of_this_machine_and_subscriptions() -> None:
    config = IncomingConfig(listen_ports=((80, 4480),), rules="{}", fail_if_taken=False)
    policy = Policy(PolicyConfig(incoming=config))
    assert (policy.listen_port(80), policy.listen_port(81)) == (4480, 81)
    assert policy.subscription(80) == subscription(config, 80)
    assert not policy.fails_if_taken()


def test_interfaces() -> None:
    assert Policy(PolicyConfig()).interfaces() == Decision(Route.REMOTE, Reason.POD_INTERFACES)
    off = Policy(PolicyConfig(interfaces=False))
    assert off.interfaces() == Decision(Route.LOCAL, Reason.INTERFACES_OFF)
    assert off.file(b"/proc/net/route") == Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)


def test_hostname() -> None:
    assert Policy(PolicyConfig()).hostname() == Decision(Route.REMOTE, Reason.POD_HOSTNAME)
    assert Policy(PolicyConfig(hostname=False)).hostname() == Decision(Route.LOCAL, Reason.HOSTNAME_OFF)


@pytest.mark.parametrize(
    "path",
    [
        *(b"/var/run/nscd/socket", b"/run/nscd/socket", b"/run/avahi-daemon/socket"),
        *(b"/run/systemd/resolve/io.systemd.Resolve", b"/run/systemd/resolve/io.systemd.Resolve.Monitor"),
    ],
)
def test_resolver_sockets_look_absent(path: bytes) -> None:
    assert Policy(PolicyConfig()).unix_socket(path) == Decision(Route.MISSING, Reason.LOCAL_RESOLVER_SOCKET)
    assert Policy(PolicyConfig(dns=False)).unix_socket(path) == Decision(Route.LOCAL, Reason.DNS_OFF)


@pytest.mark.parametrize("path", [b"/run/docker.sock", b"\0/run/nscd/socket", b"/run/nscd/socket2", b"", b"nscd/socket"])
def test_other_unix_sockets_are_local(path: bytes) -> None:
    assert Policy(PolicyConfig()).unix_socket(path) == Decision(Route.LOCAL, Reason.NOT_INTERNET)
