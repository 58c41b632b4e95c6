from __future__ import annotations

import pytest
from mirrord_trace.supervisor.config.overlays import (
    Flags,
    check_exclusive,
    flag_tree,
    layered,
    lookup,
    merge,
    variable_tree,
)
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError


def test_no_flags_say_nothing() -> None:
    assert flag_tree(Flags()) == {}


def test_flags_are_keys() -> None:
    tree = flag_tree(
        Flags(target="demo", namespace="n", ephemeral_container=True, remote_dns=False, udp_outgoing=False, steal=True)
    )
    assert tree == {
        "target": {"path": "demo", "namespace": "n"},
        "agent": {"ephemeral": True},
        "feature": {
            "network": {"dns": {"enabled": False}, "outgoing": {"udp": False}, "incoming": {"mode": "steal"}},
        },
    }


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(UsageError, match=r"^--fs-mode: feature\.fs\.mode: Invalid enum value 'x'"):
        flag_tree(Flags(fs_mode="x"))


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("IMPERSONATED_TARGET", "pod/x", "target.path", "pod/x"),
        ("TARGET_NAMESPACE", "n", "target.namespace", "n"),
        ("KUBECONFIG", "~/k", "kubeconfig", "~/k"),
        ("KUBE_CONTEXT", "c", "kube_context", "c"),
        ("AGENT_IMAGE", "python:3", "agent.image", "python:3"),
        ("AGENT_NAMESPACE", "n", "agent.namespace", "n"),
        ("AGENT_STARTUP_TIMEOUT", "9", "agent.startup_timeout", "9"),
        ("EPHEMERAL_CONTAINER", "true", "agent.ephemeral", "true"),
        ("FILE_MODE", "local", "feature.fs.mode", "local"),
        ("FILE_READ_ONLY_PATTERN", "a;b", "feature.fs.read_only", ["a", "b"]),
        ("FILE_READ_WRITE_PATTERN", "a", "feature.fs.read_write", ["a"]),
        ("FILE_LOCAL_PATTERN", "a", "feature.fs.local", ["a"]),
        ("OVERRIDE_ENV_VARS_INCLUDE", "a;b", "feature.env.include", "a;b"),
        ("OVERRIDE_ENV_VARS_EXCLUDE", "a;b", "feature.env.exclude", "a;b"),
        ("REMOTE_DNS", "false", "feature.network.dns.enabled", "false"),
        ("TCP_OUTGOING", "0", "feature.network.outgoing.tcp", "0"),
        ("UDP_OUTGOING", "1", "feature.network.outgoing.udp", "1"),
        ("ENABLE_IPV6", "false", "feature.network.ipv6", "false"),
        ("AGENT_STEALER_FLUSH_CONNECTIONS", "false", "agent.flush_connections", "false"),
        ("OPERATOR_ON_CONCURRENT_STEAL", "continue", "feature.network.incoming.on_concurrent_steal", "continue"),
        ("AGENT_TCP_STEAL_TRAFFIC", "true", "feature.network.incoming.mode", "steal"),
        ("AGENT_TCP_STEAL_TRAFFIC", "false", "feature.network.incoming.mode", "mirror"),
        ("HTTP_FILTER_PORTS", "80;81", "feature.network.incoming.http_filter.ports", [80, 81]),
        ("HTTP_HEADER_FILTER", "x: y", "feature.network.incoming.http_filter.header_filter", "x: y"),
        ("SKIP_PROCESSES", "a;b", "skip_processes", ["a", "b"]),
        ("SKIP_BUILD_TOOLS", "false", "skip_build_tools", "false"),
        ("SKIP_EXTRA_BUILD_TOOLS", "a;b", "skip_extra_build_tools", ["a", "b"]),
    ],
)
def test_variables(name: str, text: str, key: str, value: object) -> None:
    assert lookup(variable_tree({"MIRRORD_" + name: text, "OTHER": "x", "MIRRORD_UNHEARD_OF": "x"}), key) == value


def test_empty_variables_are_not_set() -> None:
    assert variable_tree({"MIRRORD_FILE_MODE": ""}) == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [("FILE_MODE", "x"), ("REMOTE_DNS", "maybe"), ("AGENT_TCP_STEAL_TRAFFIC", "x"), ("HTTP_FILTER_PORTS", "a")],
)
def test_a_wrong_variable_is_named(name: str, text: str) -> None:
    with pytest.raises(UsageError, match=f"^MIRRORD_{name}: ") as refused:
        variable_tree({"MIRRORD_" + name: text})
    assert refused.value.exit_status == EXIT_USAGE


def test_merging() -> None:
    lower = {"a": {"b": 1, "c": [1, 2]}, "d": 1}
    assert merge(lower, {"a": {"c": [3]}, "e": {}}) == {"a": {"b": 1, "c": [3]}, "d": 1, "e": {}}
    assert merge({"a": 1}, {"a": {"b": 2}}) == {"a": {"b": 2}}
    assert lower == {"a": {"b": 1, "c": [1, 2]}, "d": 1}


def test_exclusive_keys() -> None:
    both = {"feature": {"env": {"include": "a", "exclude": "b"}}}
    with pytest.raises(UsageError, match=r"^m\.json: feature\.env\.include and feature\.env\.exclude cannot both be set"):
        check_exclusive("m.json", both)
    check_exclusive("m.json", {"feature": {"env": {"include": "a"}}})


def test_an_upper_layer_replaces_the_exclusive_counterpart() -> None:
    file = {"feature": {"env": {"exclude": "a", "unset": "b"}}}
    flags = {"feature": {"env": {"include": "c"}}}
    assert layered(file, flags) == {"feature": {"env": {"include": "c", "unset": "b"}}}
    assert layered(flags, file) == {"feature": {"env": {"exclude": "a", "unset": "b"}}}
