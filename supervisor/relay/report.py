"""Lines for the user from the relay: to stderr, whole, and never an error of their own."""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable

PATIENCE_S = 1.0
"""What takes longer than this is worth a line."""


def say(text: str) -> None:
    """Write one line to stderr."""
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(2, f"mirrord-trace: {text}\n".encode(errors="replace"))


def say_traceback() -> None:
    """Write the traceback of the exception being handled. Not by sys.stderr, whose file may be the parent's."""
    with contextlib.suppress(OSError):
        os.write(2, traceback.format_exc().encode(errors="replace"))


class Progress:
    """News of something that should be quick: shown only once it takes longer than `PATIENCE_S`.

    What is reported before is not lost: call `show` when that time is over, and the latest of it appears then.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._loud_from = clock() + PATIENCE_S
        self._latest = ""
        self._said = ""

    def __call__(self, text: str) -> None:
        """Report `text`, unless it was the last thing said."""
        self._latest = text
        self.show()

    def show(self) -> None:
        """Say the latest news if it is time and they have not been said."""
        if self._latest == self._said or self._clock() < self._loud_from:
            return
        self._said = self._latest
        say(self._said)


def size(count: int) -> str:
    """A number of bytes for people."""
    amount, units = float(count), ["TB", "GB", "MB", "kB", "B"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop()
    unit = units[-1]
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"
