"""`feature.network.outgoing.unix_streams` as the policy takes it."""

from __future__ import annotations

from ...syscalls.path_rules import PatternError
from ...syscalls.unix_rules import UnixRules
from ..errors import EXIT_USAGE, UsageError
from . import schema


def read_unix_streams(outgoing: schema.Outgoing) -> tuple[str, ...]:
    """The patterns; UsageError for one that does not compile."""
    patterns = schema.listed(outgoing.unix_streams)
    try:
        UnixRules(patterns, dns=True)
    except PatternError as error:
        raise UsageError(str(error), EXIT_USAGE) from None
    return patterns
