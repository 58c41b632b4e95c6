"""Finding out about the pod's paths with as few round trips as there can be.

What is asked for once is not asked for again while the answer is on its way: a look-up that a walk under way will answer waits
for that walk. A directory in which one name after the other is looked up is fetched as a whole, attributes and all: then a
program that searches a path, or looks at every file, costs one round trip a directory. What it will want next is asked for
ahead (ahead.py).
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable

from ...agent.pump.session import Session
from ...agent.wire.errors import RemoteProtocolError
from ...agent.wire.file_messages import Entries, ReadDirectory, Walk, Walked
from ...agent.wire.messages import FileStat
from ...agent.wire.stats import unpack_stats
from .ahead import ENTRIES, SMALL_BYTES, Ahead
from .knowledge import Followed, Knowledge, Listing, Seen
from .nodes import below
from .waiting import Outcome, Work, ask, failure, run

CONTENT_LIMIT = 128 * 1024
"""A file of up to this many bytes comes along with the way to it."""

PREFETCH_LIMIT = 131072
"""So many entries of a directory come with their attributes."""

_MISSES = 3
_PATIENCE_S = 2.0
"""So many names of one directory, each so soon after the last, and the directory is fetched."""

_TYPE = 0o170000
_REGULAR = 0o100000
_DT_DIRECTORY, _DT_REGULAR = 4, 8


class _Reading:
    # A directory on its way, and who waits for it. Who asks after a change by this client needs another.
    __slots__ = ("ticket", "waiting")

    def __init__(self, ticket: int) -> None:
        self.ticket = ticket
        self.waiting: list[Callable[[Outcome], None]] = []


class Asking:
    """Asks the agent and keeps what it says in `knowledge`. `reads_ahead`: contents too are asked for ahead."""

    def __init__(self, session: Session, knowledge: Knowledge, reads_ahead: bool = True) -> None:
        self._session = session
        self._soon = session.loop.call_soon
        self._reads_ahead = reads_ahead
        self.knowledge = knowledge
        self._walks: dict[tuple[bytes, bool], list[Callable[[Outcome], None]]] = {}
        self._readings: dict[bytes, _Reading] = {}
        self._misses: dict[bytes, tuple[int, float]] = {}
        self._directories = Ahead(knowledge, _DT_DIRECTORY, self._wants_listing, self._list_ahead, self._list_ahead)
        self._files = Ahead(knowledge, _DT_REGULAR, self._wants_content, self._content_ahead, self._list_ahead)
        self.may_read: Callable[[bytes], bool] = lambda path: True
        """Whether policy lets the program read this pod path: only then it is fetched before somebody asks for it."""

    def lstat(self, path: bytes) -> Work[Seen]:
        """lstat(2) of a real path; `Seen.stat` is None if it does not exist. OSError for anything else."""
        has_paused = False
        while True:
            seen = self.knowledge.look(path)
            if seen is not None:
                self._note_use(path)
                return seen
            if not has_paused:
                has_paused = True
                yield from self._pause()
                continue
            if (yield from self._under_way(path)):
                continue
            if self._wants_directory(path):
                yield from self._tried_listing(path.rpartition(b"/")[0] or b"/", path)
                seen = self.knowledge.look(path)
                if seen is not None:
                    return seen
            return (yield from self._fresh(path))

    def way(self, path: bytes, follow: bool) -> Work[Followed]:
        """Where a path as written leads: to a real path, or to an errno."""
        while True:
            found = self.knowledge.lead(path, follow)
            if found is not None:
                self._note_use(found.path)
                return found
            if (yield from self._under_way(path)):
                continue
            if self._wants_directory(path):
                found = yield from self._way_by_listing(path, follow)
                if found is not None:
                    return found
            walked = yield from self._walk(path, follow, 0)
            return Followed(walked.missing if walked.errno else walked.paths[-1], walked.errno, 0.0)

    def listing(self, path: bytes, entry_limit: int = 0) -> Work[Listing]:
        """All entries of a directory, with the attributes of the first `PREFETCH_LIMIT` learnt.

        E2BIG if there are more than `entry_limit` (0: as many as there are).
        """
        self._directories.used(path)
        while True:
            known = self.knowledge.listing(path)
            if known is not None:
                return known
            reading = self._readings.get(path)
            if reading is None or self.knowledge.has_changed(path, reading.ticket):
                listing: Listing = yield from self._read(path, is_real=True, entry_limit=entry_limit)
                return listing
            try:
                outcome = yield reading.waiting.append
            except OSError as error:
                if error.errno != errno.E2BIG or entry_limit:
                    raise
                continue  # it was a guess
            if isinstance(outcome, Listing):
                return outcome

    # `is_real` False: it may lead through a link, and the walk that will tell is under way. Then nothing is learnt of it.
    def _read(self, path: bytes, *, is_real: bool, entry_limit: int = 0) -> Work[Outcome]:
        reading = self._readings[path] = _Reading(self.knowledge.ticket())
        result: Outcome = None
        try:
            entries = yield from ask(self._session, ReadDirectory(path, PREFETCH_LIMIT, entry_limit), Entries)
            if is_real or (yield from self._leads_to_itself(path)):
                result = self._learn_entries(path, entries, reading.ticket)
        except OSError as error:
            result = error
            raise
        finally:
            if self._readings.get(path) is reading:
                del self._readings[path]
            for settle in reading.waiting:
                settle(result)
        return result

    def _leads_to_itself(self, path: bytes) -> Work[bool]:
        yield from self._walked(path)
        lead = self.knowledge.lead(path, True)
        return lead is not None and lead.path == path and not lead.errno

    # Through the listing of the directory that the path as written leads to.
    def _way_by_listing(self, path: bytes, follow: bool) -> Work[Followed | None]:
        parent, _, name = path.rpartition(b"/")
        if not name:
            return None
        directory = yield from self.way(parent or b"/", True)
        if directory.errno:
            return None
        yield from self._tried_listing(directory.path, path)
        return self.knowledge.lead(below(directory.path, name), follow)

    # `name`: in it, as it was asked for.
    def _tried_listing(self, path: bytes, name: bytes) -> Work[None]:
        misses, _ = self._misses.get(name.rpartition(b"/")[0] or b"/", (0, 0.0))
        try:
            yield from self.listing(path, 0 if misses >= _MISSES else ENTRIES)
        except OSError:
            self._misses[path] = -_MISSES, self.knowledge.now()  # not to be listed, maybe: ask for the name

    def foretell(self, path: bytes, follow: bool, content: bool, directory: bool) -> None:
        """Somebody is about to look up `path`: begin to find out, unless it is known."""
        lead = self.knowledge.lead(path, follow)
        is_known = lead is not None and (bool(lead.errno) or not content or self._has_body(lead.path))
        if not is_known and (path, follow) not in self._walks:
            run(self._walk(path, follow, CONTENT_LIMIT if content else 0), _ignore)
        if content and self._reads_ahead and not (lead is not None and lead.errno):
            self._files.used(lead.path if lead is not None else path)
        if not directory or not self.knowledge.keeps_directories or (lead is not None and lead.errno):
            return
        real = lead.path if lead is not None else path
        if self.knowledge.listing(real) is None and real not in self._readings:
            run(self._read(real, is_real=lead is not None), _ignore)

    def content(self, path: bytes) -> Work[bytes]:
        """All of a regular file of up to `CONTENT_LIMIT` bytes; E2BIG if it is larger, or the pod's errno."""
        walked = yield from self._walk(path, True, CONTENT_LIMIT)
        if walked.errno:
            raise failure(walked.errno)
        if not walked.has_content:
            raise failure(errno.E2BIG)
        return walked.content

    def body(self, path: bytes, stat: FileStat) -> Work[bytes | None]:
        """All of the file at a real path, if it is known or on its way; for these attributes."""
        body = self.knowledge.body(path, stat)
        if body is None and stat.size <= CONTENT_LIMIT:
            yield from self._pause()
            yield from self._walked(path)
            body = self.knowledge.body(path, stat)
        return body

    # -- ahead ------------------------------------------------------------------------------------------------------------

    # A name in a directory that was read ahead.
    def _note_use(self, path: bytes) -> None:
        parent = path.rpartition(b"/")[0]
        if self._directories.is_guess(parent):
            self._directories.used(parent)

    def _wants_listing(self, path: bytes) -> bool:
        return self.knowledge.listing(path) is None and path not in self._readings and self.may_read(path)

    def _list_ahead(self, path: bytes, done: Callable[[], None]) -> None:
        reading = self._readings.get(path)
        if reading is not None:
            reading.waiting.append(lambda outcome: done())
        else:
            run(self._read(path, is_real=True, entry_limit=ENTRIES), lambda outcome: done())

    def _wants_content(self, path: bytes) -> bool:
        seen = self.knowledge.look(path)
        if seen is None or seen.stat is None or not 0 < seen.stat.size <= SMALL_BYTES or (path, True) in self._walks:
            return False
        return self.knowledge.body(path, seen.stat) is None and self.may_read(path)

    def _content_ahead(self, path: bytes, done: Callable[[], None]) -> None:
        run(self._walk(path, True, SMALL_BYTES), lambda outcome: done())

    # Also if it has none that would come.
    def _has_body(self, path: bytes) -> bool:
        seen = self.knowledge.look(path)
        if seen is None or seen.stat is None:
            return False
        has_one = seen.stat.mode & _TYPE == _REGULAR and seen.stat.size <= CONTENT_LIMIT
        return not has_one or self.knowledge.body(path, seen.stat) is not None

    # What the tracer foretells is there before the kernel asks, but may be read after it: everything that is there now is
    # read between one turn of the loop and the next but one.
    def _pause(self) -> Work[None]:
        for _ in range(2):
            yield lambda settle: self._soon(lambda: settle(None))

    # -- what is under way ------------------------------------------------------------------------------------------------

    # Waits for a request that will tell about `path`; False if there is none.
    def _under_way(self, path: bytes) -> Work[bool]:
        parent = path.rpartition(b"/")[0] or b"/"
        reading = self._readings.get(parent)
        waiting = reading.waiting if reading is not None else None
        if waiting is None:
            prefix = path + b"/"
            waiting = next((some for (to, _), some in self._walks.items() if to == path or to.startswith(prefix)), None)
        if waiting is None:
            return False
        with contextlib.suppress(OSError):  # of what somebody else has asked for
            yield waiting.append
        return True

    # Waits for walks to the path itself.
    def _walked(self, path: bytes) -> Work[None]:
        for follow in (True, False):
            waiting = self._walks.get((path, follow))
            if waiting is not None:
                yield waiting.append

    def _wants_directory(self, path: bytes) -> bool:
        parent = path.rpartition(b"/")[0] or b"/"
        if parent.startswith(b"/proc") or not self.knowledge.keeps_directories:
            return False  # those of processes change while one looks
        if len(self._misses) > 4096:
            self._misses.clear()
        now = self.knowledge.now()
        count, last_s = self._misses.get(parent, (0, now))
        count = count + 1 if now - last_s < _PATIENCE_S else 1
        self._misses[parent] = count, now
        return count >= (1 if self._directories.is_eager else _MISSES)

    def _fresh(self, path: bytes) -> Work[Seen]:
        walked = yield from self._walk(path, False, 0)
        if walked.errno not in (0, errno.ENOENT):
            raise failure(walked.errno)
        seen = self.knowledge.look(path)
        if seen is not None:
            return seen
        # Something has changed meanwhile: that was so, but it does not count any longer.
        if walked.errno:
            return Seen(None, b"", 0.0)
        return Seen(unpack_stats(walked.stats)[-1], walked.targets[-1], 0.0)

    def _walk(self, path: bytes, follow: bool, content_limit: int) -> Work[Walked]:
        key = path, follow
        waiting: list[Callable[[Outcome], None]] = self._walks.setdefault(key, [])
        ticket = self.knowledge.ticket()
        try:
            walked = yield from ask(self._session, Walk(path, follow, content_limit), Walked)
            self._learn_way(path, follow, walked, ticket)
        finally:
            if self._walks.get(key) is waiting:
                del self._walks[key]
            for settle in waiting:
                settle(None)
        return walked

    # -- what comes back --------------------------------------------------------------------------------------------------

    def _learn_way(self, path: bytes, follow: bool, walked: Walked, ticket: int) -> None:
        knowledge = self.knowledge
        try:
            stats = unpack_stats(walked.stats)
        except RemoteProtocolError:
            raise failure(errno.EIO) from None
        if not len(stats) == len(walked.paths) == len(walked.targets) or not (stats or walked.errno):
            raise failure(errno.EIO)
        for real, stat, target in zip(walked.paths, stats, walked.targets, strict=True):
            knowledge.saw(real, stat, ticket, target)
        if walked.errno == errno.ENOENT and walked.missing:
            knowledge.saw_nothing(walked.missing, ticket)
            knowledge.saw_way(path, follow, walked.missing, errno.ENOENT, ticket)
        elif not walked.errno:
            knowledge.saw_way(path, follow, walked.paths[-1], 0, ticket)
            if walked.has_content:
                knowledge.saw_body(walked.paths[-1], walked.content, stats[-1], ticket)

    def _learn_entries(self, path: bytes, entries: Entries, ticket: int) -> Listing:
        names = entries.names.split(b"\0") if entries.names else []
        count = len(names)
        try:
            stats = unpack_stats(entries.stats)
            own = unpack_stats(entries.own)
        except RemoteProtocolError:
            raise failure(errno.EIO) from None
        if len(entries.types) != count or len(entries.inodes) != 8 * count or len(stats) > count or not own:
            raise failure(errno.EIO)
        bare = entries.bare.ljust(len(stats), b"\0")
        targets = iter(entries.targets.split(b"\0"))
        prefix = path if path != b"/" else b""
        for name, stat, is_bare in zip(names, stats, bare, strict=False):
            if stat.mode:
                target = next(targets, b"") if stat.mode & _TYPE == 0o120000 else b""
                self.knowledge.saw(prefix + b"/" + name, stat, ticket, target, bool(is_bare))
        self.knowledge.saw(path, own[0], ticket)
        inodes = memoryview(entries.inodes).cast("Q") if count else ()
        listing = self.knowledge.listing_of(dict(zip(names, zip(inodes, entries.types, strict=True), strict=True)))
        self.knowledge.saw_listing(path, listing, ticket)
        return listing


def _ignore(outcome: object) -> None:
    pass
