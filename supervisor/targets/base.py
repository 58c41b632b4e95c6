"""What the relay needs of a target: the thing in whose context the program shall run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from ..channel.base import Channel

Progress = Callable[[str], None]
"""Takes news of something slow, a few words; shown if it takes long or the user watches."""


class Target(Protocol):
    """One target. Made, and its name checked, before the relay is forked; used only in the relay from then on."""

    @property
    def boot_secret(self) -> bytes:
        """What the waiting loader proves its client by. Known after `start`."""
        ...

    def describe(self) -> str:
        """For people, as in "pod/web" or "process 4711"."""
        ...

    def agent_target(self) -> dict[str, Any]:
        """What the agent is told of its target: {"pid": N} or {"container_id": ...}. Known after `start`."""
        ...

    def start(self, progress: Progress) -> Channel:
        """Start the loader and return the way to it. May block; UsageError says what is wrong and the remedy.

        It may be interrupted by an exception that is no `Exception` when the user gives up; `stop` follows.
        """
        ...

    def stop(self) -> None:
        """Take away what `start` made, in whatever state that is, the channel included. Bounded in time."""
        ...
