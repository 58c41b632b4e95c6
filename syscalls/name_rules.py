"""Host names in filters, as pure functions: mirrord's `feature.network.dns.filter` and the names of `outgoing.filter`.

A rule is a name, which means that name alone, or `*.suffix`, which means every name below the suffix, or `*`. Case and
a final dot mean nothing. Which names a query or an address goes by (see `aliases`) includes what is left of a name
without one of the pod's search domains, since that is what the program has asked its resolver for.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from dataclasses import dataclass

MOST_LABELS = 127
LONGEST_NAME = 253
_LETTERS = frozenset(string.ascii_lowercase + string.digits + "-_")


class NameRuleError(ValueError):
    """What cannot be a host name or a pattern of host names."""


@dataclass(frozen=True)
class NameRule:
    """One name (`below` False), or all names below `name` (every name if it is empty)."""

    name: str
    below: bool = False

    def matches(self, names: Iterable[str]) -> bool:
        """Whether one of these canonical names is meant."""
        if not self.below:
            return self.name in names
        suffix = f".{self.name}" if self.name else ""
        return any(name.endswith(suffix) for name in names)


def parse_name_rule(text: str) -> NameRule:
    """`name`, `*.suffix` or `*`. Raises NameRuleError."""
    name = canonical(text)
    if name == "*":
        return NameRule("", below=True)
    below = name.startswith("*.")
    if below:
        name = name[2:]
    labels = name.split(".")
    if len(name) > LONGEST_NAME or not all(label and len(label) <= 63 and set(label) <= _LETTERS for label in labels):
        raise NameRuleError(f"{text!r} is neither a host name nor *.SUFFIX")
    return NameRule(name, below)


def canonical(name: str) -> str:
    """A name as rules compare it: lower case, without the final dot; international names in their ASCII form."""
    if not name.isascii():
        try:
            name = name.encode("idna").decode("ascii")
        except UnicodeError:
            return name.lower()
    return name.lower().removesuffix(".")


def aliases(name: str, search: Iterable[str]) -> tuple[str, ...]:
    """`name` (canonical), and what it is without each of the search domains (canonical) that it ends with."""
    shorter = (name.removesuffix(f".{domain}") for domain in search if domain)
    return tuple(dict.fromkeys((name, *shorter)))


@dataclass(frozen=True)
class DnsConfig:
    """`feature.network.dns` for what goes to name servers. At most one of the two lists is not None.

    `cache`: answers are kept for their time to live. `learn`: which names addresses were found by matters to a filter.
    """

    cache: bool = True
    only_remote: tuple[NameRule, ...] | None = None
    only_local: tuple[NameRule, ...] | None = None
    learn: bool = False

    def is_local(self, names: Iterable[str]) -> bool:
        """Whether a query for what goes by these names is answered by this machine, not by the pod."""
        names = tuple(names)
        if self.only_remote is not None:
            return not any(rule.matches(names) for rule in self.only_remote)
        return self.only_local is not None and any(rule.matches(names) for rule in self.only_local)

    @property
    def has_filter(self) -> bool:
        """Whether any query could be answered by this machine."""
        return self.only_remote is not None or bool(self.only_local)


WITHOUT_FILTER = DnsConfig()
"""As an empty configuration file has it."""
