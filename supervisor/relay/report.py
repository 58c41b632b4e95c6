"""Lines for the user from the relay: to stderr, whole, and never an error of their own."""

from __future__ import annotations

import contextlib
import os
import time
import traceback

PATIENCE_S = 1.0
"""What takes longer than this is worth a line even if stderr is not a terminal."""


def say(text: str) -> None:
    """Write one line to stderr."""
    with contextlib.suppress(OSError):  # nobody reads it
        os.write(2, f"mirrord-trace: {text}\n".encode(errors="replace"))


def say_traceback() -> None:
    """Write the traceback of the exception being handled. Not by sys.stderr, whose file may be the parent's."""
    with contextlib.suppress(OSError):
        os.write(2, traceback.format_exc().encode(errors="replace"))


class Progress:
    """News of something that should be quick: silent for the first second, unless stderr is a terminal.

    What is reported meanwhile is not lost: the latest line is shown once the second is over and the next one comes.
    """

    def __init__(self, terminal: bool | None = None, now: float | None = None) -> None:
        self._loud_from = (time.monotonic() if now is None else now) + PATIENCE_S
        self._terminal = _stderr_is_terminal() if terminal is None else terminal
        self._last = ""

    def __call__(self, text: str) -> None:
        """Report `text`, unless it was the last thing said."""
        if text == self._last or not (self._terminal or time.monotonic() >= self._loud_from):
            return
        self._last = text
        say(text)


def size(count: int) -> str:
    """A number of bytes for people."""
    amount, units = float(count), ["TB", "GB", "MB", "kB", "B"]
    while amount >= 1000 and len(units) > 1:
        amount /= 1000
        units.pop()
    unit = units[-1]
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == "B" else f"{amount:.1f} {unit}"


def _stderr_is_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:
        return False
