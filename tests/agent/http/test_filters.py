from __future__ import annotations

import json
import time

import pytest
from mirrord_trace.agent.http.filters import (
    AllOf,
    AnyOf,
    Body,
    Facts,
    Header,
    Method,
    Path,
    RegexError,
    compile_regex,
)
from mirrord_trace.agent.http.jsonpath import parse_path


def facts(method=b"GET", target=b"/a/b?c=d", headers=((b"X-User", b"Me"), (b"Accept", b"*/*")), body=None):
    return Facts(method, target, headers, body)


def of(kind, pattern):
    return kind(compile_regex(pattern))


@pytest.mark.parametrize(
    ("pattern", "target", "matches"),
    [
        ("^/a/b$", b"/a/b?c=d", True),
        ("c=d", b"/a/b?c=d", True),
        ("^/A", b"/a/b", True),
        ("b$", b"/a/b?c=x", True),
        ("^/a$", b"http://host:80/a?x", True),
        ("^/$", b"http://host", True),
        (r"^/\?x$", b"http://host?x", True),
        (r"^\*$", b"*", True),
        ("ü", "/ü".encode(), True),
        ("^/b", b"/a/b", False),
    ],
)
def test_paths(pattern, target, matches):
    assert of(Path, pattern).match(facts(target=target)) is matches


def test_headers_are_lines():
    assert of(Header, "^x-user: me$").match(facts())
    assert not of(Header, "^x-user: you$").match(facts())
    assert of(Header, "\xff").match(facts(headers=[(b"a", b"\xff")]))


def test_methods():
    assert of(Method, "^(get|post)$").match(facts())
    assert not of(Method, "^post$").match(facts())


@pytest.mark.parametrize(
    ("query", "pattern", "matches"),
    [
        ("$.user.name", "^me$", True),
        ("$.list[*]", "^3$", True),
        ("$.user", '^{"name":"me"}$', True),
        ("$.none", "^null$", True),
        ("$.yes", "^true$", True),
        ("$.absent", "", False),
    ],
)
def test_bodies(query, pattern, matches):
    body = json.dumps({"user": {"name": "me"}, "list": [1, 2, 3], "none": None, "yes": True}).encode()
    one = Body(parse_path(query), compile_regex(pattern))
    assert one.match(facts(body=body)) is matches
    assert one.match(facts()) is None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 60000, b"1" * 5000])
def test_what_is_no_json_matches_nothing(body):
    assert Body(parse_path("$"), compile_regex("^x")).match(facts(body=body)) is False


def test_combinations_know_when_the_body_does_not_matter():
    yes, no, maybe = of(Method, "get"), of(Method, "post"), Body(parse_path("$"), compile_regex("x"))
    assert AllOf([yes, yes]).match(facts()) is True
    assert AllOf([maybe, no]).match(facts()) is False
    assert AllOf([maybe, yes]).match(facts()) is None
    assert AnyOf([maybe, yes]).match(facts()) is True
    assert AnyOf([no, no]).match(facts()) is False
    assert AnyOf([maybe, no]).match(facts()) is None


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [
        ("a(?=b)", "xAB"),
        ("^(?!.*internal).*$", "public"),
        (r"\Aab\z", "AB"),
        (r"(?<word>a)\g", None),
        (r"(?<word>a)(?P=word)", "aa"),
        (r"(?<=a)b", "ab"),
        ("x(?i)y", "XY"),
        (r"[[:alpha:]]+\d", "ab1"),
        (r"\x{e9}", "\xc9"),
        (r"\\z", "\\z"),
        ("(", None),
        ("x" * 5000, None),
        (r"\p{L}", None),
    ],
)
def test_the_spelling_of_mirrord(pattern, subject):
    if subject is None:
        with pytest.raises(RegexError):
            compile_regex(pattern)
    else:
        assert compile_regex(pattern).search(subject)


def test_long_subjects_are_cut():
    started = time.process_time()
    assert not of(Header, "(.*)*x$").match(facts(headers=[(b"a", b"b" * 20)]))
    assert not of(Header, "^.*y.*z$").match(facts(headers=[(b"a", b"y" * 60000)]))
    assert time.process_time() - started < 10
