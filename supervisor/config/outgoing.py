"""`feature.network.outgoing` as the policy takes it."""

from __future__ import annotations

from ...syscalls.network_rules import AddressRule, FilterError, OutgoingConfig, parse_rule
from ..errors import EXIT_USAGE, UsageError
from . import schema


def read_outgoing(outgoing: schema.Outgoing, warnings: list[str]) -> OutgoingConfig:
    """UsageError for what cannot be; a line in `warnings` for what will not happen."""
    return OutgoingConfig(
        tcp=schema.default(outgoing.tcp, True),
        udp=schema.default(outgoing.udp, True),
        ignore_localhost=schema.default(outgoing.ignore_localhost, False),
        only_remote=_rules("remote", outgoing.filter.remote, warnings),
        only_local=_rules("local", outgoing.filter.local, warnings),
    )


def _rules(side: str, texts: schema.Listed | None, warnings: list[str]) -> tuple[AddressRule, ...] | None:
    if texts is None:
        return None
    key = f"feature.network.outgoing.filter.{side}"
    try:
        rules = tuple(parse_rule(text) for text in schema.listed(texts))
    except FilterError as error:
        raise UsageError(f"{key}: {error}", EXIT_USAGE) from None
    names = ", ".join(rule.name for rule in rules if rule.name)
    if names:
        warnings.append(f"{key}: names are not supported yet and match nothing: {names}")
    return rules
