from __future__ import annotations

import errno

import pytest
from mirrord_trace.agent.incoming.layers import Kind
from mirrord_trace.agent.incoming.subscription import Subscription
from mirrord_trace.agent.wire.messages import Subscribe


def made(rules, mirror=False):
    return Subscription(Subscribe(80, mirror, rules, False))


@pytest.mark.parametrize(
    ("rules", "mirror", "kind", "routed"),
    [
        ("", False, Kind.STEAL, False),
        ("", True, Kind.MIRROR, False),
        ('{"filter": {"path": "x"}}', False, Kind.FILTER, True),
        ('{"filter": {"path": "x"}}', True, Kind.MIRROR, True),
        ('{"sample": {"percent": 5}}', False, Kind.FILTER, False),
        ('{"sample": {"percent": 5}}', True, Kind.MIRROR, False),
        ('{"marker": true}', False, Kind.STEAL, True),
        ('{"probes": "take"}', False, Kind.STEAL, False),
    ],
)
def test_what_is_asked_for_decides_the_layer_and_who_decides(rules, mirror, kind, routed):
    wanted = made(rules, mirror)
    wanted.prepare(None)
    assert wanted.kind is kind
    assert (wanted.router() is not None) == routed
    assert wanted.take_probes == ("take" in rules)
    wanted.close()


def test_sampling_goes_by_connections_where_nobody_looks_into_them():
    assert made("").takes()
    assert not made('{"sample": {"percent": 0}}').takes()
    limited = made('{"sample": {"per_second": 2}}')
    assert [limited.takes() for _ in range(4)] == [True, True, False, False]


def test_each_connection_has_a_router_of_its_own():
    wanted = made('{"filter": {"path": "x"}}')
    assert wanted.router() is not wanted.router()
    assert wanted.plain_router() is not wanted.plain_router()


def test_rules_that_make_no_sense():
    with pytest.raises(OSError, match="not JSON") as caught:
        made("{")
    assert caught.value.errno == errno.EINVAL
