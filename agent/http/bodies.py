"""HTTP/1 bodies: how many of the bytes that come belong to one. Nothing is decoded to be passed on."""

from __future__ import annotations

from typing import Any, Optional, Union

from .heads import CHUNKED, MOST_HEAD_BYTES, UNTIL_EOF, Refused, import_h11


class Length:
    """A body of so many bytes."""

    def __init__(self, left: int) -> None:
        self._left = left
        self.done = not left

    def take(self, data: bytes, at: int = 0) -> int:
        """Up to where `data`, from `at` on, belongs to the body."""
        size = min(self._left, len(data) - at)
        self._left -= size
        self.done = not self._left
        return at + size


class UntilEof:
    """All that comes."""

    done = False

    def take(self, data: bytes, at: int = 0) -> int:
        """All of it."""
        return len(data)


class Chunked:
    """Chunks and trailers, told by h11. `content` collects what they hold, if wanted."""

    def __init__(self, collect: bool = False) -> None:
        self.done = False
        self.content: Optional[bytearray] = bytearray() if collect else None
        self._h11 = import_h11()
        self._connection: Any = self._h11.Connection(self._h11.SERVER, max_incomplete_event_size=MOST_HEAD_BYTES)
        self._connection.receive_data(b"POST / HTTP/1.1\r\nHost: pod\r\nTransfer-Encoding: chunked\r\n\r\n")
        self._connection.next_event()

    def take(self, data: bytes, at: int = 0) -> int:
        """As `Length.take`. Refused: these are no chunks."""
        if self.done or at == len(data):
            return at
        h11 = self._h11
        try:
            self._connection.receive_data(data[at:] if at else data)
            while True:
                event = self._connection.next_event()
                if event is h11.NEED_DATA:
                    return len(data)
                if isinstance(event, h11.EndOfMessage):
                    self.done = True
                    return len(data) - len(self._connection.trailing_data[0])
                if self.content is not None:
                    self.content += event.data
        except h11.ProtocolError as error:
            raise Refused(str(error)) from None


Framing = Union[Length, Chunked, UntilEof]


def framing(length: int) -> Framing:
    """The reader for what a head says of its body."""
    if length >= 0:
        return Length(length)
    return Chunked() if length == CHUNKED else UntilEof()


__all__ = ["CHUNKED", "UNTIL_EOF", "Chunked", "Framing", "Length", "UntilEof", "framing"]
