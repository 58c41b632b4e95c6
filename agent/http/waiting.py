"""A request that waits for its body, because a filter looks into it."""

from __future__ import annotations

from typing import Optional

from .bodies import Chunked
from .decide import Decider
from .filters import MOST_BODY_BYTES, Facts
from .heads import CHUNKED, Refused, RequestHead

BODY_WAIT_S = 1.0
"""For how long a request waits; then no filter of bodies matches it."""

# Chunks of a few bytes each are mostly framing.
_MOST_FRAMED_BYTES = 4 * MOST_BODY_BYTES


class WaitingBody:
    """`continued`: the peer was told to go on, so the end's own 100 is too much."""

    def __init__(self, head: RequestHead, facts: Facts) -> None:
        self.head = head
        self.continued = False
        self._facts = facts
        self._chunks = Chunked(collect=True) if head.length == CHUNKED else None
        self._seen = head.size
        self._given_up = head.length > MOST_BODY_BYTES

    def give_up(self) -> None:
        """It takes too long, or the rest will not come."""
        self._given_up = True

    def wants_continue(self) -> bool:
        """True once, if the peer holds the body back until it is told to go on (RFC 9110, 10.1.1)."""
        if not self.head.expects or self.continued or self.head.minor != b"1":
            return False
        self.continued = True
        return True

    def look(self, buffer: bytes, decider: Decider, ended: bool) -> Optional[str]:
        """The choice, given all that there is of the request; None: not yet."""
        body = self._body(buffer)
        if body is not None and len(body) <= MOST_BODY_BYTES:
            self._facts.body = body
            return decider.choose(self._facts)
        if self._given_up or ended:
            return decider.choose_without_body(self._facts)
        return None

    def _body(self, buffer: bytes) -> Optional[bytes]:
        head = self.head
        if self._chunks is None:
            end = head.size + head.length
            return buffer[head.size : end] if len(buffer) >= end else None
        content = self._chunks.content
        assert content is not None
        if not self._given_up:
            try:
                self._chunks.take(buffer, self._seen)
            except Refused:
                self._given_up = True
            self._seen = len(buffer)
            if len(content) > MOST_BODY_BYTES or len(buffer) - head.size > _MOST_FRAMED_BYTES:
                self._given_up = True
        return bytes(content) if self._chunks.done else None
