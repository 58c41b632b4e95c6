"""`feature.network.incoming`, with the keys of `agent` that belong to it, as the policy takes it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from typing import Any

from ...syscalls.incoming_rules import DEFAULT_MODE, IncomingConfig, IncomingMode
from ..errors import EXIT_USAGE, UsageError
from . import schema
from .http_filter import read_filter

Resolve = Callable[[str], str]
"""A path of the configuration -> a path of this machine."""

_KEY = "feature.network.incoming"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_LONGEST_PEM = 1024 * 1024


def read_incoming(
    incoming: schema.Incoming, agent: schema.Agent, warnings: list[str], resolve: Resolve = os.path.abspath
) -> IncomingConfig:
    """UsageError for what cannot be; a line in `warnings` for what will not happen."""
    mode = IncomingMode(incoming.mode) if incoming.mode else DEFAULT_MODE
    http_filter = read_filter(incoming.http_filter)
    plain = _plain_rules(incoming, agent, mode, warnings)
    tls = _tls(incoming, resolve)
    filtered = {**plain, **({"filter": http_filter} if http_filter else {}), **({} if tls is None else {"tls": tls})}
    ports = incoming.http_filter.ports
    if incoming.on_concurrent_steal == "override":
        warnings.append(f"{_KEY}.on_concurrent_steal override is not supported: another session keeps its port")
    return IncomingConfig(
        mode=mode,
        ports=None if incoming.ports is None else frozenset(incoming.ports),
        ignore_ports=frozenset(incoming.ignore_ports or ()),
        ignore_localhost=schema.default(incoming.ignore_localhost, False),
        port_mapping=_pairs(f"{_KEY}.port_mapping", incoming.port_mapping or [], "the local port", "the pod port"),
        listen_ports=_pairs(f"{_KEY}.listen_ports", incoming.listen_ports or [], "the program's port", "the local port"),
        filter_ports=None if ports is None else frozenset((ports,) if isinstance(ports, int) else ports),
        rules=_json(filtered),
        plain_rules=_json(plain),
        flush=schema.default(agent.flush_connections, True),
        fail_if_taken=incoming.on_concurrent_steal != "continue",
    )


# What holds for all ports, with a filter or without.
def _plain_rules(incoming: schema.Incoming, agent: schema.Agent, mode: IncomingMode, warnings: list[str]) -> dict[str, Any]:
    rules: dict[str, Any] = {}
    sample = _sample(incoming.sample)
    if sample and mode is IncomingMode.STEAL:
        warnings.append(f"{_KEY}.sample applies to mirrored traffic only")
    elif sample:
        rules["sample"] = sample
    if incoming.probes is not None:
        rules["probes"] = incoming.probes
    if schema.default(agent.inject_headers, False):
        rules["marker"] = True
    return rules


def _sample(sample: schema.Sample) -> dict[str, float]:
    found = {}
    if sample.percent is not None:
        if not 0 <= sample.percent <= 100:
            raise UsageError(f"{_KEY}.sample.percent: expected 0 to 100", EXIT_USAGE)
        found["percent"] = sample.percent
    if sample.per_second is not None:
        if not 0 < sample.per_second <= 1e9:
            raise UsageError(f"{_KEY}.sample.per_second: expected a number above 0", EXIT_USAGE)
        found["per_second"] = sample.per_second
    return found


# mirrord's older name of the key counts where the newer one is not set.
def _tls(incoming: schema.Incoming, resolve: Resolve) -> dict[str, str] | None:
    name = "tls_delivery" if incoming.tls_delivery is not None else "https_delivery"
    delivery = incoming.tls_delivery or incoming.https_delivery
    if delivery is None:
        return None
    key = f"{_KEY}.{name}"
    if delivery.trust_roots is not None and delivery.server_cert is not None:
        raise UsageError(f"{key}: trust_roots and server_cert cannot both be set; keep one", EXIT_USAGE)
    roots = [_certificates(f"{key}.trust_roots", resolve(path)) for path in schema.listed(delivery.trust_roots)]
    if delivery.server_cert is not None:
        roots = [_certificates(f"{key}.server_cert", resolve(delivery.server_cert))]
    given = {
        "delivery": delivery.protocol,
        "server_name": delivery.server_name,
        "trust_roots": "".join(roots),
        "certificate": delivery.pod_certificate,
        "key": delivery.pod_key,
    }
    return {name: value for name, value in given.items() if value}


# The certificates of a PEM file, or of all files in a folder; nothing else of them leaves this machine.
def _certificates(key: str, path: str) -> str:
    try:
        paths = [os.path.join(path, name) for name in sorted(os.listdir(path))] if os.path.isdir(path) else [path]
        texts = [_read(one) for one in paths if os.path.isfile(one) or len(paths) == 1]
    except OSError as error:
        raise UsageError(f"{key}: cannot read {error.filename or path}: {error.strerror}", EXIT_USAGE) from None
    found = [match.group() + "\n" for text in texts for match in _CERTIFICATE.finditer(text)]
    if not found:
        raise UsageError(f"{key}: {path} holds no PEM certificate", EXIT_USAGE)
    return "".join(found)


def _read(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read(_LONGEST_PEM)


def _json(rules: dict[str, Any]) -> str:
    return json.dumps(rules, separators=(",", ":"), sort_keys=True) if rules else ""


def _pairs(key: str, pairs: list[tuple[int, int]], *sides: str) -> tuple[tuple[int, int], ...]:
    for side, what in enumerate(sides):
        ports = [pair[side] for pair in pairs]
        twice = {port for port in ports if ports.count(port) > 1}
        if twice:
            raise UsageError(f"{key}: {what} {min(twice)} is given twice", EXIT_USAGE)
        if 0 in ports:
            raise UsageError(f"{key}: 0 is no port", EXIT_USAGE)
    return tuple((one, other) for one, other in pairs)
