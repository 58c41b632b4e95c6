"""fuse(4): attributes of files, ordinary and extended, permissions, and the file system's own."""

from __future__ import annotations

import errno

from ...agent.wire.file_messages import (
    SET_ATIME,
    SET_ATIME_NOW,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_MTIME_NOW,
    SET_SIZE,
    SET_UID,
    FileSystem,
    GetXattr,
    ListXattr,
    RemoveXattr,
    SetAttributes,
    SetXattr,
    StatFs,
    StatHandle,
)
from ...agent.wire.file_messages import Content as Value
from ...agent.wire.messages import Access, Attributes, Done, FileStat
from . import protocol
from .handles import Handles
from .nodes import Node, key_of
from .protocol import Request
from .tree import Tree
from .waiting import Work, failure

_KNOWN = SET_MODE | SET_UID | SET_GID | SET_SIZE | SET_ATIME | SET_MTIME | SET_ATIME_NOW | SET_MTIME_NOW
_TIMES = SET_ATIME | SET_MTIME
_SECOND = 10**9
_LATEST_NS = 2**63 - 1
_FAMILIES = 4096
_FILE_SYSTEM_S = 1.0
_NAMESPACES = (b"user.", b"security.", b"trusted.", b"system.posix_acl_")  # another one is EOPNOTSUPP


class AttributeCalls:
    """Operations on attributes."""

    def __init__(self, tree: Tree, handles: Handles) -> None:
        self._tree = tree
        self._handles = handles
        self._file_systems: dict[int, tuple[float, bytes]] = {}
        self._unsupported: set[tuple[int, int, bytes]] = set()

    # -- stat -------------------------------------------------------------------------------------------------------------

    def getattr(self, request: Request) -> Work[bytes]:
        """GETATTR: no round trip if it is known, else one."""
        flags, handle = protocol.GETATTR_IN.unpack_from(request.body)
        stat, valid_s = yield from self._attributes(request.node, handle if flags & protocol.GETATTR_FH else 0)
        return protocol.attributes(self._tree.visible(stat), valid_s)

    def statx(self, request: Request) -> Work[bytes]:
        """STATX: as GETATTR, with the birth time."""
        flags, handle, _, _ = protocol.STATX_IN.unpack_from(request.body)
        stat, valid_s = yield from self._attributes(request.node, handle if flags & protocol.GETATTR_FH else 0)
        return protocol.statx(self._tree.visible(stat), valid_s)

    def _attributes(self, number: int, handle: int) -> Work[tuple[FileStat, float]]:
        tree = self._tree
        node = tree.nodes.get(number)
        if node.unsent:
            yield from tree.behind.drained(node)
        path = node.path if node.paths else b""
        seen = tree.knowledge.look(path) if path else None
        if seen is not None and seen.stat is not None and tree.nodes.is_still(node, path, seen.stat):
            return seen.stat, tree.knowledge.remaining_s(seen)
        remote = self._remote_handle(node)
        if remote:
            # Not what is to be seen at its path: somebody in the pod may have put another file there.
            node.stat = (yield from tree.ask(StatHandle(remote), Attributes)).stat
            return node.stat, tree.settings.lifetimes.attribute_s
        while node.paths:
            path = node.path
            seen = yield from tree.lstat(path)
            if path not in node.paths:
                continue  # it has been renamed meanwhile
            if tree.nodes.is_still(node, path, seen.stat):
                return node.stat, tree.knowledge.remaining_s(seen)
            if path in node.paths:
                break  # the root
        if node.is_removed or any(file.content is not None for file in self._handles.of(node)):
            return node.stat, 0.0  # what is left of it, or all of it, is here
        raise failure(errno.ESTALE if seen is None or seen.stat is not None else errno.ENOENT)

    def _remote_handle(self, node: Node) -> int:
        return next((file.id for file in self._handles.of(node) if file.is_remote), 0)

    def setattr(self, request: Request) -> Work[bytes]:
        """SETATTR: chmod, chown, truncate, utimensat. One round trip."""
        fields = protocol.SETATTR_IN.unpack_from(request.body)
        what, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, uid, gid, _ = fields
        tree = self._tree
        node = tree.nodes.get(request.node)
        tree.demand_node_writable(node)
        yield from tree.behind.drained(node)
        number = handle if what & protocol.FATTR_FH and self._is_remote(handle) else 0
        if not number and not node.paths:
            number = self._handles.any_of(node)
        wanted = what & _KNOWN
        mode &= 0o7777
        if what & protocol.FATTR_KILL_SUIDGID and not what & SET_MODE and node.stat.mode & 0o6000:
            wanted, mode = wanted | SET_MODE, without_set_id(node.stat.mode)
        path = node.path if node.paths else b""
        message = SetAttributes(path, number, wanted, mode, uid, gid, size, _time(atime, atime_ns), _time(mtime, mtime_ns))
        ticket, seen = tree.knowledge.ticket(), tree.knowledge.look(path)
        is_there = not number or (seen is not None and seen.stat is not None and key_of(seen.stat) == node.key)
        try:
            reply = yield from tree.ask(message, Attributes)
        finally:
            is_late = tree.knowledge.has_changed(path, ticket)
            self._forget(node, what)
        node.stat = reply.stat
        # A file that is open may be another one than what is at its path by now.
        if path in node.paths and is_there and not is_late:
            tree.knowledge.saw(path, reply.stat, tree.knowledge.ticket())
        return protocol.attributes(tree.visible(reply.stat), tree.settings.lifetimes.attribute_s)

    def _forget(self, node: Node, what: int) -> None:
        if what & SET_SIZE:
            node.kept_version = None
            for file in self._handles.of(node):
                file.ahead.drop()
                file.content = None
        self._tree.content_changed(node)
        if node.is_directory:
            self._tree.tree_changed()  # what may be seen in it may be another thing now

    def _is_remote(self, handle: int) -> bool:
        try:
            return self._handles.get(handle).is_remote
        except OSError:
            return False

    def access(self, request: Request) -> Work[bytes]:
        """ACCESS: what the pod's container may do. One round trip."""
        (mask,) = protocol.ACCESS_IN.unpack_from(request.body)
        tree = self._tree
        node = tree.nodes.get(request.node)
        if mask & 2:
            tree.demand_node_writable(node)
        if not mask:
            return b""
        yield from tree.ask(Access(node.path, mask & 7, False), Done)
        return b""

    def statfs(self, request: Request) -> Work[bytes]:
        """STATFS."""
        node = self._tree.nodes.get(request.node)
        until_s, known = self._file_systems.get(node.key[0], (0.0, b""))
        if until_s > self._tree.clock():
            return known
        found = yield from self._tree.ask(StatFs(node.path), FileSystem)
        body = protocol.file_system(
            found.blocks, found.blocks_free, found.blocks_available, found.files, found.files_free,
            found.block_size, found.name_length, found.fragment_size,
        )  # fmt: skip
        self._file_systems[node.key[0]] = self._tree.clock() + _FILE_SYSTEM_S, body
        return body

    # -- extended attributes ------------------------------------------------------------------------------------------------

    def getxattr(self, request: Request) -> Work[bytes]:
        """GETXATTR: no round trip for what is known to be absent, else one."""
        (size,) = protocol.GETXATTR_IN.unpack_from(request.body)
        (name,) = protocol.GETXATTR_IN.names(request.body)
        node = self._tree.nodes.get(request.node)
        value = yield from self._value(node, name)
        return _sized(value, size)

    def _value(self, node: Node, name: bytes) -> Work[bytes]:
        tree = self._tree
        family = node.key[0], node.key[2], name
        if family in self._unsupported:
            raise failure(errno.EOPNOTSUPP)
        if node.paths and name.startswith(_NAMESPACES) and tree.knowledge.has_no_xattrs(node.path):
            raise failure(errno.ENODATA)
        if node.is_directory and node.paths and name.startswith(_NAMESPACES) and (yield from self._has_none(node)):
            raise failure(errno.ENODATA)
        path, handle = self._named(node)
        try:
            return (yield from tree.ask(GetXattr(path, handle, name), Value)).content
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP and len(self._unsupported) < _FAMILIES:
                self._unsupported.add(family)
            raise

    # `ls -l` asks a directory for three of them, one after the other, and its files for none: those are known by then.
    def _has_none(self, node: Node) -> Work[bool]:
        path = node.path
        ticket = self._tree.knowledge.ticket()
        try:
            found = yield from self._tree.ask(ListXattr(path, 0), Value)
        except OSError:
            return False
        if not found.content:
            self._tree.knowledge.saw_no_xattrs(path, ticket)
        return not found.content

    def listxattr(self, request: Request) -> Work[bytes]:
        """LISTXATTR: one round trip, unless there are known to be none."""
        (size,) = protocol.GETXATTR_IN.unpack_from(request.body)
        node = self._tree.nodes.get(request.node)
        if node.paths and self._tree.knowledge.has_no_xattrs(node.path):
            return _sized(b"", size)
        path, handle = self._named(node)
        found = yield from self._tree.ask(ListXattr(path, handle), Value)
        return _sized(found.content, size)

    def setxattr(self, request: Request) -> Work[bytes]:
        """SETXATTR."""
        size, flags = protocol.SETXATTR_IN.unpack_from(request.body)
        rest = bytes(request.body[protocol.SETXATTR_IN.size :])
        name, _, value = rest.partition(b"\0")
        node = self._tree.nodes.get(request.node)
        path, handle = self._named(node)
        return (yield from self._change(node, SetXattr(path, handle, name, value[:size], flags)))

    def removexattr(self, request: Request) -> Work[bytes]:
        """REMOVEXATTR."""
        (name,) = protocol.NO_FIELDS.names(request.body)
        node = self._tree.nodes.get(request.node)
        path, handle = self._named(node)
        return (yield from self._change(node, RemoveXattr(path, handle, name)))

    def _change(self, node: Node, message: SetXattr | RemoveXattr) -> Work[bytes]:
        self._tree.demand_node_writable(node)
        try:
            yield from self._tree.ask(message, Done)
        finally:
            self._tree.content_changed(node)
        return b""

    def _named(self, node: Node) -> tuple[bytes, int]:
        return (node.path, 0) if node.paths else (b"", self._handles.any_of(node))


def _sized(value: bytes, size: int) -> bytes:
    # A size of 0 asks how much it would be.
    if not size:
        return protocol.SIZE_OUT.pack(len(value))
    if len(value) > size:
        raise failure(errno.ERANGE)
    return value


def without_set_id(mode: int) -> int:
    """The permission bits of mode after a write or a truncation: no S_ISUID, nor S_ISGID where the group may execute."""
    kept = mode & 0o7777 & ~0o4000
    return kept & ~0o2000 if mode & 0o010 else kept


# Nanoseconds, of which a message takes 64 bits: the years from 1677 to 2262.
def _time(seconds: int, nanoseconds: int) -> int:
    signed = seconds - (1 << 64) if seconds >> 63 else seconds
    return max(-_LATEST_NS, min(signed * _SECOND + nanoseconds, _LATEST_NS))
