"""`feature.network.incoming` as the policy takes it."""

from __future__ import annotations

from ...syscalls.incoming_rules import IncomingConfig, IncomingMode
from ..errors import EXIT_USAGE, UsageError
from . import schema


def read_incoming(incoming: schema.Incoming, warnings: list[str]) -> IncomingConfig:
    """UsageError for what cannot be; a line in `warnings` for what will not happen."""
    key = "feature.network.incoming"
    mode = IncomingMode.OFF if incoming.mode in ("mirror", "off") else IncomingMode.STEAL
    if incoming.mode == "mirror":
        warnings.append(f"{key}.mode mirror is not supported yet: no traffic of the pod comes here (steal does)")
    ignored = set(incoming.ignore_ports or ())
    http_filter = dict(incoming.http_filter or {})
    ports = http_filter.pop("ports", None)
    if http_filter and mode is IncomingMode.STEAL:
        # Never take more of other people's traffic than was asked for.
        if isinstance(ports, list) and all(isinstance(port, int) for port in ports):
            ignored.update(ports)
            what = f"ports {', '.join(map(str, ports))} are not stolen"
        else:
            mode, what = IncomingMode.OFF, "no traffic of the pod comes here"
        warnings.append(f"{key}.http_filter is not supported yet: {what}")
    return IncomingConfig(
        mode=mode,
        ports=None if incoming.ports is None else frozenset(incoming.ports),
        ignore_ports=frozenset(ignored),
        ignore_localhost=schema.default(incoming.ignore_localhost, False),
        port_mapping=_port_mapping(f"{key}.port_mapping", incoming.port_mapping or []),
    )


def _port_mapping(key: str, pairs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    for side, what in ((0, "local"), (1, "pod")):
        ports = [pair[side] for pair in pairs]
        twice = {port for port in ports if ports.count(port) > 1}
        if twice:
            raise UsageError(f"{key}: the {what} port {min(twice)} is given twice", EXIT_USAGE)
    return tuple((local, pod) for local, pod in pairs)
