from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.http.jsonpath import JsonPathError, parse_path

VALUE = {"a": {"b": [1, 2, {"c": 3}], "k'y": 4, "é": 7}, "list": [{"c": 5}, {"c": 6}], "c-d": 0}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [VALUE]),
        ("$.a.b[0]", [1]),
        ("$.a.b[-1].c", [3]),
        ("$['a']['b'][1]", [2]),
        ('$["a"].b[0, 1]', [1, 2]),
        (r"$.a['k\'y']", [4]),
        ("$.a.é", [7]),
        ("$.c-d", [0]),
        ("$.list[*].c", [5, 6]),
        ("$.list.*.c", [5, 6]),
        ("$..c", [3, 5, 6]),
        ("$..[2]", [{"c": 3}]),
        ("$.a.b[0:2]", [1, 2]),
        ("$.a.b[::-2]", [{"c": 3}, 1]),
        ("$.a.b[1:]", [2, {"c": 3}]),
        ("$.a.b[7]", []),
        ("$.a[0]", []),
        ("$.list.c", []),
        ("$.a.b.x", []),
    ],
)
def test_paths(path, found):
    assert parse_path(path).find(VALUE) == found


@pytest.mark.parametrize(
    "path", ["", "a", "$.", "$..", "$a", "$[", "$[0", "$[?@.a]", "$['a]", "$[0::0]", "$.a b", "$[]", "$.[0]", "$.1"]
)
def test_what_is_none(path):
    with pytest.raises(JsonPathError):
        parse_path(path)


@given(
    st.text("$.[]'\"*?:,-01ab \\", max_size=15),
    st.recursive(st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text("ab"), inner)),
)
def test_any_text_is_a_path_or_an_error(text, value):
    try:
        path = parse_path("$" + text)
    except JsonPathError:
        return
    path.find(value)


def test_depth_and_number_are_bounded():
    value = []
    for _ in range(50_000):
        value = [value]
    assert len(parse_path("$..[0]").find(value)) <= 10_000
    assert len(parse_path("$..[*]..[*]..[*]").find([[0] * 1000] * 1000)) <= 10_000
