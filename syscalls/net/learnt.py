"""Which names the program found an address by: what the relay read in the answers of name servers.

An entry lives at least as long as the answer said, and an hour more: programs keep addresses, and a filter that
changes its mind about a connection pool would be a riddle. Both tables are bounded; the oldest make room.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

GRACE_S = 3600.0
MOST_ADDRESSES = 4096
MOST_NAMES = 32
"""Of one address: thousands of names may lead to a load balancer."""


class NameTable:
    """Packed IP address -> names. Empty unless some filter has names."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._names: dict[bytes, dict[str, float]] = {}

    def learn(self, ips: Iterable[bytes], names: Iterable[str], ttl_s: int) -> None:
        """These names lead to these addresses for `ttl_s` seconds from now."""
        expires = self._clock() + max(0, ttl_s) + GRACE_S
        for ip in ips:
            known = self._names.pop(ip, {})
            self._names[ip] = known
            for name in names:
                known[name] = max(expires, known.pop(name, expires))
            while len(known) > MOST_NAMES:
                del known[next(iter(known))]
        while len(self._names) > MOST_ADDRESSES:
            del self._names[next(iter(self._names))]

    def of(self, ip: bytes) -> tuple[str, ...]:
        """The names of an address, in canonical form."""
        known = self._names.get(ip)
        if not known:
            return ()
        now = self._clock()
        return tuple(name for name, expires in known.items() if expires >= now)
