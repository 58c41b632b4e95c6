"""Which end a request is for: filter, kubelet's probes, sampling."""

from __future__ import annotations

from typing import Callable, Iterator, Optional

from .actions import CLIENT, POD
from .filters import Facts
from .rules import Rules

COPY = "copy"
"""Choice besides POD and CLIENT: the pod's container answers, and the client's program gets a copy."""

FORWARDED = b"forwarded-to-client"
"""Value of the marker header in an answer of the client's program."""

PASSED = b"passed-through"
"""Value of the marker header in an answer of the pod's container."""

_PROBE = b"kube-probe/"


class Decider:
    """One for each connection. `numbers` gives its connections their numbers."""

    def __init__(self, rules: Rules, mirror: bool, sampled: Callable[[], bool]) -> None:
        self.mirror = mirror
        self.default_end = POD if mirror or rules.filter is not None else CLIENT
        self.numbers: Iterator[int] = iter(range(1, 1 << 62))
        self._filter = rules.patient
        self._take_probes = rules.take_probes
        self._marker = rules.marker
        self._sampled = sampled

    def choose(self, facts: Facts) -> Optional[str]:
        """POD, CLIENT or COPY; None: that depends on the body."""
        if not self._take_probes and _is_probe(facts):
            return POD
        if self._filter is not None:
            matches = self._filter.match(facts)
            if matches is None:
                return None
            if not matches:
                return POD
        if not self._sampled():
            return POD
        return COPY if self.mirror else CLIENT

    def choose_without_body(self, facts: Facts) -> str:
        """As `choose`, when the body cannot be waited for: no filter of bodies matches."""
        facts.body = b""
        return self.choose(facts) or POD

    def marker(self, choice: str) -> bytes:
        """The marker header's value for answers; b"": none is wanted."""
        if not self._marker:
            return b""
        return FORWARDED if choice == CLIENT else PASSED


# What the kubelet's HTTP probes say of themselves.
def _is_probe(facts: Facts) -> bool:
    return any(len(name) == 10 and name.lower() == b"user-agent" and value.startswith(_PROBE) for name, value in facts.headers)
