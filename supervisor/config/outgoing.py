"""`feature.network.outgoing` as the policy takes it."""

from __future__ import annotations

from ...syscalls.network_rules import AddressRule, FilterError, OutgoingConfig, parse_rule
from ..errors import EXIT_USAGE, UsageError
from . import schema


def read_outgoing(outgoing: schema.Outgoing) -> OutgoingConfig:
    """UsageError for what cannot be."""
    return OutgoingConfig(
        tcp=schema.default(outgoing.tcp, True),
        udp=schema.default(outgoing.udp, True),
        ignore_localhost=schema.default(outgoing.ignore_localhost, False),
        only_remote=_rules("remote", outgoing.filter.remote),
        only_local=_rules("local", outgoing.filter.local),
    )


def _rules(side: str, texts: schema.Listed | None) -> tuple[AddressRule, ...] | None:
    if texts is None:
        return None
    key = f"feature.network.outgoing.filter.{side}"
    try:
        return tuple(parse_rule(text) for text in schema.listed(texts))
    except FilterError as error:
        raise UsageError(f"{key}: {error}", EXIT_USAGE) from None
