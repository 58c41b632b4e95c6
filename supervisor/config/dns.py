"""`feature.network.dns` as the relay takes it."""

from __future__ import annotations

from ...syscalls.name_rules import DnsConfig, NameRule
from ...syscalls.network_rules import AddressRule, FilterError, OutgoingConfig, parse_rule
from ..errors import EXIT_USAGE, UsageError
from . import schema


def read_dns(dns: schema.Dns, outgoing: OutgoingConfig, warnings: list[str]) -> DnsConfig:
    """UsageError for what cannot be; a line in `warnings` for what will not happen.

    Hosts that `outgoing.filter.local` names are resolved here, too, and those of `outgoing.filter.remote` in the pod, as
    far as `dns.filter` has no list of the other kind.
    """
    is_on = schema.default(dns.enabled, True)
    only_remote = _names("remote", dns.filter.remote, warnings)
    only_local = _names("local", dns.filter.local, warnings)
    if not is_on:
        if only_remote is not None or only_local is not None:
            warnings.append("feature.network.dns.filter does nothing with feature.network.dns.enabled off")
        if outgoing.wants_names:
            warnings.append("feature.network.outgoing.filter: names match nothing with feature.network.dns.enabled off")
        return DnsConfig(cache=False)
    if only_remote is not None:
        only_remote += _hosts(outgoing.only_remote)
    elif only_local is not None or outgoing.only_local is not None:
        only_local = ((only_local or ()) + _hosts(outgoing.only_local)) or None
    return DnsConfig(schema.default(dns.cache, True), only_remote, only_local, outgoing.wants_names)


def _names(side: str, texts: schema.Listed | None, warnings: list[str]) -> tuple[NameRule, ...] | None:
    if texts is None:
        return None
    key = f"feature.network.dns.filter.{side}"
    try:
        rules = {text: parse_rule(text) for text in schema.listed(texts)}
    except FilterError as error:
        raise UsageError(f"{key}: {error}", EXIT_USAGE) from None
    for text, rule in rules.items():
        if rule.name is None:
            warnings.append(f"{key}: {schema.printable(text)} names no host and matches no query")
        elif rule.port:
            warnings.append(f"{key}: {schema.printable(text)} is taken without its port, which no query tells")
    return _hosts(tuple(rules.values()))


def _hosts(rules: tuple[AddressRule, ...] | None) -> tuple[NameRule, ...]:
    return tuple(dict.fromkeys(rule.name for rule in rules or () if rule.name is not None))
