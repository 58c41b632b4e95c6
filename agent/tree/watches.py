"""inotify(7) for the client: one inotify instance, many watches of the client's numbers.

The kernel has one watch descriptor for an inode, however often it is watched: an event goes to all of the client's watches
that share it. Events are not read while the session has more to send than its transport takes; what the kernel then has to
drop it reports as IN_Q_OVERFLOW, which goes to every watch.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from typing import Dict, Iterator, List, Optional, Set, Tuple

from ..net import Reply, failed
from ..pump.loop import READ, Loop, Timer
from ..pump.session import Session
from ..root import Root
from ..wire.file_messages import PathEvent, UnwatchPath, WatchPath
from ..wire.messages import Done, Message
from ..workers import Outcome, Workers
from . import calls
from .handles import Attempt
from .paths import failure, open_object, through

_EVENT = struct.Struct("=iIII")
_READ_BYTES = 64 * 1024
_PAUSE_S = 0.05
_IN_ISDIR = 0x40000000
_IN_MODIFY = 2

_NOT_YET = -1
_MOST_EARLY = 10000

_Event = Tuple[int, int, int, bytes]  # as in struct inotify_event


class Watches:
    """All watches of a session, on the loop's thread; only the path is looked up on a worker."""

    def __init__(self, loop: Loop, session: Session, root: Root, workers: Workers, attempt: Attempt) -> None:
        self._loop = loop
        self._session = session
        self._root = root
        self._workers = workers
        self._attempt = attempt
        self._fd = -1
        self._pause: Optional[Timer] = None
        # The kernel's watch descriptors by the client's numbers, and the reverse.
        self._descriptors: Dict[int, int] = {}
        self._sharing: Dict[int, Set[int]] = {}
        # While a worker adds: how many do, events of descriptors that nobody here knows yet, and descriptors that nobody
        # here needs any more, unless one of the workers has just got the same.
        self._adding = 0
        self._early: List[_Event] = []
        self._unused: Set[int] = set()

    def add(self, request: WatchPath, reply: Reply) -> None:
        """inotify_add_watch(2)."""
        try:
            if request.watch in self._descriptors:
                raise failure(errno.EINVAL)
            if self._fd < 0:
                self._fd = calls.inotify_init()
                self._loop.watch(self._fd, READ, self._ready)
        except OSError as error:
            reply(failed(error))
            return
        self._descriptors[request.watch] = _NOT_YET
        self._adding += 1
        self._workers.submit(lambda: self._look_up(request, reply))

    def remove(self, notice: UnwatchPath) -> None:
        """inotify_rm_watch(2), once nobody else watches the same inode."""
        descriptor = self._descriptors.pop(notice.watch, _NOT_YET)
        sharing = self._sharing.get(descriptor)
        if sharing is not None:
            sharing.discard(notice.watch)
            if not sharing:
                del self._sharing[descriptor]
                self._unused.add(descriptor)
                self._tidy()

    def close(self) -> None:
        """Watch nothing any more."""
        if self._pause is not None:
            self._pause.cancel()
        if self._fd >= 0:
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._fd = -1

    # On a worker.
    def _look_up(self, request: WatchPath, reply: Reply) -> Outcome:
        descriptor = _NOT_YET

        def work() -> Message:
            nonlocal descriptor
            with open_object(self._root, request.path) as path_fd:
                descriptor = calls.inotify_add_watch(self._fd, through(path_fd), calls.IN_CHANGES)
            return Done()

        message = self._attempt(work)
        return lambda: self._added(request, descriptor, message, reply)

    def _added(self, request: WatchPath, descriptor: int, message: Message, reply: Reply) -> None:
        self._adding -= 1
        if descriptor == _NOT_YET:
            self._descriptors.pop(request.watch, None)
        elif request.watch in self._descriptors:
            self._descriptors[request.watch] = descriptor
            self._sharing.setdefault(descriptor, set()).add(request.watch)
        elif descriptor not in self._sharing:
            self._unused.add(descriptor)
        reply(message)
        early, self._early = self._early, []
        for event in early:
            self._tell(*event)
        self._tidy()

    def _tidy(self) -> None:
        if self._adding:
            return
        for descriptor in self._unused.difference(self._sharing):
            with contextlib.suppress(OSError):  # EINVAL: its file is gone, and so is the kernel's watch
                calls.inotify_rm_watch(self._fd, descriptor)
        self._unused.clear()

    def _ready(self, mask: int) -> None:
        if not self._session.has_room():
            self._loop.unwatch(self._fd)
            self._pause = self._loop.call_later(_PAUSE_S, lambda: self._loop.watch(self._fd, READ, self._ready))
            return
        try:
            block = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        for event in _without_repetitions(_events(block)):
            self._tell(*event)

    def _tell(self, descriptor: int, mask: int, cookie: int, name: bytes) -> None:
        sharing = self._sharing.get(descriptor)
        if mask & calls.IN_Q_OVERFLOW:
            watches = sorted(self._descriptors)
        elif sharing is not None:
            watches = sorted(sharing)
        else:
            if self._adding and len(self._early) < _MOST_EARLY:
                self._early.append((descriptor, mask, cookie, name))
            return
        if mask & calls.IN_IGNORED:
            del self._sharing[descriptor]
        mask &= calls.IN_CHANGES | calls.IN_Q_OVERFLOW | _IN_ISDIR
        if mask & ~_IN_ISDIR:
            for watch in watches:
                self._session.notify(PathEvent(watch, mask, cookie, name))


def _events(block: bytes) -> Iterator[_Event]:
    offset = 0
    while offset < len(block):
        descriptor, mask, cookie, length = _EVENT.unpack_from(block, offset)
        offset += _EVENT.size
        yield descriptor, mask, cookie, block[offset : offset + length].rstrip(b"\0")
        offset += length


# Files written at the same time have the kernel report each write, since it only joins equal events in a row.
def _without_repetitions(events: Iterator[_Event]) -> Iterator[_Event]:
    modified = set()
    for event in events:
        if event[1] != _IN_MODIFY:
            modified.discard((event[0], _IN_MODIFY, 0, event[3]))
            yield event
        elif event not in modified:
            modified.add(event)
            yield event
