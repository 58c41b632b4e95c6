"""A session's context begins empty, and two sessions share nothing."""

from __future__ import annotations

from callers import address
from mirrord_trace.syscalls.actions import Route
from mirrord_trace.syscalls.network_rules import OutgoingConfig, parse_rule
from mirrord_trace.syscalls.policy import Policy, PolicyConfig
from script import FakeRelay, session


def test_sessions_share_nothing() -> None:
    one, two = session(), session()
    one.sockets.begin(1, address("10.0.0.1", 80))
    one.local_reads[b"/x"] = one.local_writes[b"/x"] = None  # type: ignore[assignment]
    assert one.sockets
    assert not two.sockets
    assert not two.local_reads
    assert not two.local_writes
    assert one.local_reads is not one.local_writes


def test_names_are_current_when_a_decision_needs_them() -> None:
    peer = address("10.0.0.1", 80)
    context = session(Policy(PolicyConfig(outgoing=OutgoingConfig(only_remote=(parse_rule("db.example"),)))))
    assert isinstance(context.relay, FakeRelay)
    assert context.outgoing("tcp", peer, ()).route is Route.LOCAL
    context.relay.on_drain = lambda: context.names.learn([peer.ip], ["db.example"], 60)
    assert context.outgoing("tcp", peer, ()).route is Route.REMOTE
    without = session(Policy(PolicyConfig()))
    assert isinstance(without.relay, FakeRelay)
    assert without.outgoing("tcp", peer, ()).route is Route.REMOTE
    assert without.relay.drains == 0
