"""fuse(4): opening, reading and writing files."""

from __future__ import annotations

import errno

from ...agent.wire.file_messages import (
    SET_MODE,
    AllocateHandle,
    CloseHandle,
    CopyRange,
    GiveUpWait,
    Number,
    SeekHandle,
    SetAttributes,
    SyncHandle,
    WriteHandle,
)
from ...agent.wire.messages import Attributes, Done
from ...syscalls.abi.flags import NATIVE, X86_64
from . import protocol
from .attributes import without_set_id
from .handles import WIRE_FLAGS, Handles, OpenFile
from .knowledge import same_version
from .locks import Locks
from .nodes import Node, below, key_of
from .protocol import Request
from .tree import Tree
from .waiting import NO_DEADLINE_S, Work, failure

_ACCESS_MODE = 3
_CREATE, _EXCLUSIVE, _TRUNCATE = 0o100, 0o200, 0o1000
_TMPFILE = 0o20000000
_SET_ID = 0o6000
_OUT_OF_REACH = (errno.ENOENT, errno.ESTALE, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM)
"""Of a file that has been replaced or removed in the pod, or closed to who has it open."""


class Files:
    """Operations on open files."""

    def __init__(self, tree: Tree, handles: Handles, locks: Locks) -> None:
        self._tree = tree
        self._handles = handles
        self._locks = locks
        self._opening: dict[int, int] = {}
        self._given_up: set[int] = set()

    # -- opening ----------------------------------------------------------------------------------------------------------

    def open(self, request: Request) -> Work[bytes]:
        """OPEN: no round trip if the content is known, else one."""
        flags, open_flags = protocol.OPEN_IN.unpack_from(request.body)
        tree = self._tree
        node = tree.nodes.get(request.node)
        wire = _wire(flags)
        if wire & _ACCESS_MODE or wire & _TRUNCATE:
            tree.demand_node_writable(node)
        if not wire & (_ACCESS_MODE | _TRUNCATE) and node.paths and node.key[2] == 0o100000:
            known = yield from self._open_here(node, wire)
            if known is not None:
                return known
        number = self._handles.reserve()
        self._opening[request.unique] = number
        try:
            yield from tree.behind.drained(node)
            reply = yield from self._open_there(request.unique, number, node, wire)
        finally:
            del self._opening[request.unique]
            self._given_up.discard(request.unique)
        file = self._handles.add(number, node, wire & ~(_TRUNCATE | _CREATE), is_remote=True)
        try:
            if open_flags & 1 and node.stat.mode & _SET_ID:
                yield from self._drop_set_id(file)
        except OSError:
            self._handles.remove(number)
            raise
        return protocol.opened(number, self._fopen(file, reply))

    # ESTALE makes the kernel look the path up once more: if the file is not where it was.
    def _open_there(self, unique: int, number: int, node: Node, wire: int) -> Work[Attributes]:
        tree = self._tree
        if unique in self._given_up:
            raise failure(errno.EINTR)
        path, source = (node.path, 0) if node.paths else (b"", self._handles.any_of(node))
        ticket = tree.knowledge.ticket()
        try:
            reply = yield from self._handles.open_remote(number, path, wire, 0, source)
        except FileNotFoundError:
            raise failure(errno.ENOENT if path in node.paths else errno.ESTALE) from None
        finally:
            is_late = bool(node.paths) and tree.knowledge.has_changed(node.path, ticket)
            if wire & _TRUNCATE:
                self._changed(node)
        if key_of(reply.stat) != node.key:
            tree.session.notify(CloseHandle(number))
            tree.name_changed(path)
            raise failure(errno.ESTALE)
        node.stat = reply.stat
        if node.paths and not is_late:
            tree.knowledge.saw(node.path, reply.stat, tree.knowledge.ticket())
        return reply

    def _open_here(self, node: Node, wire: int) -> Work[bytes | None]:
        tree = self._tree
        path = node.path
        seen = yield from tree.lstat(path)
        if path not in node.paths:
            return None
        if seen.stat is None or not tree.nodes.is_still(node, path, seen.stat):
            raise failure(errno.ESTALE if seen.stat is not None else errno.ENOENT)
        content = yield from tree.asking.body(path, seen.stat)
        if content is None or len(content) != seen.stat.size:
            return None
        file = self._handles.add(self._handles.reserve(), node, wire, is_remote=False)
        file.content = content
        file.content_until_s = tree.clock() + tree.settings.lifetimes.attribute_s + 1.0
        return protocol.opened(file.id, self._keep(node))

    # The pages in the kernel's cache stay if they are of this version of the file.
    def _keep(self, node: Node) -> int:
        kept, node.kept_version = node.kept_version, node.stat
        return protocol.FOPEN_KEEP_CACHE if kept is not None and same_version(kept, node.stat) else 0

    def _fopen(self, file: OpenFile, reply: Attributes) -> int:
        if file.is_stream:
            return protocol.FOPEN_DIRECT_IO | protocol.FOPEN_NONSEEKABLE | protocol.FOPEN_STREAM
        if not reply.stat.size and reply.stat.mode & 0o170000 == 0o100000 and not file.writes:
            return protocol.FOPEN_DIRECT_IO  # /proc and the like: the size says nothing
        return self._keep(file.node)

    def create(self, request: Request) -> Work[bytes]:
        """CREATE: one round trip."""
        flags, mode, _, _ = protocol.CREATE_IN.unpack_from(request.body)
        (name,) = protocol.CREATE_IN.names(request.body)
        tree = self._tree
        directory = tree.nodes.get(request.node)
        path = below(directory.path, name)
        tree.demand_writable(path)
        number = self._handles.reserve()
        wire = _wire(flags) | _CREATE
        try:
            reply = yield from self._handles.open_remote(number, path, wire, mode & 0o7777)
        except OSError:
            tree.name_changed(path)
            raise
        path = below(directory.paths[-1], name) if directory.paths else path
        self._changed(tree.nodes.found(path, reply.stat))
        body = tree.fresh_entry(path, reply.stat)
        node = tree.nodes.found(path, reply.stat)
        file = self._handles.add(number, node, wire & ~(_CREATE | _EXCLUSIVE | _TRUNCATE), is_remote=True)
        return body + protocol.opened(number, self._fopen(file, reply) & ~protocol.FOPEN_DIRECT_IO)

    def tmpfile(self, request: Request) -> Work[bytes]:
        """TMPFILE: a file without a name in this directory."""
        flags, mode, _, _ = protocol.CREATE_IN.unpack_from(request.body)
        tree = self._tree
        directory = tree.nodes.get(request.node).path
        tree.demand_writable(below(directory, b"x"))
        number = self._handles.reserve()
        wire = _wire(flags) & ~_CREATE | _TMPFILE
        reply = yield from self._handles.open_remote(number, directory, wire, mode & 0o7777)
        node = tree.nodes.found(None, reply.stat)
        node.lookups += 1
        self._handles.add(number, node, wire & ~(_TMPFILE | _EXCLUSIVE), is_remote=True)
        entry = protocol.entry(node.id, tree.visible(reply.stat), 0.0, tree.settings.lifetimes.attribute_s)
        return entry + protocol.opened(number)

    def release(self, request: Request) -> Work[bytes]:
        """RELEASE: the pod closes the file; nobody waits for that."""
        number, *_ = protocol.RELEASE_IN.unpack_from(request.body)
        yield from ()
        self._handles.remove(number)
        return b""

    # -- reading ----------------------------------------------------------------------------------------------------------

    def read(self, request: Request) -> Work[bytes]:
        """READ: from what is here, from what was read ahead, or one round trip."""
        number, offset, size, _, _, _ = protocol.READ_IN.unpack_from(request.body)
        file = self._handles.get(number)
        content = file.content
        if content is not None:
            if offset + size <= len(content) or self._tree.clock() < file.content_until_s:
                return content[offset : offset + size]
            try:
                yield from self._handles.make_remote(number)
            except OSError as error:
                if error.errno not in _OUT_OF_REACH:
                    raise
                return content[offset : offset + size]
            file.content = None
        elif not file.is_remote:
            yield from self._handles.make_remote(number)
        if file.is_stream:
            return (yield from self._handles.fetch(number, offset, size))
        if file.node.unsent:
            yield from self._tree.behind.drained(file.node)
        return (yield from file.ahead.read(offset, size, file.node.stat.size))

    def give_up(self, number: int) -> None:
        """INTERRUPT of what waits on a FIFO or device."""
        self._tree.session.notify(GiveUpWait(number, 0))

    def give_up_open(self, unique: int) -> None:
        """INTERRUPT of an OPEN, which waits where the pod's file is a FIFO."""
        number = self._opening.get(unique)
        if number is not None:
            self._given_up.add(unique)
            self.give_up(number)

    def is_stream(self, number: int) -> bool:
        """Whether reads and writes of this file may wait for somebody in the pod."""
        try:
            return self._handles.get(number).is_stream
        except OSError:
            return False

    def lseek(self, request: Request) -> Work[bytes]:
        """LSEEK: SEEK_DATA and SEEK_HOLE, which the kernel cannot know."""
        number, offset, whence = protocol.LSEEK_IN.unpack_from(request.body)
        if offset >> 63:
            raise failure(errno.ENXIO)  # a position before the beginning
        file = yield from self._handles.make_remote(number)
        yield from self._tree.behind.drained(file.node)
        reply = yield from self._tree.ask(SeekHandle(number, offset, whence), Number)
        return protocol.OFFSET_OUT.pack(reply.number)

    # -- writing ----------------------------------------------------------------------------------------------------------

    def write(self, request: Request) -> Work[bytes]:
        """WRITE: returns when the data is here (writebehind.py), or one round trip."""
        number, offset, size, write_flags, _, _ = protocol.WRITE_IN.unpack_from(request.body)
        file = self._handles.get(number)
        content = bytes(request.body[protocol.WRITE_IN.size :])
        if file.is_stream:
            yield from self._tree.ask(WriteHandle(number, offset, content), Done, NO_DEADLINE_S)
            return protocol.WRITE_OUT.pack(size, 0)
        if write_flags & protocol.WRITE_CACHE and file.appends:
            number = yield from self._without_append(file)
        for other in self._handles.of(file.node):
            other.ahead.drop()
            other.content = None
        file.node.kept_version = None
        yield from self._tree.behind.write(file.node, number, offset, content)
        if write_flags & protocol.WRITE_KILL_SUIDGID and file.node.stat.mode & _SET_ID:
            yield from self._drop_set_id(file)
        return protocol.WRITE_OUT.pack(size, 0)

    # Pages of a mapping have their place; a handle with O_APPEND would put them at the end.
    def _without_append(self, file: OpenFile) -> Work[int]:
        if not file.placed:
            file.placed = self._handles.reserve()  # good to be used at once
            try:
                yield from self._handles.open_remote(file.placed, b"", file.flags & _ACCESS_MODE, 0, file.id)
            except OSError:
                file.placed = 0
                raise
        return file.placed

    def _drop_set_id(self, file: OpenFile) -> Work[None]:
        mode = file.node.stat.mode & 0o7777
        kept = without_set_id(mode)
        if kept == mode:
            return
        yield from self._tree.behind.drained(file.node)
        try:
            reply = yield from self._tree.ask(SetAttributes(b"", file.id, SET_MODE, kept, 0, 0, 0, 0, 0), Attributes)
        except PermissionError:
            return  # who may not change the mode may not keep these bits: the pod's kernel has dropped them
        file.node.stat = reply.stat
        self._tree.content_changed(file.node)

    def flush(self, request: Request) -> Work[bytes]:
        """FLUSH: close(2) of one descriptor.

        Waits for what was written, tells what failed, and releases the closer's locks.
        """
        number, owner = protocol.FLUSH_IN.unpack_from(request.body)
        file = self._handles.get(number)
        yield from self._locks.closed(file, owner)
        yield from self._tree.behind.drained(file.node)
        self._tree.behind.take_error(file.node)
        return b""

    def fsync(self, request: Request) -> Work[bytes]:
        """FSYNC, FSYNCDIR: on the pod's disk when it returns."""
        number, flags = protocol.FSYNC_IN.unpack_from(request.body)
        file = yield from self._handles.make_remote(number)
        yield from self._tree.behind.drained(file.node)
        self._tree.behind.take_error(file.node)
        yield from self._tree.ask(SyncHandle(number, bool(flags & protocol.FSYNC_DATA)), Done, NO_DEADLINE_S)
        return b""

    def fallocate(self, request: Request) -> Work[bytes]:
        """FALLOCATE."""
        number, offset, length, mode = protocol.FALLOCATE_IN.unpack_from(request.body)
        file = self._handles.get(number)
        yield from self._tree.behind.drained(file.node)
        try:
            yield from self._tree.ask(AllocateHandle(number, mode, offset, length), Done, NO_DEADLINE_S)
        finally:
            self._changed(file.node)
        return b""

    def copy_file_range(self, request: Request) -> Work[bytes]:
        """COPY_FILE_RANGE: in the pod, without a byte through the channel."""
        source, source_offset, _, target, offset, length, _ = protocol.COPY_IN.unpack_from(request.body)
        from_file = yield from self._handles.make_remote(source)
        to_file = self._handles.get(target)
        yield from self._tree.behind.drained(from_file.node)
        yield from self._tree.behind.drained(to_file.node)
        try:
            copy = CopyRange(source, source_offset, target, offset, min(length, 1 << 30))
            reply = yield from self._tree.ask(copy, Number, NO_DEADLINE_S)
        finally:
            self._changed(to_file.node)
        return protocol.SIZE_OUT.pack(reply.number)

    def _changed(self, node: Node) -> None:
        for file in self._handles.of(node):
            file.ahead.drop()
            file.content = None
        node.kept_version = None
        self._tree.content_changed(node)


# The numbers of x86-64, whatever this machine is; O_DIRECT and the like are the kernel's business here.
def _wire(flags: int) -> int:
    kept = flags & WIRE_FLAGS
    return kept | (X86_64.directory if flags & NATIVE.directory and not flags & _TMPFILE else 0)
