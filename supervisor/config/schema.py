"""The keys of a mirrord configuration, in their long forms, as types; `Any` where this tool does not look inside.

Short forms ("fs": "read", "network": false, ...) are rewritten to long ones before (`lengthen`), so that everything
behind this module knows one shape. null means "not set", as in mirrord.
"""

from __future__ import annotations

import difflib
import functools
import typing
from typing import Any, cast

import msgspec

from ..errors import EXIT_USAGE, UsageError

Tree = dict[str, Any]
Listed = str | list[str]


class _Keys(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    pass


class Target(_Keys, frozen=True):
    """`target`."""

    path: str | None = None
    namespace: str | None = None


class Agent(_Keys, frozen=True):
    """`agent`."""

    namespace: str | None = None
    image: str | None = None
    image_pull_policy: str | None = None
    image_pull_secrets: list[dict[str, str]] | None = None
    ephemeral: bool | None = None
    startup_timeout: float | None = None
    annotations: Any = None
    check_out_of_pods: Any = None
    clean_iptables_on_start: Any = None
    communication_timeout: Any = None
    disable_mesh_sidecar_injection: Any = None
    disabled_capabilities: Any = None
    dns: Any = None
    exclude_from_mesh: Any = None
    external_ip_fix: Any = None
    flush_connections: bool | None = None
    http_detection_timeout: Any = None
    inject_headers: bool | None = None
    jaq_time_limit: Any = None
    json_log: Any = None
    labels: Any = None
    log_level: Any = None
    max_body_buffer_size: Any = None
    max_body_buffer_timeout: Any = None
    metrics: Any = None
    nftables: Any = None
    node_selector: Any = None
    override_cache_control: Any = None
    priority_class: Any = None
    privileged: Any = None
    resources: Any = None
    security_context: Any = None
    service_account: Any = None
    tolerations: Any = None
    ttl: Any = None


class Env(_Keys, frozen=True):
    """`feature.env`."""

    include: Listed | None = None
    exclude: Listed | None = None
    override: dict[str, str] | None = None
    env_file: str | None = None
    mapping: dict[str, str] | None = None
    unset: Listed | None = None
    load_from_process: Any = None


class Fs(_Keys, frozen=True):
    """`feature.fs`; the last four are this tool's own."""

    mode: typing.Literal["local", "localwithoverrides", "read", "write"] | None = None
    read_write: Listed | None = None
    read_only: Listed | None = None
    local: Listed | None = None
    not_found: Listed | None = None
    mapping: dict[str, str] | None = None
    readonly_file_buffer: int | None = None
    write_behind: bool | None = None
    attribute_seconds: float | None = None
    negative_seconds: float | None = None
    fuse: typing.Literal["auto", "on", "off"] | None = None


class Magic(_Keys, frozen=True):
    """`feature.magic`."""

    auto_mount: bool | None = None
    aws: bool | None = None
    turbo: Any = None


Port = typing.Annotated[int, msgspec.Meta(ge=0, le=65535)]


class HttpFilter(_Keys, frozen=True):
    """`feature.network.incoming.http_filter`: one of the filters, and the ports it is for."""

    header_filter: str | None = None
    path_filter: str | None = None
    method_filter: str | None = None
    header_filter_jq: Any = None
    body_filter: dict[str, Any] | None = None
    all_of: list[Any] | None = None
    any_of: list[Any] | None = None
    ports: list[Port] | Port | None = None


class TlsDelivery(_Keys, frozen=True):
    """`feature.network.incoming.tls_delivery`; the last two are this tool's own."""

    protocol: typing.Literal["tls", "tcp"] | None = None
    trust_roots: Listed | None = None
    server_cert: str | None = None
    server_name: str | None = None
    pod_certificate: str | None = None
    pod_key: str | None = None


class Sample(_Keys, frozen=True):
    """`feature.network.incoming.sample`, this tool's own."""

    percent: float | None = None
    per_second: float | None = None


class Incoming(_Keys, frozen=True):
    """`feature.network.incoming`."""

    mode: typing.Literal["mirror", "steal", "off"] | None = None
    port_mapping: list[tuple[Port, Port]] | None = None
    ignore_ports: list[Port] | None = None
    ports: list[Port] | None = None
    ignore_localhost: bool | None = None
    http_filter: HttpFilter = HttpFilter()
    listen_ports: list[tuple[Port, Port]] | None = None
    on_concurrent_steal: typing.Literal["abort", "continue", "override"] | None = None
    tls_delivery: TlsDelivery | None = None
    https_delivery: TlsDelivery | None = None
    sample: Sample = Sample()
    probes: typing.Literal["pass", "take"] | None = None


class AddressFilter(_Keys, frozen=True):
    """`feature.network.outgoing.filter`, `feature.network.dns.filter`: one of the two."""

    remote: Listed | None = None
    local: Listed | None = None


class Outgoing(_Keys, frozen=True):
    """`feature.network.outgoing`."""

    tcp: bool | None = None
    udp: bool | None = None
    ignore_localhost: bool | None = None
    filter: AddressFilter = AddressFilter()
    unix_streams: Listed | None = None


class Dns(_Keys, frozen=True):
    """`feature.network.dns`."""

    enabled: bool | None = None
    filter: AddressFilter = AddressFilter()
    cache: bool | None = None


class Network(_Keys, frozen=True):
    """`feature.network`."""

    incoming: Incoming = Incoming()
    outgoing: Outgoing = Outgoing()
    dns: Dns = Dns()
    interfaces: bool | None = None
    ipv6: bool | None = None


class Feature(_Keys, frozen=True):
    """`feature`."""

    env: Env = Env()
    fs: Fs = Fs()
    network: Network = Network()
    hostname: bool | None = None
    copy_target: Any = None
    db_branches: Any = None
    magic: Magic = Magic()
    preview: Any = None
    split_queues: Any = None


class Root(_Keys, frozen=True, rename={"schema": "$schema"}):
    """A whole configuration."""

    schema: Any = None
    target: Target = Target()
    agent: Agent = Agent()
    feature: Feature = Feature()
    accept_invalid_certificates: bool | None = None
    kubeconfig: str | None = None
    kube_context: str | None = None
    key: Any = None
    api: Any = None
    baggage: Any = None
    ci: Any = None
    container: Any = None
    engine: typing.Literal["ptrace", "notify", "auto"] | None = None
    experimental: Any = None
    external_proxy: Any = None
    internal_proxy: Any = None
    multi_cluster: Any = None
    operator: Any = None
    profile: Any = None
    sip_binaries: Any = None
    skip_build_tools: bool | None = None
    skip_extra_build_tools: Listed | None = None
    skip_processes: Listed | None = None
    skip_sip: Any = None
    startup_retry: Any = None
    telemetry: Any = None
    traceparent: Any = None
    use_proxy: Any = None


def lengthen(source: str, raw: object) -> Tree:
    """A copy of `raw` without nulls and with every short form written out. UsageError if it is no table."""
    if not isinstance(raw, dict):
        raise UsageError(f"{source}: the configuration must be a table of keys", EXIT_USAGE)
    tree = cast(Tree, _Copy(source).of(raw))
    _rewrite(tree, ("target",), lambda value: {"path": value} if _is_target(value) else value)
    _rewrite(tree, ("target", "path"), _target_path)
    _rewrite(tree, ("agent", "image"), _image)
    _rewrite(tree, ("feature", "env"), _toggled({}, {"exclude": "*"}))
    _rewrite(tree, ("feature", "fs"), _toggled({"mode": "read"}, {"mode": "local"}, "mode"))
    _rewrite(tree, ("feature", "fs", "fuse"), _switch)
    network_off = {"incoming": False, "outgoing": False, "dns": False, "interfaces": False}
    _rewrite(tree, ("feature", "network"), _toggled({}, network_off))
    _rewrite(tree, ("feature", "network", "incoming"), _toggled({}, {"mode": "off"}, "mode"))
    _rewrite(tree, ("feature", "network", "outgoing"), _toggled({}, {"tcp": False, "udp": False}))
    _rewrite(tree, ("feature", "network", "dns"), _toggled({"enabled": True}, {"enabled": False}))
    return tree


_DEEPEST = 64
_MOST_VALUES = 100_000


# Copies without nulls, within limits: YAML's aliases can make a small file endless or huge.
class _Copy:
    def __init__(self, source: str) -> None:
        self._source = source
        self._values = 0

    def of(self, value: object, depth: int = 0) -> object:
        self._values += 1
        if depth > _DEEPEST or self._values > _MOST_VALUES:
            raise UsageError(f"{self._source}: too deep or too large for a configuration", EXIT_USAGE)
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    raise UsageError(f"{self._source}: the key {key!r} must be text; put it in quotes", EXIT_USAGE)
            return {key: self.of(element, depth + 1) for key, element in value.items() if element is not None}
        if isinstance(value, list):
            return [self.of(element, depth + 1) for element in value]
        return value


Rewriting = typing.Callable[[object], object]


def _rewrite(tree: Tree, path: tuple[str, ...], rewriting: Rewriting) -> None:
    *parents, last = path
    table: Any = tree
    for key in parents:
        table = table.get(key)
        if not isinstance(table, dict):
            return
    if last in table:
        table[last] = rewriting(table[last])


def _toggled(on: Tree, off: Tree, text_key: str = "") -> Rewriting:
    def rewriting(value: object) -> object:
        if isinstance(value, bool):
            return dict(on if value else off)
        return {text_key: value} if isinstance(value, str) and text_key else value

    return rewriting


# What YAML makes of `on` and `off` without quotes.
def _switch(value: object) -> object:
    return ("on" if value else "off") if isinstance(value, bool) else value


# {"pod": "x", "container": "c"} is the same as "pod/x/container/c".
def _is_target(value: object) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and not {"path", "namespace"} & set(value))


def _target_path(value: object) -> object:
    if not isinstance(value, dict) or not value:
        return value
    rest = {key: part for key, part in value.items() if key != "container"}
    if len(rest) != 1:
        return value
    ((kind, name),) = rest.items()
    return f"{kind}/{name}" + ("" if value.get("container") is None else f"/container/{value['container']}")


def _image(value: object) -> object:
    if isinstance(value, dict) and isinstance(value.get("registry"), str) and set(value) <= {"registry", "tag"}:
        return ":".join(str(part) for part in (value["registry"], value.get("tag")) if part is not None)
    return value


def validate(source: str, tree: Tree, *, strict: bool = True) -> Root:
    """`tree` (long forms) as types; UsageError with the place in `source`. Not strict: "true" and "8" are also fine."""
    _refuse_unknown(source, tree, Root, ())
    try:
        return msgspec.convert(tree, Root, strict=strict)
    except msgspec.ValidationError as error:
        what, _, where = str(error).replace("`object`", "a table").partition(" - at `$")
        place = where.rstrip("`").removeprefix(".")
        raise UsageError(f"{source}: {place}: {what}" if place else f"{source}: {what}", EXIT_USAGE) from None


# The keys of a table: name in the file -> the type of its table, or None for a value.
@functools.cache
def _children(keys: type[msgspec.Struct]) -> dict[str, type[msgspec.Struct] | None]:
    hints = typing.get_type_hints(keys)
    children: dict[str, type[msgspec.Struct] | None] = {}
    for known in msgspec.structs.fields(keys):
        hint = hints[known.name]
        is_table = isinstance(hint, type) and typing.get_origin(hint) is None and issubclass(hint, msgspec.Struct)
        children[known.encode_name] = hint if is_table else None
    return children


def _refuse_unknown(source: str, tree: Tree, keys: type[msgspec.Struct], above: tuple[str, ...]) -> None:
    children = _children(keys)
    for key, value in tree.items():
        if key not in children:
            unknown = printable(".".join((*above, key)))
            raise UsageError(f"{source}: unknown key {unknown}{_nearest(key, above, children)}", EXIT_USAGE)
        table = children[key]
        if table is not None and isinstance(value, dict):
            _refuse_unknown(source, value, table, (*above, key))


def printable(text: str) -> str:
    """`text` in a form that stays on one line of a terminal."""
    return text if text.isprintable() else repr(text)


def _nearest(key: str, above: tuple[str, ...], siblings: typing.Iterable[str]) -> str:
    near = difflib.get_close_matches(key, siblings, 1)
    found = ".".join((*above, near[0])) if near else ""
    if not found:
        everywhere = {path.rpartition(".")[2]: path for path in reversed(all_keys())}
        near = difflib.get_close_matches(key, everywhere, 1, 0.8)
        found = everywhere[near[0]] if near else ""
    return f"; did you mean {found}?" if found else ""


def all_keys(keys: type[msgspec.Struct] = Root, above: str = "") -> list[str]:
    """Every known key with its path, tables before what is in them."""
    found = []
    for key, table in _children(keys).items():
        found.append(above + key)
        if table is not None:
            found += all_keys(table, f"{above}{key}.")
    return found


def default(value: bool | None, default: bool) -> bool:
    """A switch, or what it is where nobody set it."""
    return default if value is None else value


def listed(value: Listed | None) -> tuple[str, ...]:
    """A list that may also be written as one text."""
    return () if value is None else (value,) if isinstance(value, str) else tuple(value)
