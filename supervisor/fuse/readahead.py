"""Reading ahead on one open file, so that a sequential reader keeps the channel full.

The kernel asks for at most 128 KiB at a time and for little in advance, which at 40 ms is 3 MB/s. A reader that goes on
where it stopped gets ever more pieces requested before it asks for them, up to a window that covers a fast and distant
channel. A read elsewhere gets just what it wants. What was read ahead counts for a short time: the file may change in the
pod.
"""

from __future__ import annotations

from collections.abc import Callable

from .waiting import Outcome, Work

PIECE_BYTES = 256 * 1024
LARGEST_WINDOW = 64
"""Pieces on their way at most: 16 MiB."""

_SLACK_BYTES = 4 * 1024 * 1024

Fetch = Callable[[int, int, Callable[[Outcome], None]], None]
"""Ask for `size` bytes at `offset`; the callback gets bytes or an OSError."""


class _Piece:
    __slots__ = ("outcome", "until_s", "waiting")

    def __init__(self) -> None:
        self.outcome: Outcome = None
        self.until_s = 0.0
        self.waiting: list[Callable[[Outcome], None]] = []


class ReadAhead:
    """`valid_s`: how long pieces count once they are here. `is_on`: False for no reading ahead at all."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float], valid_s: float, is_on: bool = True) -> None:
        self._fetch = fetch
        self._clock = clock
        self._valid_s = valid_s
        self._is_on = is_on
        self._pieces: dict[int, _Piece] = {}
        self._next = 0
        self._window = 0

    def drop(self) -> None:
        """What has been read counts no more: the file has changed."""
        self._pieces = {}

    def read(self, offset: int, size: int, file_size: int) -> Work[bytes]:
        """Up to `size` bytes at `offset`, fewer at the end of the file. `file_size`: as far as is known."""
        is_sequential = self._is_on and self._next - _SLACK_BYTES <= offset <= self._next + _SLACK_BYTES
        if not is_sequential or (offset and not self._pieces and offset != self._next):
            self._next = offset + size
            self._window = 0
            content: bytes = yield lambda settle: self._fetch(offset, size, settle)
            return content
        self._next = max(self._next, offset + size)
        if offset + size >= self._next:
            self._window = min(max(2 * self._window, 1), LARGEST_WINDOW)
        first, last = offset // PIECE_BYTES, (offset + size - 1) // PIECE_BYTES
        self._request(first, last, file_size)
        parts = []
        for index in range(first, last + 1):
            piece = yield from self._piece(index)
            start = offset - index * PIECE_BYTES if index == first else 0
            stop = offset + size - index * PIECE_BYTES if index == last else PIECE_BYTES
            parts.append(piece[start:stop])
            if len(piece) < stop:
                break  # the end of the file
        for index in [index for index in self._pieces if index < first - _SLACK_BYTES // PIECE_BYTES]:
            del self._pieces[index]
        return b"".join(parts)

    def _request(self, first: int, last: int, file_size: int) -> None:
        # The piece that has the end of the file may have grown: if it is wanted, it is asked for again.
        now = self._clock()
        pieces_of_file = (file_size + PIECE_BYTES - 1) // PIECE_BYTES
        for index in range(first, max(last + 1, min(last + 1 + self._window, pieces_of_file))):
            piece = self._pieces.get(index)
            if piece is None or (piece.outcome is not None and self._is_stale(piece, now, index, file_size)):
                self._begin(index)

    def _is_stale(self, piece: _Piece, now: float, index: int, file_size: int) -> bool:
        if isinstance(piece.outcome, OSError) or now >= piece.until_s:
            return True
        have = index * PIECE_BYTES + len(piece.outcome)
        return len(piece.outcome) < PIECE_BYTES and have < file_size

    def _begin(self, index: int) -> None:
        piece = self._pieces[index] = _Piece()

        def arrived(outcome: Outcome) -> None:
            piece.outcome = outcome
            piece.until_s = self._clock() + self._valid_s
            waiting, piece.waiting = piece.waiting, []
            for settle in waiting:
                settle(outcome)

        self._fetch(index * PIECE_BYTES, PIECE_BYTES, arrived)

    def _piece(self, index: int) -> Work[bytes]:
        piece = self._pieces.get(index)
        if piece is None:
            self._begin(index)
            piece = self._pieces[index]
        outcome = piece.outcome
        if outcome is None:
            outcome = yield piece.waiting.append
        if isinstance(outcome, OSError):
            raise outcome
        content: bytes = outcome
        return content
