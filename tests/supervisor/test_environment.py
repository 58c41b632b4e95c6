from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.supervisor.environment import (
    DEFAULT_EXCLUDED,
    Dropped,
    EnvConfig,
    Environment,
    merge_environment,
    name_pattern,
)

OWN = {b"HOME": b"/home/ann", b"SHELL": b"/bin/sh", b"REGION": b"here"}


def merge(*pod: bytes, **config: object) -> Environment:
    return merge_environment(OWN, pod, EnvConfig(**config))  # type: ignore[arg-type]


def test_the_pods_variables_go_over_our_own() -> None:
    merged = merge(b"REGION=pod", b"DB=a=b", b"EMPTY=")
    assert merged.variables == {**OWN, b"REGION": b"pod", b"DB": b"a=b", b"EMPTY": b""}
    assert merged.from_pod == (b"REGION", b"DB", b"EMPTY")
    assert merged.dropped == ()


@pytest.mark.parametrize("name", [glob.replace("*", "R_X") for glob in DEFAULT_EXCLUDED])
def test_excluded_by_default(name: str) -> None:
    merged = merge(f"{name}=pod".encode())
    assert merged.variables == OWN
    assert merged.dropped == (Dropped(name.encode(), "excluded by default"),)


def test_names_like_excluded_ones_are_taken() -> None:
    merged = merge(b"MYPATH=1", b"PATH_X=2", b"path=3", b"HOMEX=4")
    assert len(merged.from_pod) == 4


def test_include_is_all_there_is() -> None:
    merged = merge(b"DB_HOST=h", b"DB_PORT=p", b"KEY=k", include=("DB_*",))
    assert merged.from_pod == (b"DB_HOST", b"DB_PORT")
    assert merged.dropped == (Dropped(b"KEY", "not in feature.env.include"),)


def test_a_name_in_include_brings_back_what_is_excluded_by_default() -> None:
    assert merge(b"GOPATH=/pod", b"X=1", include=("GOPATH", "*")).from_pod == (b"GOPATH", b"X")
    assert merge(b"GOPATH=/pod", b"X=1", include=("*",)).from_pod == (b"X",)


def test_exclude() -> None:
    merged = merge(b"DB_HOST=h", b"A1=x", b"A12=y", exclude=("DB_*", "A?"))
    assert merged.from_pod == (b"A12",)
    assert merged.dropped == (Dropped(b"A1", "feature.env.exclude"), Dropped(b"DB_HOST", "feature.env.exclude"))


def test_the_order_env_file_mapping_override() -> None:
    merged = merge(
        b"A=pod",
        b"B=pod",
        b"C_TIMEOUT=pod",
        b"E_TIMEOUT=pod",
        env_file=(("B", "file"), ("D_TIMEOUT", "file"), ("PATH", "file")),
        mapping=((re.compile(".+_TIMEOUT"), "1000"), (re.compile("TIMEOUT"), "2000")),
        override=(("E_TIMEOUT", "override"), ("NEW", "override")),
    )
    new = {b"A": b"pod", b"B": b"file", b"C_TIMEOUT": b"1000", b"D_TIMEOUT": b"1000", b"PATH": b"file"}
    assert merged.variables == {**OWN, **new, b"E_TIMEOUT": b"override", b"NEW": b"override"}


def test_mapping_leaves_our_own_variables_alone() -> None:
    assert merge(mapping=((re.compile("."), "x"),)).variables == OWN


def test_unset_is_last_and_ignores_case() -> None:
    merged = merge(b"Aws_Profile=pod", b"X=1", unset=("AWS_PROFILE", "shell", "NONE"), override=(("SHELL", "o"),))
    assert merged.variables == {b"HOME": b"/home/ann", b"REGION": b"here", b"X": b"1"}
    assert merged.from_pod == (b"X",)
    assert merged.dropped == (Dropped(b"Aws_Profile", "feature.env.unset"),)


def test_odd_entries() -> None:
    merged = merge(b"NOVALUE", b"=x", b"", b"A=1", b"A=2", b"\xff=\xfe")
    assert merged.from_pod == (b"A", b"\xff")
    assert merged.variables[b"A"] == b"1"
    assert merged.variables[b"\xff"] == b"\xfe"


@given(st.text(), st.text())
def test_globs(before: str, after: str) -> None:
    assert name_pattern(before + "*" + after).match(before + "x" + after)
    assert name_pattern(before.replace("*", "").replace("?", "")).match(before.replace("*", "").replace("?", ""))


@given(st.lists(st.binary()))
def test_any_environ_merges(pod: list[bytes]) -> None:
    merged = merge_environment(OWN, pod, EnvConfig())
    assert all(name and b"=" not in name for name in merged.variables)
    assert not set(merged.from_pod) & {drop.name for drop in merged.dropped}


def test_credentials_of_our_own_for_aws_are_left_out() -> None:
    own = {b"AWS_PROFILE": b"ann", b"AWS_ACCESS_KEY_ID": b"AK", b"AWS_REGION": b"eu", b"MY_AWS_PROFILE": b"x"}
    config = EnvConfig(override=(("AWS_SESSION_TOKEN", "t"),))
    merged = merge_environment(own, [b"AWS_ROLE_ARN=pod", b"AWS_ACCESS_KEY_ID=pod"], config)
    kept = {b"AWS_REGION": b"eu", b"MY_AWS_PROFILE": b"x"}
    taken = {b"AWS_ROLE_ARN": b"pod", b"AWS_ACCESS_KEY_ID": b"pod"}
    assert merged.variables == {**kept, **taken, b"AWS_SESSION_TOKEN": b"t"}
    assert merge_environment(own, [], EnvConfig(hides_aws=False)).variables == own


def test_the_pods_own_program_has_the_pods_environment() -> None:
    own = {**OWN, b"TERM": b"xterm", b"DISPLAY": b":0"}
    config = EnvConfig(from_pod=True, exclude=("SECRET",), override=(("SET", "1"),), unset=("lang",))
    pod = [b"PATH=/pod/bin", b"HOME=/root", b"TERM=dumb", b"SECRET=s", b"LANG=C", b"LD_PRELOAD=x.so"]
    merged = merge_environment(own, pod, config)
    assert merged.variables == {
        b"TERM": b"xterm",
        b"DISPLAY": b":0",
        b"PATH": b"/pod/bin",
        b"HOME": b"/root",
        b"LD_PRELOAD": b"x.so",
        b"SET": b"1",
    }
    assert Dropped(b"TERM", "the terminal is this machine's") in merged.dropped
    assert merge_environment({}, [b"TERM=dumb"], config).variables == {b"TERM": b"dumb", b"SET": b"1"}
