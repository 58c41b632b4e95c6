from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.config.file import parse, read_file
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError

TREE = {"target": {"path": "pod/x"}, "feature": {"fs": {"mode": "write"}}}


def parsed(path: str, text: str) -> object:
    return parse(path, text.encode(), {"POD": "x"}, "key")


def test_the_formats() -> None:
    text = '{"target": "pod/{{ get_env(name="POD") }}", "feature": {"fs": "write"}}'
    assert parsed("m.json", text) == TREE
    assert parsed("m.JSON", "\ufeff" + text) == TREE
    assert parsed("m", text) == TREE
    assert parsed("m.toml", 'target = "pod/x"\n[feature]\nfs = "write"\n') == TREE
    assert parsed("m.yaml", "target: pod/x\nfeature:\n  fs: write\n") == TREE
    assert parsed("m.yml", "# nothing\n") == {}


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("m.json", '{\n "a": 1,\n // x\n}', "m.json: line 3, column 2: .*; JSON has no comments"),
        ("m.json", "", "m.json: line 1, column 1: "),
        ("m.json", '{"target": "a", "target": "b"}', "m.json: the key target is given twice"),
        ("m.json", '{"\\n": 1, "\\n": 2}', r"m.json: the key '\\n' is given twice"),
        ("m.json", '{"a": NaN}', "m.json: NaN is no JSON value"),
        ("m.json", '{"a": ' + "1" * 5000 + "}", "m.json: "),
        ("m.json", "[" * 100_000, "m.json: nested too deep|m.json: line"),
        ("m.json", "[]", "m.json: the configuration must be a table"),
        ("m.json", '{"feature": ' * 70 + "1" + "}" * 70, "m.json: too deep"),
        ("m.json", "{{ x }}", "m.json: line 1: "),
        ("m.toml", "a = ?", "m.toml: .*line 1"),
        ("m.yaml", "a: [", "m.yaml: line 1, column 5: "),
        ("m.yaml", "a: 2020-99-99", "m.yaml: month must be"),
        ("m.yaml", "1: a", "m.yaml: the key 1 must be text"),
        ("m.yaml", "{[a]: b}", "m.yaml: line 1"),
        ("m.yaml", "key: &a [*a]", "m.yaml: too deep or too large"),
        ("m.yaml", "key: !!python/name:os.system x", "m.yaml: line 1"),
        ("m.yaml", "", ""),
        ("m.ini", "", "ends in .json, .toml, .yaml or .yml"),
    ],
)
def test_what_is_refused(path: str, text: str, said: str) -> None:
    if not said:
        assert parsed(path, text) == {}
        return
    with pytest.raises(UsageError, match=said) as refused:
        parsed(path, text)
    assert refused.value.exit_status == EXIT_USAGE
    assert "\n" not in refused.value.text


def test_yaml_aliases_cannot_grow_without_bound() -> None:
    lines = ["k0: &k0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"k{level}: &k{level} [{', '.join([f'*k{level - 1}'] * 10)}]" for level in range(1, 9)]
    with pytest.raises(UsageError, match="too large"):
        parsed("m.yaml", "\n".join(lines))


def test_bytes_that_are_no_text() -> None:
    with pytest.raises(UsageError, match=r"m\.json: not UTF-8 at byte 1"):
        parse("m.json", b"{\xff}", {}, "key")


def test_reading(tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text('{"target": "demo"}')
    assert read_file("m.json", os.fspath(tmp_path), {}, "key") == {"target": {"path": "demo"}}
    for path, said in (("none.json", "No such file"), (".", "Is a directory"), ("a\0b", "null byte")):
        with pytest.raises(UsageError, match=f"cannot read the configuration file .*: .*{said}"):
            read_file(path, os.fspath(tmp_path), {}, "key")


@given(st.text(max_size=60), st.sampled_from(["m.json", "m.toml", "m.yaml"]))
def test_any_text_parses_or_is_refused(text: str, path: str) -> None:
    try:
        assert isinstance(parsed(path, text), dict)
    except UsageError as refused:
        said = refused.text
        assert said.startswith(path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(values)
def test_any_json_is_a_tree_or_refused(value: object) -> None:
    with suppress(UsageError):
        assert isinstance(parsed("m.json", json.dumps(value)), dict)
