"""What the command line and MIRRORD_* variables say, as trees of configuration keys, and how layers are merged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import EXIT_USAGE, UsageError
from .schema import Tree, validate


@dataclass(frozen=True)
class Flags:
    """The values of the command line; None (False for `from_pod`, `trace`, `stats`): not given."""

    target: str | None = None
    namespace: str | None = None
    context: str | None = None
    kubeconfig: str | None = None
    accept_invalid_certificates: bool | None = None
    agent_namespace: str | None = None
    agent_image: str | None = None
    agent_startup_timeout_s: float | None = None
    ephemeral_container: bool | None = None
    fs_mode: str | None = None
    env_include: str | None = None
    env_exclude: str | None = None
    env_file: str | None = None
    remote_dns: bool | None = None
    tcp_outgoing: bool | None = None
    udp_outgoing: bool | None = None
    steal: bool | None = None
    skip_processes: str | None = None
    key: str | None = None
    config_file: str | None = None
    from_pod: bool = False
    trace: bool = False
    stats: bool = False
    engine: str | None = None


_FLAGS = {
    "target": ("-t", "target.path"),
    "namespace": ("-n", "target.namespace"),
    "context": ("--context", "kube_context"),
    "kubeconfig": ("--kubeconfig", "kubeconfig"),
    "accept_invalid_certificates": ("-c", "accept_invalid_certificates"),
    "agent_namespace": ("-a", "agent.namespace"),
    "agent_image": ("-i", "agent.image"),
    "agent_startup_timeout_s": ("--agent-startup-timeout", "agent.startup_timeout"),
    "ephemeral_container": ("-e", "agent.ephemeral"),
    "fs_mode": ("--fs-mode", "feature.fs.mode"),
    "env_include": ("-s", "feature.env.include"),
    "env_exclude": ("-x", "feature.env.exclude"),
    "env_file": ("--env-file", "feature.env.env_file"),
    "remote_dns": ("--no-remote-dns", "feature.network.dns.enabled"),
    "tcp_outgoing": ("--no-tcp-outgoing", "feature.network.outgoing.tcp"),
    "udp_outgoing": ("--no-udp-outgoing", "feature.network.outgoing.udp"),
    "steal": ("--steal", "feature.network.incoming.mode"),
    "skip_processes": ("--skip-processes", "skip_processes"),
    "key": ("-k", "key"),
    "engine": ("--engine", "engine"),
}

# Variable without MIRRORD_ -> key. Values are read as the key's type ("true", "1", "80"); lists are split at ";".
_VARIABLES = {
    "IMPERSONATED_TARGET": "target.path",
    "TARGET_NAMESPACE": "target.namespace",
    "ACCEPT_INVALID_CERTIFICATES": "accept_invalid_certificates",
    "KUBECONFIG": "kubeconfig",
    "KUBE_CONTEXT": "kube_context",
    "KEY": "key",
    "PROXY": "use_proxy",
    "AGENT_NAMESPACE": "agent.namespace",
    "AGENT_IMAGE": "agent.image",
    "AGENT_STARTUP_TIMEOUT": "agent.startup_timeout",
    "AGENT_COMMUNICATION_TIMEOUT": "agent.communication_timeout",
    "AGENT_STEALER_FLUSH_CONNECTIONS": "agent.flush_connections",
    "AGENT_TTL": "agent.ttl",
    "EPHEMERAL_CONTAINER": "agent.ephemeral",
    "FILE_MODE": "feature.fs.mode",
    "FILE_READ_WRITE_PATTERN": "feature.fs.read_write",
    "FILE_READ_ONLY_PATTERN": "feature.fs.read_only",
    "FILE_LOCAL_PATTERN": "feature.fs.local",
    "OVERRIDE_ENV_VARS_INCLUDE": "feature.env.include",
    "OVERRIDE_ENV_VARS_EXCLUDE": "feature.env.exclude",
    "OVERRIDE_ENV_VARS_FILE": "feature.env.env_file",
    "REMOTE_DNS": "feature.network.dns.enabled",
    "TCP_OUTGOING": "feature.network.outgoing.tcp",
    "UDP_OUTGOING": "feature.network.outgoing.udp",
    "OUTGOING_REMOTE_UNIX_STREAMS": "feature.network.outgoing.unix_streams",
    "ENABLE_IPV6": "feature.network.ipv6",
    "AGENT_TCP_STEAL_TRAFFIC": "feature.network.incoming.mode",
    "OPERATOR_ON_CONCURRENT_STEAL": "feature.network.incoming.on_concurrent_steal",
    "HTTP_HEADER_FILTER": "feature.network.incoming.http_filter.header_filter",
    "HTTP_HEADER_FILTER_JQ": "feature.network.incoming.http_filter.header_filter_jq",
    "HTTP_PATH_FILTER": "feature.network.incoming.http_filter.path_filter",
    "HTTP_METHOD_FILTER": "feature.network.incoming.http_filter.method_filter",
    "HTTP_FILTER_PORTS": "feature.network.incoming.http_filter.ports",
    "SKIP_PROCESSES": "skip_processes",
    "SKIP_BUILD_TOOLS": "skip_build_tools",
    "SKIP_EXTRA_BUILD_TOOLS": "skip_extra_build_tools",
    "ENGINE": "engine",
}
_LISTS = (
    "feature.fs.read_write",
    "feature.fs.read_only",
    "feature.fs.local",
    "feature.network.outgoing.unix_streams",
    "skip_processes",
    "skip_extra_build_tools",
)
_PORTS = "feature.network.incoming.http_filter.ports"
_INCOMING = "feature.network.incoming.mode"

_EXCLUSIVE = (
    ("feature.env.include", "feature.env.exclude"),
    ("feature.network.incoming.ports", "feature.network.incoming.ignore_ports"),
    ("feature.network.outgoing.filter.remote", "feature.network.outgoing.filter.local"),
    ("feature.network.dns.filter.remote", "feature.network.dns.filter.local"),
)


def flag_tree(flags: Flags) -> Tree:
    """The command line as keys. UsageError names the flag whose value is wrong."""
    tree: Tree = {}
    for name, (flag, key) in _FLAGS.items():
        value = getattr(flags, name)
        if name == "steal":
            value = "steal" if value else None
        if name == "skip_processes" and value is not None:
            value = value.split(";")
        if value is not None:
            validate(flag, _branch(key, value))
            tree = merge(tree, _branch(key, value))
    return tree


def variable_tree(environ: Mapping[str, str]) -> Tree:
    """The MIRRORD_* variables as keys. Empty ones count as not set. UsageError names the variable that is wrong."""
    tree: Tree = {}
    for name, key in _VARIABLES.items():
        text = environ.get("MIRRORD_" + name, "")
        if text:
            branch = _branch(key, _variable_value("MIRRORD_" + name, key, text))
            validate("MIRRORD_" + name, branch, strict=False)
            tree = merge(tree, branch)
    return tree


def _variable_value(name: str, key: str, text: str) -> object:
    if key in _LISTS:
        return text.split(";")
    if key == _PORTS:
        ports = text.replace(",", ";").split(";")
        if not all(port.strip().isdecimal() for port in ports):
            raise UsageError(f"{name}: {key}: expected port numbers separated by ';'", EXIT_USAGE)
        return [int(port) for port in ports]
    if key == _INCOMING:
        modes = {"true": "steal", "1": "steal", "false": "mirror", "0": "mirror"}
        return modes.get(text.lower(), text)
    return text


def _branch(key: str, value: object) -> Tree:
    *parents, last = key.split(".")
    tree: Tree = {last: value}
    for parent in reversed(parents):
        tree = {parent: tree}
    return tree


def lookup(tree: Tree, key: str) -> Any:
    """The value of a dotted key, None if it is not set."""
    value: Any = tree
    for part in key.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(part)
    return value


def check_exclusive(source: str, tree: Tree) -> None:
    """UsageError if one layer sets two keys of which only one can be meant."""
    for one, other in _EXCLUSIVE:
        if lookup(tree, one) is not None and lookup(tree, other) is not None:
            raise UsageError(f"{source}: {one} and {other} cannot both be set; keep one", EXIT_USAGE)


def layered(lower: Tree, upper: Tree) -> Tree:
    """`upper` over `lower`; setting one of two exclusive keys in `upper` unsets the other in `lower`."""
    for pair in _EXCLUSIVE:
        for one, other in (pair, pair[::-1]):
            if lookup(upper, one) is not None and lookup(lower, other) is not None:
                lower = _without(lower, other.split("."))
    return merge(lower, upper)


def merge(lower: Tree, upper: Tree) -> Tree:
    """Tables are merged key by key; any other value of `upper` replaces that of `lower`."""
    tree = dict(lower)
    for key, value in upper.items():
        below = tree.get(key)
        tree[key] = merge(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return tree


def _without(tree: Tree, path: list[str]) -> Tree:
    if len(path) == 1:
        return {key: value for key, value in tree.items() if key != path[0]}
    return {**tree, path[0]: _without(tree[path[0]], path[1:])}
