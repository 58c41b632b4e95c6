from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.http import filters
from mirrord_trace.agent.http.rules import Rules, RulesError, Sample, Tls, parse_rules


def test_nothing_is_the_default():
    assert parse_rules("") == parse_rules("{}") == parse_rules('{"filter": null, "tls": null, "sample": null}') == Rules()


BODY = {"body": {"query": "$.a", "matches": "d"}}


def test_everything():
    tls = {"certificate": "/c", "key": "/k", "delivery": "tcp", "server_name": "n", "trust_roots": "PEM"}
    rules = parse_rules(
        json.dumps(
            {
                "filter": {"any_of": [{"all_of": [{"header": "a"}, {"path": "b"}]}, {"method": "c"}, BODY]},
                "sample": {"percent": 12.5, "per_second": 7},
                "tls": tls,
                "probes": "take",
                "marker": True,
            }
        )
    )
    assert rules.sample == Sample(12.5, 7)
    assert rules.tls == Tls(**tls)
    assert rules.take_probes
    assert rules.marker
    assert isinstance(rules.filter, filters.AnyOf)
    assert [type(part) for part in rules.filter.parts] == [filters.AllOf, filters.Method, filters.Body]


def nested(depth):
    value = {"path": "a"}
    for _ in range(depth):
        value = {"all_of": [value]}
    return {"filter": value}


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ([], "rules must be an object"),
        ({"filer": {}}, "unknown key 'filer'"),
        ({"filter": {}}, "one key"),
        ({"filter": {"path": "a", "method": "b"}}, "one key"),
        ({"filter": {"jq": "a"}}, "no such filter"),
        ({"filter": {"path": 1}}, "filter.path must be a regular expression"),
        ({"filter": {"path": "("}}, "filter.path: the regular expression"),
        ({"filter": {"any_of": []}}, "at least one"),
        ({"filter": {"any_of": [{"path": "a"}, {"x": 1}]}}, r"filter.any_of\[1\].x"),
        ({"filter": {"body": "x"}}, "must be an object"),
        ({"filter": {"body": {"query": "x", "matches": "y"}}}, "must begin with"),
        ({"filter": {"body": {"query": "$"}}}, "matches must be"),
        ({"filter": {"body": {"matches": "y"}}}, "query must be"),
        (nested(30), "nested too deeply"),
        ({"sample": {"percent": 101}}, "0 to 100"),
        ({"sample": {"percent": -1}}, "must be a number"),
        ({"sample": {"per_second": True}}, "must be a number"),
        ({"sample": {"per_second": float("nan")}}, "must be a number"),
        ({"tls": {"certificate": 1}}, "must be a string"),
        ({"tls": {"delivery": "udp"}}, "delivery must be"),
        ({"probes": "maybe"}, "probes must be"),
        ({"probes": []}, "probes must be"),
        ({"marker": 1}, "marker must be"),
    ],
)
def test_mistakes_are_named(rules, text):
    with pytest.raises(RulesError, match=text):
        parse_rules(rules if isinstance(rules, str) else json.dumps(rules))


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "a", "(", "$.a", "take", "tls"])
KEYS = st.sampled_from(
    ["filter", "sample", "tls", "probes", "marker", "any_of", "body", "query", "matches", "path", "percent", "key"]
)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)))
def test_any_json_is_rules_or_an_error(value):
    with contextlib.suppress(RulesError):
        parse_rules(json.dumps(value))


def test_all_connections_share_the_patience_with_a_filter() -> None:
    rules = parse_rules('{"filter": {"path": "^/x"}}')
    assert rules.patient is rules.patient is not None
    assert parse_rules("").patient is None
