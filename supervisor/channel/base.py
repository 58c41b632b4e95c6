"""What the relay needs of a way to the agent."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from ...agent.pump.transport import Transport

__all__ = ["Channel", "LastWords", "Transport"]


class Channel(Protocol):
    """A way to one agent. The relay opens it at the start and, if it is `resumable`, again whenever it broke."""

    @property
    def resumable(self) -> bool:
        """Whether a further `open` reaches the same agent."""
        ...

    def open(self) -> Transport:
        """Connect. May block, for a bounded time; after the first time it is called from a thread.

        OSError: not now, worth another try. UsageError: never, with the remedy.
        """
        ...

    def close(self) -> None:
        """Give everything back. The session has said its `Bye` and closed its transport."""
        ...


@runtime_checkable
class LastWords(Protocol):
    """A channel that hears of the agent's process besides the protocol."""

    def last_words(self) -> str:
        """One line for people (the end of its stderr, its exit status), or "". May block, for a bounded time.

        Of a resumable channel: that the agent has ended, so that there is nothing to resume.
        """
        ...
