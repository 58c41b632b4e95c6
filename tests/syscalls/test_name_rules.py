from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.syscalls.name_rules import DnsConfig, NameRule, NameRuleError, aliases, canonical, parse_name_rule


@pytest.mark.parametrize(
    ("rule", "name", "meant"),
    [
        ("db", "db", True),
        ("DB.Example.", "db.example", True),
        ("db", "db.example", False),
        ("example", "db.example", False),
        ("*.example", "db.example", True),
        ("*.example", "a.b.example", True),
        ("*.example", "example", False),
        ("*.example", "badexample", False),
        ("*", "anything.at.all", True),
        ("*", "single", True),
        ("bücher.example", "xn--bcher-kva.example", True),
    ],
)
def test_what_a_rule_means(rule: str, name: str, meant: bool) -> None:
    assert parse_name_rule(rule).matches((name,)) is meant


@pytest.mark.parametrize("text", ["", ".", "a..b", "a b", "a*.b", "*.*.c", "-" * 64, "a." * 130 + "b", "a/b", "a:1"])
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(NameRuleError):
        parse_name_rule(text)


@given(st.text())
def test_any_text_is_a_rule_or_refused(text: str) -> None:
    try:
        rule = parse_name_rule(text)
    except NameRuleError:
        return
    assert rule.name == canonical(rule.name)


def test_names_without_search_domains() -> None:
    search = ("demo.svc.cluster.local", "svc.cluster.local", "cluster.local", "")
    expected = ("greeter.demo.svc.cluster.local", "greeter", "greeter.demo", "greeter.demo.svc")
    assert aliases("greeter.demo.svc.cluster.local", search) == expected
    assert aliases("example.com", search) == ("example.com",)
    assert aliases("cluster.local", search) == ("cluster.local",)


def test_who_answers_a_query() -> None:
    rule = NameRule("a.example")
    assert not DnsConfig().is_local(["a.example"])
    assert DnsConfig(only_local=(rule,)).is_local(["x", "a.example"])
    assert not DnsConfig(only_local=(rule,)).is_local(["b.example"])
    assert not DnsConfig(only_remote=(rule,)).is_local(["a.example"])
    assert DnsConfig(only_remote=(rule,)).is_local(["b.example"])
    assert DnsConfig(only_remote=()).is_local(["a.example"])
    assert [config.has_filter for config in (DnsConfig(), DnsConfig(only_local=()), DnsConfig(only_remote=()))] == [
        False,
        False,
        True,
    ]
