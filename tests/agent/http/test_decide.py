from __future__ import annotations

from mirrord_trace.agent.http.actions import CLIENT, POD
from mirrord_trace.agent.http.decide import COPY, Decider
from mirrord_trace.agent.http.filters import Facts
from wires import ME, rules_of

BODY = {"filter": {"any_of": [{"path": "^/me"}, {"body": {"query": "$", "matches": "me"}}]}}


def decider(rules, mirror=False, sampled=True):
    return Decider(rules_of(rules), mirror, lambda: sampled)


def facts(*headers, target=b"/"):
    return Facts(b"GET", target, headers)


def test_choices():
    mine = facts((b"X-User", b"me"))
    assert decider(ME).choose(mine) == CLIENT
    assert decider(ME).choose(facts()) == POD
    assert decider(ME, mirror=True).choose(mine) == COPY
    assert decider(ME, sampled=False).choose(mine) == POD
    assert decider({}).choose(facts()) == CLIENT


def test_the_default_end():
    assert decider(ME).default_end == POD
    assert decider({}).default_end == CLIENT
    assert decider({}, mirror=True).default_end == POD


def test_probes():
    probe = facts((b"user-agent", b"kube-probe/1.31"))
    assert decider({}).choose(probe) == POD
    assert decider({"probes": "take"}).choose(probe) == CLIENT
    assert decider({}).choose(facts((b"User-Agent", b"not kube-probe/"))) == CLIENT


def test_bodies():
    assert decider(BODY).choose(facts(target=b"/me")) == CLIENT
    assert decider(BODY).choose(facts()) is None
    assert decider(BODY).choose_without_body(facts()) == POD


def test_markers():
    assert decider({}).marker(CLIENT) == b""
    assert decider({"marker": True}).marker(CLIENT) == b"forwarded-to-client"
    assert decider({"marker": True}).marker(COPY) == decider({"marker": True}).marker(POD) == b"passed-through"
