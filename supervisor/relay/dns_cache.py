"""Answers of the pod's name servers, kept for as long as they say.

Programs without a resolver cache of their own (most) ask for every connection, and each question is a round trip to the
pod. An entry answers only a query that is the same byte for byte, but for its id and the case of the name: other flags
or other EDNS options are other questions.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import NamedTuple

from . import dns_message

MOST_ENTRIES = 1024
LONGEST_BYTES = 8192
"""Of one kept answer."""

LONGEST_S = 3600
"""However long an answer says it may be kept."""


class _Entry(NamedTuple):
    message: bytes
    response: dns_message.Response
    since: float
    until: float


class DnsCache:
    """Bounded; the longest unused makes room. `place` says who was asked: servers may differ."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()

    def answer(self, place: Hashable, message: bytes, query: dns_message.Query) -> bytes | None:
        """The answer to a query, or None if it has to be asked."""
        key = (place, query.key)
        entry = self._entries.get(key)
        if entry is None:
            return None
        now = self._clock()
        if now >= entry.until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        age_s = int(now - entry.since)
        return dns_message.answered_from(entry.message, entry.response, age_s, message, query.question_end)

    def keep(self, place: Hashable, query: dns_message.Query, message: bytes, response: dns_message.Response) -> None:
        """The answer to `query` has come."""
        lifetime_s = min(response.lifetime_s(), LONGEST_S)
        if lifetime_s <= 0 or len(message) > LONGEST_BYTES or response.question_end != query.question_end:
            return
        now = self._clock()
        self._entries[(place, query.key)] = _Entry(message, response, now, now + lifetime_s)
        self._entries.move_to_end((place, query.key))
        while len(self._entries) > MOST_ENTRIES:
            self._entries.popitem(last=False)
