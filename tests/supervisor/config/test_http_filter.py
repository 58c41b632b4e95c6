from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.http.rules import parse_rules
from mirrord_trace.supervisor.config.http_filter import read_filter
from mirrord_trace.supervisor.config.schema import HttpFilter
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError

BODY = {"body": "json", "query": "$.user", "matches": "^ann$"}


@pytest.mark.parametrize(
    ("written", "filter"),
    [
        ({}, None),
        ({"ports": [80]}, None),
        ({"header_filter": "a: b"}, {"header": "a: b"}),
        ({"path_filter": "(?!/health)"}, {"path": "(?!/health)"}),
        ({"method_filter": "get"}, {"method": "get"}),
        ({"body_filter": BODY}, {"body": {"query": "$.user", "matches": "^ann$"}}),
        (
            {"all_of": [{"header": "a"}, {"path": "b"}, {"method": "c"}, BODY]},
            {"all_of": [{"header": "a"}, {"path": "b"}, {"method": "c"}, {"body": {"query": "$.user", "matches": "^ann$"}}]},
        ),
        ({"any_of": [{"all_of": [{"path": "b"}]}]}, {"any_of": [{"all_of": [{"path": "b"}]}]}),
    ],
)
def test_filters(written: dict[str, Any], filter: Any) -> None:
    found = read_filter(HttpFilter(**written))
    assert found == filter
    parse_rules(json.dumps({"filter": found}))


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"header_filter": "a", "path_filter": "b"}, ": header_filter and path_filter cannot both be set"),
        ({"header_filter": "a", "any_of": []}, ": header_filter and any_of cannot both be set"),
        ({"header_filter_jq": "."}, r"\.header_filter_jq: jq is not supported"),
        ({"header_filter": "("}, r"\.header_filter: the pattern '\(' does not work: missing"),
        ({"any_of": []}, r"\.any_of: an empty list"),
        ({"any_of": [{"path": "a"}, {"method": "["}]}, r"\.any_of\[1\]\.method: the pattern '\[' does not work"),
        ({"any_of": [{"path": "a", "method": "b"}]}, r"\.any_of\[0\]: expected one of"),
        ({"any_of": ["a"]}, r"\.any_of\[0\]: expected one of"),
        ({"any_of": [{"x": "a"}]}, r"\.any_of\[0\]: unknown filter x"),
        ({"any_of": [{"header_jq": "a"}]}, r"\.any_of\[0\]\.header_jq: jq is not supported"),
        ({"all_of": [{"all_of": [{"path": 1}]}]}, r"\.all_of\[0\]\.all_of\[0\]\.path: expected a regular expression"),
        ({"body_filter": {**BODY, "body": "xml"}}, r'\.body_filter\.body: only "json"'),
        ({"body_filter": {**BODY, "x": 1}}, r"\.body_filter: unknown key x"),
        ({"body_filter": {**BODY, "query": "user"}}, r"\.body_filter\.query: expected a JSONPath"),
        ({"body_filter": {**BODY, "matches": "("}}, r"\.body_filter\.matches: the pattern"),
    ],
)
def test_what_is_refused(written: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=rf"feature\.network\.incoming\.http_filter{said}") as refused:
        read_filter(HttpFilter(**written))
    assert refused.value.exit_status == EXIT_USAGE
    assert "\n" not in refused.value.text


_texts = st.text(max_size=8)
_json = st.recursive(
    st.none() | st.integers() | _texts,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["header", "path", "body", "query", "matches", "all_of", "any_of"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)


@given(st.lists(_json, max_size=3))
def test_any_list_is_a_filter_or_refused(values: list[Any]) -> None:
    text = "a filter"
    try:
        read_filter(HttpFilter(any_of=values))
    except UsageError as refused:
        text = refused.text
    assert text.isprintable()


def test_lists_in_lists_end_somewhere() -> None:
    nested: dict[str, Any] = {"path": "a"}
    for _ in range(20):
        nested = {"any_of": [nested]}
    with pytest.raises(UsageError, match="nested too deeply"):
        read_filter(HttpFilter(**nested))
