"""How much of what matches is taken: a share at random, and at most so many a second."""

from __future__ import annotations

import random
import time
from typing import Callable, Optional

from .rules import Sample


class Sampler:
    """One for each subscription, whatever the number of connections. Call it once for each request (or connection).

    The rate is a bucket of one second's worth (at least one), so that a burst after silence is no more than that.
    """

    def __init__(
        self,
        sample: Optional[Sample],
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._share = sample.percent / 100 if sample is not None else 1.0
        self._rate = sample.per_second if sample is not None else 0.0
        self._clock = clock
        self._chance = chance
        self._most = max(1.0, self._rate)
        self._left = self._most
        self._filled_at = clock()

    def __call__(self) -> bool:
        """Whether this one is taken."""
        if self._share < 1 and self._chance() >= self._share:
            return False
        if not self._rate:
            return True
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._filled_at) * self._rate)
        self._filled_at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
