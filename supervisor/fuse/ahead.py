"""What will probably be asked for next, asked for while the program is busy with what it has.

Programs go through trees: one directory after the other of those in one, one small file after the other. Each would cost a
round trip of its own, though the pod could have answered all of them in the same time. So once a second one in a row is used,
its neighbours are asked for: as many as have been used by now, up to `_WINDOW`, but no more than will be used in time; those
that come next in the order of use, by name or as the directory has them. A guess counts and goes out of date as any other
answer does; a row in which more is wasted than used is left alone. While guesses are good the next row begins with its first
use.

Bounded: `_UNDER_WAY` guesses on their way in all, each of `SMALL_BYTES` of content or `ENTRIES` entries at the most, and what
arrives is kept in the caches of knowledge.py, which have bounds of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator

from .knowledge import Knowledge, Listing
from .nodes import below

ENTRIES = 1024
"""A directory of more entries is fetched only for who asks for it."""

SMALL_BYTES = 16 * 1024
"""So is the content of a larger file."""

_WINDOW = 16
_UNDER_WAY = 16
_EAGER = 4
_NEAR = 4
_ROWS = 32
_LONGEST_ROW = 4096
_PATIENCE_S = 2.0
_LIVE = (b"/proc/", b"/sys/", b"/dev/")  # what is looked at there may change, wait, or notice it

Fetch = Callable[[bytes, Callable[[], None]], None]
"""Ask for what is at a path, and call back when the answer is there."""


class _Row:
    """The directories, or files, in one directory that are used one after the other. `ahead`: guesses not used so far."""

    __slots__ = (
        "ahead",
        "began_s",
        "begun",
        "by_name",
        "in_order",
        "last",
        "last_s",
        "listed_s",
        "listing",
        "places",
        "previous",
        "scores",
        "used",
        "wasted",
    )

    def __init__(self, used: int, now: float) -> None:
        self.used = self.begun = used
        self.began_s = now
        self.wasted = 0
        self.last = self.previous = b""
        self.last_s = 0.0
        self.ahead: dict[bytes, float] = {}
        self.scores = [0, 0]  # how often the next one was near: by name, in the directory's order
        self.listed_s = 0.0
        self.listing: Listing | None = None
        self.by_name: list[bytes] = []
        self.in_order: list[bytes] = []
        self.places: list[dict[bytes, int]] = [{}, {}]

    def know(self, listing: Listing, kind: int) -> None:
        """The names in the directory, of those of this DT_* type."""
        if self.listing is listing:
            return
        self.listing = listing
        if len(listing.entries) > _LONGEST_ROW:
            self.in_order = []
        else:
            self.in_order = [name for name, (_, type_) in listing.entries.items() if type_ == kind]
        self.by_name = sorted(self.in_order)
        self.places = [{name: place for place, name in enumerate(names)} for names in (self.by_name, self.in_order)]

    def window(self, now: float, lasts_s: float) -> int:
        """How many may be ahead: what arrives has to be used within half of the time for which it counts."""
        pace_s = (now - self.began_s) / max(self.used - self.begun - 1, 1)
        in_time = int(lasts_s / 2 / pace_s) if pace_s > 0 else _WINDOW
        return max(1, min(self.used, _WINDOW, in_time))

    def next_ones(self) -> Iterator[bytes]:
        """What comes after the last one; round again at the end, since some use what they find in no order."""
        for order, places in enumerate(self.places):
            if self.last in places and self.previous in places:
                self.scores[order] += 0 < places[self.last] - places[self.previous] <= _NEAR
        order = int(self.scores[1] > self.scores[0])
        names, place = (self.by_name, self.in_order)[order], self.places[order].get(self.last, -1)
        for step in range(1, min(len(names), 4 * _WINDOW) + 1):
            yield names[(place + step) % len(names)]


class Ahead:
    """Guesses of one kind: `kind` is a DT_* type, `wants` whether a path is not known and worth asking for.

    `lists` fetches a directory whose names have to be known for that.
    """

    def __init__(self, knowledge: Knowledge, kind: int, wants: Callable[[bytes], bool], fetch: Fetch, lists: Fetch) -> None:
        self._knowledge = knowledge
        self._kind = kind
        self._wants = wants
        self._fetch = fetch
        self._lists = lists
        self._rows: OrderedDict[bytes, _Row] = OrderedDict()
        self._under_way = 0
        self._outstanding: set[bytes] = set()
        self.is_eager = False
        """Whether guesses have been good lately."""

    def is_guess(self, path: bytes) -> bool:
        """Whether the path was asked for as a guess, and nobody has used it so far."""
        return path in self._outstanding

    def used(self, path: bytes) -> None:
        """Somebody uses the real path. Asks, and waits for nothing."""
        if not self._knowledge.keeps_directories or path.startswith(_LIVE):
            return
        parent, _, name = path.rpartition(b"/")
        parent, now = parent or b"/", self._knowledge.now()
        row = self._row(parent, now)
        row.last_s = now
        if name == row.last or not name:
            return
        if row.ahead.pop(name, None) is not None:
            self._outstanding.discard(path)
            self.is_eager = True
        row.used += 1
        row.previous, row.last = row.last, name
        self._waste(parent, row, now)
        if row.used >= 2 and row.wasted <= row.used:
            self._go_on(parent, row)

    def _row(self, parent: bytes, now: float) -> _Row:
        row = self._rows.get(parent)
        if row is None or now - row.last_s >= _PATIENCE_S:
            self._drop(parent)
            row = self._rows[parent] = _Row(_EAGER - 1 if self.is_eager else 0, now)
            while len(self._rows) > _ROWS:
                self._drop(next(iter(self._rows)))
        self._rows.move_to_end(parent)
        return row

    def _drop(self, parent: bytes) -> None:
        row = self._rows.pop(parent, None)
        if row is not None and row.ahead:
            self._outstanding.difference_update(below(parent, name) for name in row.ahead)
            self.is_eager = False

    # What nobody has used in time has to be asked for again.
    def _waste(self, parent: bytes, row: _Row, now: float) -> None:
        for name, until_s in list(row.ahead.items()):
            if until_s <= now:
                del row.ahead[name]
                self._outstanding.discard(below(parent, name))
                row.wasted += 1
                self.is_eager = False

    def _go_on(self, parent: bytes, row: _Row) -> None:
        listing = self._knowledge.listing(parent)
        if listing is None:
            if self._wants_names(parent) and self._knowledge.now() >= row.listed_s:
                row.listed_s = self._knowledge.now() + self._knowledge.lasts_s
                self._lists(parent, lambda: self._listed(parent, row))
            return
        row.know(listing, self._kind)
        now, lasts_s = self._knowledge.now(), self._knowledge.lasts_s
        room = row.window(now, lasts_s)
        for name in row.next_ones():
            if len(row.ahead) >= room or self._under_way >= _UNDER_WAY:
                break
            path = below(parent, name)
            if name not in row.ahead and name != row.last and self._wants(path):
                row.ahead[name] = now + lasts_s
                self._outstanding.add(path)
                self._under_way += 1
                self._fetch(path, self._arrived)

    # Only of what is known to be a directory, not a link to one.
    def _wants_names(self, path: bytes) -> bool:
        seen = self._knowledge.look(path)
        return seen is not None and seen.stat is not None and seen.stat.mode & 0o170000 == 0o040000

    def _listed(self, parent: bytes, row: _Row) -> None:
        if self._rows.get(parent) is row and self._knowledge.listing(parent) is not None:
            self._go_on(parent, row)

    def _arrived(self) -> None:
        self._under_way -= 1
