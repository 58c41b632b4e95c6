from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.config.env_file import parse_env_file
from mirrord_trace.supervisor.errors import UsageError


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("A=1\nA=2\n", {"A": "2"}),
        ("\n# comment\n  \t\nA=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("export A = x y  # comment", {"A": "x y"}),
        ("A=\nB= ", {"A": "", "B": ""}),
        ("A=#comment", {"A": ""}),
        ("A=x#y", {"A": "x#y"}),
        ("A='$HOME # \\n' # comment", {"A": "$HOME # \\n"}),
        ('A="x\\n\\"y\\" \\$B # z"', {"A": 'x\n"y" $B # z'}),
        ('A="two\nlines"\nB=1', {"A": "two\nlines", "B": "1"}),
        ("A=${HOME}/x:$HOME\nB=$A$NONE", {"A": "/h/x:/h", "B": "/h/x:/h"}),
        ("A=http://x?a=b&c", {"A": "http://x?a=b&c"}),
        ("A.b_1=x", {"A.b_1": "x"}),
    ],
)
def test_variables(text: str, variables: dict[str, str]) -> None:
    assert dict(parse_env_file("env", text, {"HOME": "/h"})) == variables


@pytest.mark.parametrize("line", ["A", "=x", "1A=x", "A-B=x", "A='x", 'A="x', "A='x'y"])
def test_lines_that_are_no_variable(line: str) -> None:
    with pytest.raises(UsageError, match="env: line 2: expected NAME=value"):
        parse_env_file("env", "# first\n" + line, {})


def test_a_value_without_nul() -> None:
    with pytest.raises(UsageError, match="env: A: a value cannot hold a NUL byte"):
        parse_env_file("env", "A=x\0", {})


@given(st.text("A=b'\"\\$#{} \n\0", max_size=40))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        variables = parse_env_file("env", text, {})
    except UsageError:
        return
    assert all(name and "\0" not in value for name, value in variables)
