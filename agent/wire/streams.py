"""One stream's state on one side: credit in both directions, and how far each direction has come."""

from __future__ import annotations

from collections import deque
from typing import Deque, Tuple

from .errors import LocalProtocolError, RemoteProtocolError
from .frames import Buffer


class Stream:
    """A stream that is open in at least one direction.

    `send_window`: bytes we may still send. `receive_window`: bytes the peer may still send. `queue`: frames (kind,
    payload) not yet sent; its DATA is always covered by credit, so nothing in it ever waits for the peer's consumer.
    """

    __slots__ = (
        "announced",
        "eof_queued",
        "eof_received",
        "id",
        "queue",
        "receive_window",
        "scheduled",
        "send_window",
        "unconsumed",
        "unreported",
        "window",
    )

    def __init__(self, stream_id: int, window: int) -> None:
        self.id = stream_id
        self.window = window
        self.send_window = window
        self.receive_window = window
        self.unconsumed = 0
        self.unreported = 0
        self.queue: Deque[Tuple[int, Buffer]] = deque()
        self.announced = True
        self.scheduled = False
        self.eof_queued = False
        self.eof_received = False

    def take_in(self, size: int) -> None:
        """The peer sent `size` bytes; RemoteProtocolError if it had no credit for them or had ended the stream."""
        if self.eof_received:
            raise RemoteProtocolError(f"stream {self.id}: data after its end")
        if size > self.receive_window:
            raise RemoteProtocolError(f"stream {self.id}: {size} bytes with credit for {self.receive_window}")
        self.receive_window -= size
        self.unconsumed += size

    def consumed(self, size: int) -> int:
        """The consumer is done with `size` bytes. Returns the credit to send now: 0, or a batch of a quarter window."""
        if size > self.unconsumed or size < 0:
            raise LocalProtocolError(f"stream {self.id}: consumed {size} of {self.unconsumed} bytes")
        self.unconsumed -= size
        self.unreported += size
        if self.eof_received or self.unreported * 4 < self.window:
            return 0
        credit, self.unreported = self.unreported, 0
        self.receive_window += credit
        return credit

    def credited(self, size: int) -> None:
        """The peer gave credit; RemoteProtocolError if that is more than it can have consumed."""
        if size == 0 or self.send_window + size > self.window:
            raise RemoteProtocolError(f"stream {self.id}: credit of {size} bytes on top of {self.send_window}")
        self.send_window += size
