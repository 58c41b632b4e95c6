"""What sits at this side's end of a stream, and what it needs from the session: the seam between the two."""

from __future__ import annotations

from typing import Callable, Protocol

from ..wire.connection import Connection
from .loop import Loop

OnEnd = Callable[[int], None]
"""Called once when a stream is over: 0 after an orderly end in both directions, else an errno."""


class End(Protocol):
    """Receives a stream's events. Nothing more comes after `on_reset`."""

    def on_data(self, data: memoryview) -> None:
        """Bytes; `Connection.consumed` when they are out of the way."""
        ...

    def on_eof(self) -> None:
        """No more bytes will come."""
        ...

    def on_reset(self, errno: int) -> None:
        """The stream is closed in both directions, by the peer, by `Session.reset`, or with the session."""
        ...

    def on_room(self) -> None:
        """There is more credit, or room in the backlog: sending may go on."""
        ...

    def settled(self) -> bool:
        """Whether a session that is about to close need not wait for bytes still to be sent from here."""
        ...


class Host(Protocol):
    """The session, as an end sees it."""

    loop: Loop
    connection: Connection

    def has_room(self) -> bool:
        """Whether bulk may be queued; else `wait_for_room`. Bounds what is read from sockets ahead of the transport."""
        ...

    def wait_for_room(self, end: End) -> None:
        """Call the end's `on_room` when there is room again."""
        ...

    def flush_soon(self) -> None:
        """What was queued goes to the transport before the loop next waits."""
        ...

    def forget(self, stream: int) -> None:
        """The end is done; it gets no more events."""
        ...
