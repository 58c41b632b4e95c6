"""The kernel's half of FUSE, as far as the operations need one: makes requests, and takes replies apart."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from fakepod import Pod
from mirrord_trace.supervisor.fuse import protocol
from mirrord_trace.supervisor.fuse.attributes import AttributeCalls
from mirrord_trace.supervisor.fuse.directories import Directories
from mirrord_trace.supervisor.fuse.files import Files
from mirrord_trace.supervisor.fuse.generation import Generation
from mirrord_trace.supervisor.fuse.handles import Handles
from mirrord_trace.supervisor.fuse.knowledge import Lifetimes
from mirrord_trace.supervisor.fuse.locks import Locks
from mirrord_trace.supervisor.fuse.names import Names
from mirrord_trace.supervisor.fuse.nodes import Node
from mirrord_trace.supervisor.fuse.protocol import Op, Request
from mirrord_trace.supervisor.fuse.tree import Tree, TreeSettings
from mirrord_trace.supervisor.fuse.waiting import Outcome, Work, run

ROOT = protocol.ROOT_ID

_ENTRY = struct.Struct("=QQQQII")
_ATTRIBUTES = struct.Struct("=QQQQQQIIIIIIIIII")


class Attr(NamedTuple):
    """struct fuse_attr."""

    ino: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int
    atimensec: int
    mtimensec: int
    ctimensec: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    blksize: int
    flags: int


class Entry(NamedTuple):
    """struct fuse_entry_out; `node` 0: there is no such name."""

    node: int
    entry_s: float
    attr_s: float
    attr: Attr


class DirectoryEntry(NamedTuple):
    """struct fuse_dirent, after a struct fuse_entry_out if there is one."""

    name: bytes
    inode: int
    offset: int
    kind: int
    entry: Entry | None


def read_entry(body: bytes) -> Entry:
    """fuse_entry_out."""
    node, _, entry_s, attr_s, entry_ns, attr_ns = _ENTRY.unpack_from(body)
    return Entry(node, entry_s + entry_ns / 1e9, attr_s + attr_ns / 1e9, Attr(*_ATTRIBUTES.unpack_from(body, 40)))


def read_directory_entries(body: bytes, plus: bool) -> list[DirectoryEntry]:
    """The reply to READDIR, READDIRPLUS; fails if it is not packed as the kernel wants it."""
    found, at = [], 0
    while at < len(body):
        entry = read_entry(body[at : at + 128]) if plus else None
        at += 128 if plus else 0
        inode, offset, length, kind = struct.unpack_from("=QQII", body, at)
        name = body[at + 24 : at + 24 + length]
        assert len(name) == length
        found.append(DirectoryEntry(name, inode, offset, kind, entry))
        at += 24 + (length + 7 & ~7)
    assert at == len(body)
    return found


class Clock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def passes(self, seconds: float) -> None:
        self.now_s += seconds


class Call:
    """A request under way. `result`: what it ended with."""

    def __init__(self, unique: int) -> None:
        self.unique = unique
        self.results: list[bytes | OSError] = []

    def done(self, result: bytes | OSError) -> None:
        self.results.append(result)

    @property
    def is_over(self) -> bool:
        return bool(self.results)

    def body(self) -> bytes:
        """The reply; its errno is raised."""
        assert len(self.results) == 1, "not answered" if not self.results else "answered more than once"
        result = self.results[0]
        if isinstance(result, OSError):
            raise result
        return result


class Kernel:
    """Makes requests of the operations on one tree. `invalidated`: the inodes whose pages it was told to forget."""

    def __init__(self, pod: Pod, clock: Clock, **settings: Any) -> None:
        self.pod = pod
        self.clock = clock
        self.generation = Generation()
        may_write = settings.pop("may_write", lambda path: True)
        settings = {"lifetimes": Lifetimes(1.0, 1.0), "device": 77, **settings}
        self.tree = Tree(pod, TreeSettings(**settings), self.generation, clock)  # type: ignore[arg-type]
        self.tree.may_write = may_write
        self.handles = Handles(self.tree)
        self.invalidated: list[int] = []
        self.locks = Locks(self.tree, self.handles, self._invalidate)
        self.files = Files(self.tree, self.handles, self.locks)
        self.names = Names(self.tree, self.handles)
        self.attributes = AttributeCalls(self.tree, self.handles)
        self.directories = Directories(self.tree)
        self._unique = 0

    def _invalidate(self, node: int, settle: Callable[[Outcome], None]) -> None:
        self.invalidated.append(node)
        settle(None)

    # -- any request ------------------------------------------------------------------------------------------------------

    def request(self, op: Op, node: int, body: bytes) -> Request:
        self._unique += 2
        return Request(op, self._unique, node, 4711, memoryview(body))

    def begin(self, handler: Callable[[Request], Work[bytes]], op: Op, node: int, body: bytes) -> Call:
        request = self.request(op, node, body)
        call = Call(request.unique)
        run(handler(request), call.done)
        self.pod.loop.run()
        return call

    def finish(self, call: Call) -> bytes:
        """Let the pod answer everything that this needs."""
        while not call.is_over and any(self.pod.answer(index) for index in range(len(self.pod.waiting))):
            pass
        return call.body()

    def call(self, handler: Callable[[Request], Work[bytes]], op: Op, node: int, body: bytes) -> bytes:
        return self.finish(self.begin(handler, op, node, body))

    # -- names ------------------------------------------------------------------------------------------------------------

    def begin_lookup(self, name: str, node: int = ROOT) -> Call:
        return self.begin(self.names.lookup, Op.LOOKUP, node, name.encode() + b"\0")

    def lookup(self, path: str, node: int = ROOT) -> Entry:
        """LOOKUP of one name after the other."""
        entry = Entry(node, 0, 0, Attr(*[0] * 16))
        for name in path.split("/"):
            entry = read_entry(self.finish(self.begin_lookup(name, entry.node)))
        return entry

    def node(self, path: str) -> int:
        entry = self.lookup(path)
        assert entry.node, f"no {path}"
        return entry.node

    def inode(self, number: int) -> Node:
        return self.tree.nodes.get(number)

    def forget(self, number: int) -> None:
        """All references."""
        self.tree.nodes.forget(number, self.inode(number).lookups)

    def begin_rename(self, old: str, new: str, flags: int = 0, node: int = ROOT, to: int = ROOT) -> Call:
        body = protocol.RENAME2_IN.pack(to, flags) + old.encode() + b"\0" + new.encode() + b"\0"
        return self.begin(self.names.rename2, Op.RENAME2, node, body)

    def rename(self, old: str, new: str, flags: int = 0, node: int = ROOT, to: int = ROOT) -> None:
        self.finish(self.begin_rename(old, new, flags, node, to))

    def begin_unlink(self, name: str, node: int = ROOT) -> Call:
        return self.begin(self.names.unlink, Op.UNLINK, node, name.encode() + b"\0")

    def unlink(self, name: str, node: int = ROOT) -> None:
        self.finish(self.begin_unlink(name, node))

    # -- attributes -------------------------------------------------------------------------------------------------------

    def begin_getattr(self, node: int, handle: int = 0) -> Call:
        body = protocol.GETATTR_IN.pack(protocol.GETATTR_FH if handle else 0, handle)
        return self.begin(self.attributes.getattr, Op.GETATTR, node, body)

    def getattr(self, node: int, handle: int = 0) -> Attr:
        return Attr(*_ATTRIBUTES.unpack_from(self.finish(self.begin_getattr(node, handle)), 16))

    def begin_setattr(self, node: int, what: int, handle: int = 0, size: int = 0, mode: int = 0, **fields: int) -> Call:
        given = {name: fields.get(name, 0) for name in ("atime", "mtime", "atime_ns", "mtime_ns", "uid", "gid")}
        atime, mtime = given["atime"] & 2**64 - 1, given["mtime"] & 2**64 - 1
        body = protocol.SETATTR_IN.pack(
            what | (protocol.FATTR_FH if handle else 0), handle, size, 0, atime, mtime,
            0, given["atime_ns"], given["mtime_ns"], 0, mode, 0, given["uid"], given["gid"], 0,
        )  # fmt: skip
        return self.begin(self.attributes.setattr, Op.SETATTR, node, body)

    def setattr(self, node: int, what: int, **fields: int) -> Attr:
        return Attr(*_ATTRIBUTES.unpack_from(self.finish(self.begin_setattr(node, what, **fields)), 16))

    # -- files ------------------------------------------------------------------------------------------------------------

    def begin_open(self, node: int, flags: int = 0, open_flags: int = 0) -> Call:
        return self.begin(self.files.open, Op.OPEN, node, protocol.OPEN_IN.pack(flags, open_flags))

    def open(self, node: int, flags: int = 0, open_flags: int = 0) -> int:
        handle, _, _ = struct.unpack("=QII", self.finish(self.begin_open(node, flags, open_flags)))
        return int(handle)

    def open_flags(self, node: int, flags: int = 0) -> int:
        """FOPEN_* of an open file that is closed again."""
        handle, fopen, _ = struct.unpack("=QII", self.finish(self.begin_open(node, flags)))
        self.release(handle)
        return int(fopen)

    def begin_create(self, name: str, flags: int = 2, mode: int = 0o100644, node: int = ROOT) -> Call:
        body = protocol.CREATE_IN.pack(flags, mode, 0o022, 0) + name.encode() + b"\0"
        return self.begin(self.files.create, Op.CREATE, node, body)

    def create(self, name: str, flags: int = 2, mode: int = 0o100644, node: int = ROOT) -> tuple[Entry, int]:
        body = self.finish(self.begin_create(name, flags, mode, node))
        return read_entry(body), int.from_bytes(body[128:136], "little")

    def begin_read(self, handle: int, offset: int, size: int) -> Call:
        body = protocol.READ_IN.pack(handle, offset, size, 0, 0, 0)
        return self.begin(self.files.read, Op.READ, self.handles.get(handle).node.id, body)

    def read(self, handle: int, offset: int = 0, size: int = 4096) -> bytes:
        return self.finish(self.begin_read(handle, offset, size))

    def begin_write(self, handle: int, offset: int, content: bytes, flags: int = 0) -> Call:
        body = protocol.WRITE_IN.pack(handle, offset, len(content), flags, 0, 0) + content
        return self.begin(self.files.write, Op.WRITE, self.handles.get(handle).node.id, body)

    def write(self, handle: int, offset: int, content: bytes, flags: int = 0) -> None:
        written = self.finish(self.begin_write(handle, offset, content, flags))
        assert written == struct.pack("=II", len(content), 0)

    def begin_flush(self, handle: int, owner: int = 1) -> Call:
        return self.begin(self.files.flush, Op.FLUSH, self.handles.get(handle).node.id, protocol.FLUSH_IN.pack(handle, owner))

    def flush(self, handle: int, owner: int = 1) -> None:
        assert self.finish(self.begin_flush(handle, owner)) == b""

    def release(self, handle: int) -> None:
        assert self.call(self.files.release, Op.RELEASE, 0, protocol.RELEASE_IN.pack(handle, 0, 0, 0)) == b""

    def fsync(self, handle: int, flags: int = 0) -> None:
        assert self.call(self.files.fsync, Op.FSYNC, 0, protocol.FSYNC_IN.pack(handle, flags)) == b""

    def begin_lock(self, handle: int, owner: int, kind: int, wait: bool = False, flock: bool = False) -> Call:
        body = protocol.LOCK_IN.pack(handle, owner, 0, 2**63 - 1, kind, 4711, protocol.LOCK_FLOCK if flock else 0)
        return self.begin(self.locks.set, Op.SETLKW if wait else Op.SETLK, 0, body)

    def lock(self, handle: int, owner: int, kind: int, wait: bool = False, flock: bool = False) -> None:
        assert self.finish(self.begin_lock(handle, owner, kind, wait, flock)) == b""
