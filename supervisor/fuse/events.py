"""inotify(7) on the pod's files: what the agent tells of watched paths is played into the mount (mover.py).

What the program itself has done in the mount the kernel has told already; the pod tells it a second time, which is left
out: what concerns a path that was changed from here within `OWN_S`.
"""

from __future__ import annotations

import errno
import stat
from collections import deque
from collections.abc import Callable

from ...agent.pump.loop import Loop
from ...agent.wire.file_messages import PathEvent, WatchPath
from ...agent.wire.messages import Done, FileStat
from . import protocol
from .mover import Deed, Mover
from .nodes import below
from .protocol import Op, Request
from .tree import Tree
from .waiting import Work, failure, run

OWN_S = 2.0
_HALF_S = 0.05
_WATCHES = 4096
_HANDLE = 1 << 62
_NO_INODE = 1 << 47
_ASIDE = b"/.mirrord-trace-aside"

_MODIFY, _ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 2, 4, 8, 0x40, 0x80
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF = 0x100, 0x200, 0x400, 0x800
_OVERFLOW, _ISDIR = 0x4000, 0x40000000

_SIMPLE = {_MODIFY: "modify", _ATTRIB: "attribute", _CLOSE_WRITE: "close"}


class Events:
    """The watches of one mounted tree."""

    def __init__(self, loop: Loop, tree: Tree, mover: Mover) -> None:
        self._loop = loop
        self._tree = tree
        self._mover = mover
        self._watches: dict[int, bytes] = {}
        self._paths: dict[bytes, int] = {}
        self._halves: dict[int, Callable[[bytes], None]] = {}
        self._early: dict[int, bytes] = {}
        self._expected: set[int] = set()
        self._waiting: deque[Work[None]] = deque()
        self._is_busy = False

    def close(self) -> None:
        """No more events."""
        self._mover.close()

    def watch(self, path: bytes) -> Work[None]:
        """From now on the kernel is told what happens to the real path in the pod. One round trip."""
        if path in self._paths:
            return
        if len(self._paths) >= _WATCHES:
            raise failure(errno.ENOSPC)
        number = self._paths[path] = len(self._watches) + 1
        self._watches[number] = path
        try:
            yield from self._tree.ask(WatchPath(number, path), Done)
        except OSError:
            del self._paths[path]
            raise

    # -- what happened ----------------------------------------------------------------------------------------------------

    def happened(self, event: PathEvent) -> None:
        """A notice of the agent."""
        tree = self._tree
        if event.mask & _OVERFLOW:
            tree.tree_changed()
            return
        watched = self._watches.get(event.watch)
        if watched is None:
            return
        path = below(watched, event.name) if event.name else watched
        if tree.was_changed_here(path, OWN_S):
            return
        if event.mask & (_MOVED_FROM | _MOVED_TO):
            self._half(event, path)
        else:
            self._then(self._play(event.mask, path))

    # A rename comes in two halves, if both directories are watched; one alone is a move from or to an unseen place.
    def _half(self, event: PathEvent, path: bytes) -> None:
        mode = stat.S_IFDIR if event.mask & _ISDIR else stat.S_IFREG
        if event.mask & _MOVED_FROM:
            self._expected.add(event.cookie)
            self._then(self._moved_from(event.cookie, path, mode))
            return
        other_half = self._halves.pop(event.cookie, None)
        if other_half is not None:
            other_half(path)
        elif event.cookie in self._expected:
            self._early[event.cookie] = path  # the first half has not had its turn yet
        else:
            self._then(self._move(_ASIDE, path, mode))

    def _moved_from(self, cookie: int, path: bytes, mode: int) -> Work[None]:
        def start(settle: Callable[[bytes], None]) -> None:
            self._halves[cookie] = settle
            self._loop.call_later(_HALF_S, lambda: settle(_ASIDE))

        new = self._early.pop(cookie, b"") or (yield start)
        self._halves.pop(cookie, None)
        self._expected.discard(cookie)
        yield from self._move(path, new, mode)

    def _move(self, old: bytes, new: bytes, mode: int) -> Work[None]:
        stale = (*self._stale(old), *self._stale(new))
        yield from self._do(Deed("move", old, mode, new, stale))
        self._changed(old)
        self._changed(new)

    def _play(self, mask: int, path: bytes) -> Work[None]:
        is_directory = bool(mask & _ISDIR)
        self._changed(path)
        if mask & (_DELETE | _DELETE_SELF):
            yield from self._do(Deed("remove", path, stat.S_IFDIR if is_directory else stat.S_IFREG))
            self._changed(path)
            return
        found = yield from self._stat(path)
        mode = found.mode if found is not None else stat.S_IFDIR if is_directory else stat.S_IFREG
        if mask & _CREATE:
            yield from self._do(Deed("make", path, mode, stale=self._stale(path)))
        for bit, kind in _SIMPLE.items():
            if mask & bit and found is not None and not (kind != "attribute" and is_directory):
                yield from self._do(Deed(kind, path, mode))
        self._changed(path)

    # None: it is gone already.
    def _stat(self, path: bytes) -> Work[FileStat | None]:
        try:
            return (yield from self._tree.lstat(path)).stat
        except OSError:
            return None

    def _changed(self, path: bytes) -> None:
        self._tree.changed_there(path)

    def _stale(self, path: bytes) -> tuple[tuple[int, bytes], ...]:
        parent, _, name = path.rpartition(b"/")
        directory = self._tree.nodes.at(parent or b"/")
        return ((directory.id, name),) if directory is not None else ()

    # One after the other, in the order in which they happened.
    def _then(self, work: Work[None]) -> None:
        self._waiting.append(work)
        self._next()

    def _next(self) -> None:
        if self._is_busy or not self._waiting:
            return
        self._is_busy = True

        def done(outcome: object) -> None:
            self._is_busy = False
            self._next()

        run(self._waiting.popleft(), done)

    def _do(self, deed: Deed) -> Work[None]:
        def start(settle: Callable[[None], None]) -> None:
            self._mover.do(deed, lambda: self._loop.call_threadsafe(lambda: settle(None)))

        yield start

    # -- requests of the mover --------------------------------------------------------------------------------------------

    def serves(self, request: Request) -> bool:
        """Whether a request is the mover's and part of its deed; its other look-ups are like anybody's."""
        deed = self._mover.current
        if deed is None or request.pid != self._mover.thread_id:
            return False
        if request.op == Op.LOOKUP:
            return self._looked_up(request) in (deed.path, deed.other) and deed.kind in ("make", "remove", "move")
        return request.op in (
            Op.MKNOD, Op.MKDIR, Op.SYMLINK, Op.UNLINK, Op.RMDIR, Op.RENAME, Op.RENAME2, Op.SETATTR, Op.OPEN, Op.FLUSH,
            Op.RELEASE,
        )  # fmt: skip

    def serve(self, request: Request) -> Work[bytes]:
        """The answer to it. Nothing changes."""
        deed = self._mover.current
        assert deed is not None
        if request.op == Op.LOOKUP:
            return (yield from self._look_up(request, deed))
        if request.op in (Op.MKNOD, Op.MKDIR, Op.SYMLINK):
            made = (yield from self._stat(deed.path)) or _nothing(deed.mode)
            return self._tree.entry(deed.path, made, 0.0)
        if request.op == Op.SETATTR:
            node = self._tree.nodes.get(request.node)
            seen = yield from self._tree.lstat(node.path)
            return protocol.attributes(self._tree.visible(seen.stat or node.stat), 0.0)
        return protocol.opened(_HANDLE) if request.op == Op.OPEN else b""

    def _looked_up(self, request: Request) -> bytes:
        (name,) = protocol.NO_FIELDS.names(request.body)
        return below(self._tree.nodes.get(request.node).path, name)

    # What is about to be removed or moved is there, for the mover; what is about to be made is not.
    def _look_up(self, request: Request, deed: Deed) -> Work[bytes]:
        yield from ()
        path = self._looked_up(request)
        if deed.kind == "make" or path == deed.other:
            return protocol.no_entry(0.0)
        node = self._tree.nodes.at(path)
        return self._tree.entry(path, node.stat if node is not None else _nothing(deed.mode), 0.0)


# In place of a file that has gone before anybody looked at it.
def _nothing(mode: int) -> FileStat:
    return FileStat(0, _NO_INODE, mode | 0o600, 1, 0, 0, 0, 0, 4096, 0, 0, 0, 0, -1)
