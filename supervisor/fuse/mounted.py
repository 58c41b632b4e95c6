"""The mounted tree as the relay has it: mounted and served, with answers for the tracer's own questions."""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from dataclasses import replace

from ...agent.pump.loop import Loop
from ...agent.pump.session import Session
from ...agent.wire.file_messages import PathEvent
from ...agent.wire.messages import Done, Failed, FileStat, Message
from ...syscalls.requests import Foretell, Head, PathStat, ReadHead, StatPath, WatchTree
from .events import Events
from .generation import Generation
from .mounting import MountedTree, device_number
from .mover import Mover
from .neighbours import Neighbours, Telling
from .server import Server
from .tree import Tree, TreeSettings
from .waiting import Work, failure, run

_NOTHING = FileStat(*[0] * 14)
_HEAD_BYTES = 4096
_PT_INTERP = 3


class Mounted:
    """One mounted tree on the relay's loop.

    Owns `mounted.device`, and a descriptor of the root; `mounted.root` stays the caller's.
    """

    def __init__(
        self, loop: Loop, session: Session, mounted: MountedTree, settings: TreeSettings, generation: Generation
    ) -> None:
        self._loop = loop
        self._generation = generation
        self.device = device_number(mounted.root)
        self.tree = Tree(session, replace(settings, device=self.device), generation)
        self.server = Server(loop, mounted.device, self.tree)
        self._neighbours = Telling(self.tree)
        self._device_fd = mounted.device
        self._root = os.dup(mounted.root)

    def foretell(self, message: Foretell) -> None:
        """The tracee's kernel is about to look a path up."""
        self.tree.asking.foretell(message.path, message.follow, message.content, message.directory)

    def stat_path(self, message: StatPath, reply: Callable[[Message], None]) -> None:
        """stat(2) for the tracer."""

        def done(result: PathStat | OSError) -> None:
            if isinstance(result, OSError):
                result = PathStat(result.errno or errno.EIO, _NOTHING, 0, 0)
            reply(result)

        run(self._stat_path(message), done)

    def _stat_path(self, message: StatPath) -> Work[PathStat]:
        tree = self.tree
        generation = self._generation.now
        if message.fresh:
            self._forget(message)
        way = yield from tree.asking.way(message.path, message.follow)
        lifetimes = tree.settings.lifetimes
        if way.errno:
            valid_s = lifetimes.negative_s if way.errno == errno.ENOENT else 0.0
            return PathStat(way.errno, _NOTHING, int(1000 * min(valid_s, self._left(way.until_s, valid_s))), generation)
        seen = yield from tree.lstat(way.path)
        if seen.stat is None:
            return PathStat(errno.ENOENT, _NOTHING, 0, generation)
        valid_s = tree.knowledge.remaining_s(seen)
        no_xattrs, neighbours = tree.knowledge.has_no_xattrs(way.path), Neighbours()
        if way.path == message.path:
            neighbours, valid_s = self._neighbours.of(way.path, generation, valid_s)
        return PathStat(0, tree.visible(seen.stat), int(1000 * valid_s), generation, no_xattrs, *neighbours)

    def _forget(self, message: StatPath) -> None:
        knowledge = self.tree.knowledge
        lead = knowledge.lead(message.path, message.follow)
        for path in {message.path, lead.path if lead is not None else message.path}:
            knowledge.forget_name(path)

    # A way that was asked for just now does not say for how long it counts.
    def _left(self, until_s: float, otherwise: float) -> float:
        return max(0.0, until_s - self.tree.clock()) if until_s else otherwise

    def read_head(self, message: ReadHead, reply: Callable[[Message], None]) -> None:
        """The first bytes of a program, and which interpreter an ELF program names."""

        def done(result: Head | OSError) -> None:
            reply(Failed(result.errno or errno.EIO) if isinstance(result, OSError) else result)

        run(self._read_head(message.path), done)

    def _read_head(self, path: bytes) -> Work[Head]:
        tree = self.tree
        way = yield from tree.asking.way(path, True)
        if way.errno:
            raise failure(way.errno)
        seen = yield from tree.lstat(way.path)
        if seen.stat is None:
            raise failure(errno.ENOENT)
        if not stat.S_ISREG(seen.stat.mode) or not seen.stat.mode & 0o111:
            raise failure(errno.EACCES)
        number = self.server.handles.reserve()
        yield from self.server.handles.open_remote(number, way.path, os.O_RDONLY, 0)
        node = tree.nodes.found(way.path, seen.stat)
        self.server.handles.add(number, node, os.O_RDONLY, is_remote=True)
        try:
            head = yield from self.server.handles.fetch(number, 0, _HEAD_BYTES)
            where = _interpreter_place(head)
            interpreter = head[where[0] : sum(where)] if sum(where) <= len(head) else b""
            if where[1] and not interpreter:
                interpreter = yield from self.server.handles.fetch(number, *where)
        finally:
            self.server.handles.remove(number)
        return Head(0, head, interpreter.partition(b"\0")[0])

    def watch_path(self, message: WatchTree, reply: Callable[[Message], None]) -> None:
        """inotify_add_watch(2): what happens to the path in the pod shall be seen in the mount."""

        def done(result: OSError | None) -> None:
            reply(Failed(result.errno or errno.EIO) if isinstance(result, OSError) else Done())

        run(self._watch_path(message), done)

    def _watch_path(self, message: WatchTree) -> Work[None]:
        way = yield from self.tree.asking.way(message.path, message.follow)
        if way.errno:
            raise failure(way.errno)
        if self.server.events is None:
            self.tree.keeps_track = True
            self.server.events = Events(self._loop, self.tree, Mover(self._root, self._device_fd))
        yield from self.server.events.watch(way.path)

    def happened(self, event: PathEvent) -> None:
        """A notice of the agent about a watched path."""
        if self.server.events is not None:
            self.server.events.happened(event)

    def finish(self, done: Callable[[], None], *, users: bool = True) -> None:
        """Call back once nobody uses the tree (unless `users` do not matter) and all that was written is in the pod."""
        self.server.when_idle(done, users=users)

    def close(self) -> None:
        """Stop serving."""
        if self.server.events is not None:
            self.server.events.close()
        self.server.close()
        os.close(self._root)


# elf(5): offset and size of the PT_INTERP segment of a 64-bit program; (0, 0) if there is none.
def _interpreter_place(head: bytes) -> tuple[int, int]:
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":
        return 0, 0
    (table,) = struct.unpack_from("<Q", head, 32)
    size, count = struct.unpack_from("<HH", head, 54)
    for index in range(count):
        at = table + index * size
        if size < 56 or at + 56 > len(head):
            break
        kind, _, offset, _, _, in_file = struct.unpack_from("<IIQQQQ", head, at)
        if kind == _PT_INTERP and in_file <= 4096:
            return offset, in_file
    return 0, 0
