from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.config.template import render
from mirrord_trace.supervisor.errors import UsageError

ENVIRON = {"POD": "web-0", "EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ('pod/{{ get_env(name="POD", default="x") }}', "pod/web-0"),
        ("pod/{{get_env(name='POD')}}", "pod/web-0"),
        ('{{ get_env(default=`fall"back`, name="NONE") }}', 'fall"back'),
        ('<{{- get_env(name="EMPTY", default="x",) -}}>', "<>"),
        ("{{ key }}-{{key}}", "k1-k1"),
        ("a{# not\nthis #}b", "ab"),
        ("{ {x} }", "{ {x} }"),
    ],
)
def test_rendered(text: str, rendered: str) -> None:
    assert render("m.json", text, ENVIRON, "k1") == rendered


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\n{{ git_branch }}", r"m\.json: line 2: \{\{ git_branch \}\} is not supported"),
        ('{{ get_env(name="POD") | upper }}', "is not supported"),
        ("{{ get_env(POD) }}", "is not supported"),
        ("{{ get_env() }}", "is not supported"),
        ('{{ get_env(name="NONE") }}', "line 1: the variable NONE is not set"),
        ("{% if x %}", "line 1: {% %} is not supported"),
    ],
)
def test_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        render("m.json", text, ENVIRON, "k1")


@given(st.text("{}%# gen_v(am='\"=`,)|", max_size=60))
def test_any_text_is_rendered_or_refused(text: str) -> None:
    with suppress(UsageError):
        render("m.json", text, ENVIRON, "k")
