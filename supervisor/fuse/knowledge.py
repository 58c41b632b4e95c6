"""What is known of the pod's files, and for how long it counts: attributes, absent names, listings, links, small contents.

Everything is kept under real paths: those without a symbolic link on the way. `Followed` says where a path as somebody wrote
it leads. Consistency is that of a network file system: what was seen of a file counts for `attribute_s`, that a name is absent
for `negative_s`, and what this client changes is forgotten at once: also by answers that were on their way meanwhile, since
each is learnt with the `ticket` that was current when it was asked for. Pure: the clock is given.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from ...agent.wire.messages import FileStat

_PATHS = 200_000
_CONTENT_BYTES = 64 * 1024 * 1024
_TYPE, _LINK = 0o170000, 0o120000
_NAME_MAX = 255


class Seen(NamedTuple):
    """What a real path was when last seen: attributes, or none if the name was absent. `target`: of a symbolic link.

    `no_xattrs`: it is known to have no extended attributes.
    """

    stat: FileStat | None
    target: bytes
    until_s: float
    no_xattrs: bool = False


class Listing(NamedTuple):
    """All names of a directory, in its own order, each with its inode number and DT_* type. What this client changes is
    changed in it."""

    entries: dict[bytes, tuple[int, int]]
    until_s: float


class Followed(NamedTuple):
    """Where a walk ended: a real path and 0 or an errno."""

    path: bytes
    errno: int
    until_s: float


class Body(NamedTuple):
    """All of a small file, as it was when its attributes were `stat`."""

    content: bytes
    stat: FileStat


@dataclass(frozen=True)
class Lifetimes:
    """Seconds for which something seen counts; 0: not at all."""

    attribute_s: float = 1.0
    negative_s: float = 1.0


def same_version(one: FileStat, other: FileStat) -> bool:
    """Whether two looks at a file found the same content, as far as attributes tell."""
    return _version(one) == _version(other)


def _version(stat: FileStat) -> tuple[int, ...]:
    return stat.ino, stat.dev, stat.size, stat.mtime_ns, stat.ctime_ns


class Knowledge:
    """The cache of one session. Single-threaded."""

    def __init__(self, lifetimes: Lifetimes, clock: Callable[[], float]) -> None:
        self._lifetimes = lifetimes
        self._clock = clock
        self._seen: dict[bytes, Seen] = {}
        self._listings: dict[bytes, Listing] = {}
        self._followed: dict[tuple[bytes, bool], Followed] = {}
        self._bodies: OrderedDict[bytes, Body] = OrderedDict()
        self._body_bytes = 0
        self._ticket = 0
        self._changed: dict[bytes, int] = {}
        self._all_changed = 0
        self._ways_changed = 0

    def now(self) -> float:
        """The clock's time, in seconds."""
        return self._clock()

    def ticket(self) -> int:
        """Take one before asking the pod, and give it with what is learnt of the answer."""
        return self._ticket

    def has_changed(self, path: bytes, ticket: int) -> bool:
        """Whether `path` has changed since, by this client: what is known of it since then is late, and not learnt."""
        return ticket < self._all_changed or ticket < self._changed.get(path, 0)

    # -- learning -------------------------------------------------------------------------------------------------------

    def saw(self, path: bytes, stat: FileStat, ticket: int, target: bytes = b"", no_xattrs: bool = False) -> None:
        """`path` exists and has these attributes."""
        if self.has_changed(path, ticket):
            return
        if len(self._seen) >= _PATHS:
            self._seen.clear()
        self._seen[path] = Seen(stat, target, self._clock() + self._lifetimes.attribute_s, no_xattrs)

    def saw_nothing(self, path: bytes, ticket: int) -> None:
        """`path` does not exist."""
        if self.has_changed(path, ticket):
            return
        if len(self._seen) >= _PATHS:
            self._seen.clear()
        self._seen[path] = Seen(None, b"", self._clock() + self._lifetimes.negative_s)

    def saw_listing(self, path: bytes, listing: Listing, ticket: int) -> None:
        """`path` is a directory with these entries and no others."""
        if self.has_changed(path, ticket):
            return
        if len(self._listings) >= _PATHS // 10:
            self._listings.clear()
        self._listings[path] = listing

    def listing_of(self, entries: dict[bytes, tuple[int, int]]) -> Listing:
        """A listing seen just now."""
        return Listing(entries, self._clock() + self.lasts_s)

    @property
    def lasts_s(self) -> float:
        """For how long what is fetched about a whole directory counts."""
        return min(self._lifetimes.attribute_s, self._lifetimes.negative_s)

    @property
    def keeps_directories(self) -> bool:
        """Whether it counts at all."""
        return self.lasts_s > 0

    def saw_way(self, path: bytes, follow: bool, real: bytes, code: int, ticket: int) -> None:
        """`path` as written leads to `real`, or ends there with an errno."""
        if ticket < self._ways_changed or self.has_changed(real, ticket):
            return
        lifetimes = self._lifetimes
        until_s = self._clock() + (lifetimes.negative_s if code else lifetimes.attribute_s)
        if len(self._followed) >= _PATHS:
            self._followed.clear()
        self._followed[path, follow] = Followed(real, code, until_s)

    def saw_body(self, path: bytes, content: bytes, stat: FileStat, ticket: int) -> None:
        """All of the file at `path`."""
        if self.has_changed(path, ticket):
            return
        self._drop_body(path)
        self._bodies[path] = Body(content, stat)
        self._body_bytes += len(content)
        while self._body_bytes > _CONTENT_BYTES:
            _, oldest = self._bodies.popitem(last=False)
            self._body_bytes -= len(oldest.content)

    # -- asking ---------------------------------------------------------------------------------------------------------

    def look(self, path: bytes) -> Seen | None:
        """What still counts about the real path; None: it has to be asked for.

        A name that is in no listing of its directory is absent, unless it is none at all (ENAMETOOLONG).
        """
        now = self._clock()
        seen = self._seen.get(path)
        if seen is not None and seen.until_s > now:
            return seen
        parent, _, name = path.rpartition(b"/")
        listing = self._listings.get(parent or b"/")
        is_name = 0 < len(name) <= _NAME_MAX and name not in (b".", b"..")
        if is_name and listing is not None and listing.until_s > now and name not in listing.entries:
            return Seen(None, b"", listing.until_s)
        return None

    def listing(self, path: bytes) -> Listing | None:
        """The entries of the directory, if they still count."""
        listing = self._listings.get(path)
        return listing if listing is not None and listing.until_s > self._clock() else None

    def lead(self, path: bytes, follow: bool) -> Followed | None:
        """Where the path as written leads, if that still counts: to its real path, or to an errno."""
        seen = self.look(path)
        if seen is not None and (seen.stat is None or not (follow and seen.stat.mode & _TYPE == _LINK)):
            return Followed(path, 0 if seen.stat is not None else errno.ENOENT, seen.until_s)
        followed = self._followed.get((path, follow))
        return followed if followed is not None and followed.until_s > self._clock() else None

    def body(self, path: bytes, stat: FileStat) -> bytes | None:
        """The file's content, if it is known and belongs to these attributes."""
        body = self._bodies.get(path)
        if body is None or not same_version(body.stat, stat):
            return None
        self._bodies.move_to_end(path)
        return body.content

    def saw_no_xattrs(self, path: bytes, ticket: int) -> None:
        """The real path has no extended attributes; that counts for as long as what else is known of it."""
        seen = self._seen.get(path)
        if seen is not None and not self.has_changed(path, ticket):
            self._seen[path] = seen._replace(no_xattrs=True)

    def has_no_xattrs(self, path: bytes) -> bool:
        """Whether the real path is known to have no extended attributes."""
        seen = self._seen.get(path)
        return seen is not None and seen.no_xattrs and seen.until_s > self._clock()

    def remaining_s(self, seen: Seen) -> float:
        """For how long it goes on counting."""
        return max(0.0, seen.until_s - self._clock())

    # -- forgetting -----------------------------------------------------------------------------------------------------

    def forget(self, path: bytes) -> None:
        """The file's attributes or content have changed."""
        self._note(path)
        self._seen.pop(path, None)
        self._drop_body(path)

    def forget_name(self, path: bytes) -> None:
        """The name has come, gone, or leads elsewhere: its directory has changed as well."""
        self.forget(path)
        parent = path.rpartition(b"/")[0] or b"/"
        self._note(parent)
        self._ways_changed = self._ticket
        self._seen.pop(parent, None)
        self._listings.pop(parent, None)
        self._listings.pop(path, None)
        self._followed.clear()

    def name_made(self, path: bytes, stat: FileStat) -> None:
        """This client has made the name, and nothing else of its directory's listing has changed."""
        listing = self._listings.get(path.rpartition(b"/")[0] or b"/")
        self.forget_name(path)
        if listing is not None:
            parent, _, name = path.rpartition(b"/")
            listing.entries[name] = stat.ino, stat.mode >> 12
            self._listings[parent or b"/"] = listing
        self.saw(path, stat, self._ticket)

    def name_removed(self, path: bytes) -> None:
        """This client has removed the name."""
        listing = self._listings.get(path.rpartition(b"/")[0] or b"/")
        self.forget_name(path)
        if listing is not None:
            parent, _, name = path.rpartition(b"/")
            listing.entries.pop(name, None)
            self._listings[parent or b"/"] = listing

    def name_moved(self, old: bytes, new: bytes) -> None:
        """This client has moved a file that is no directory."""
        parents = [path.rpartition(b"/")[0] or b"/" for path in (old, new)]
        listings = [self._listings.get(parent) for parent in parents]
        self.forget_name(old)
        self.forget_name(new)
        source, target = listings
        entry = source.entries.pop(old.rpartition(b"/")[2], None) if source is not None else None
        if source is not None:
            self._listings[parents[0]] = source
        if target is not None and entry is not None:
            target.entries[new.rpartition(b"/")[2]] = entry
            self._listings[parents[1]] = target

    def forget_all(self) -> None:
        """Names of whole trees lead elsewhere."""
        self._ticket += 1
        self._all_changed = self._ways_changed = self._ticket
        self._changed.clear()
        self._seen.clear()
        self._listings.clear()
        self._followed.clear()
        self._bodies.clear()
        self._body_bytes = 0

    def _note(self, path: bytes) -> None:
        self._ticket += 1
        if len(self._changed) >= _PATHS:
            self._changed.clear()
            self._all_changed = self._ticket
        self._changed[path] = self._ticket

    def _drop_body(self, path: bytes) -> None:
        body = self._bodies.pop(path, None)
        if body is not None:
            self._body_bytes -= len(body.content)
