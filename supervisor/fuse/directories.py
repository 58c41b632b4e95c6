"""fuse(4): listing directories.

An open directory keeps the names that it had when the reading began, so that positions stay valid whatever happens meanwhile;
rewinddir(3) begins with a new look. Position N is behind the Nth entry. The attributes of the entries go to the kernel with
their names (READDIRPLUS), so that the stat(2) of each that usually follows is answered there.
"""

from __future__ import annotations

import errno

from . import protocol
from .knowledge import Listing
from .nodes import Node, below
from .protocol import Request
from .tree import Tree
from .waiting import Work, failure

_DOTS = ((b".", 4), (b"..", 4))
_TYPE = 0o170000
_ENTRY_OUT_BYTES = len(protocol.NO_ATTRIBUTES)
_DIRENT_BYTES = 24


class _OpenDirectory:
    __slots__ = ("entries", "is_new", "node", "ticket")

    # `ticket`: of when the listing was asked for.
    def __init__(self, node: Node, listing: Listing, ticket: int) -> None:
        self.node = node
        self.ticket = ticket
        self.entries = list(listing.entries.items())
        self.is_new = True


class Directories:
    """Open directories. Their numbers are their own, since the agent need not know of them."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._open: dict[int, _OpenDirectory] = {}
        self._next = 1

    def opendir(self, request: Request) -> Work[bytes]:
        """OPENDIR: one round trip, which brings everything; none if the listing is known."""
        tree = self._tree
        node = tree.nodes.get(request.node)
        ticket = tree.knowledge.ticket()
        directory = _OpenDirectory(node, (yield from self._listing(node)), ticket)
        path = node.paths[-1] if node.paths else b""
        seen = tree.knowledge.look(path)
        if seen is not None:
            tree.nodes.is_still(node, path, seen.stat)
        number = self._next
        self._next += 1
        self._open[number] = directory
        return protocol.opened(number)

    def _listing(self, node: Node) -> Work[Listing]:
        if node.is_removed:
            return Listing({}, 0.0)  # somebody's working directory
        return (yield from self._tree.asking.listing(node.path))

    def releasedir(self, request: Request) -> Work[bytes]:
        """RELEASEDIR."""
        yield from ()
        self.remove(protocol.RELEASE_IN.unpack_from(request.body)[0])
        return b""

    def remove(self, number: int) -> None:
        """The open directory is no more."""
        self._open.pop(number, None)

    def fsyncdir(self, request: Request) -> Work[bytes]:
        """FSYNCDIR: what the pod has answered, it has done; it is not forced to its disk."""
        yield from ()
        return b""

    def readdir(self, request: Request) -> Work[bytes]:
        """READDIR: no round trip."""
        return (yield from self._read(request, with_attributes=False))

    def readdirplus(self, request: Request) -> Work[bytes]:
        """READDIRPLUS: no round trip."""
        return (yield from self._read(request, with_attributes=True))

    def _read(self, request: Request, *, with_attributes: bool) -> Work[bytes]:
        number, offset, size, _, _, _ = protocol.READ_IN.unpack_from(request.body)
        directory = self._open.get(number)
        if directory is None:
            raise failure(errno.EBADF)
        if offset == 0 and not (directory.is_new and self._is_as_opened(directory)):
            listing = yield from self._listing(directory.node)
            directory.entries = list(listing.entries.items())
        directory.is_new = False
        return self._pack(directory, offset, size, with_attributes)

    # Not if the program has changed it between open(2) and its first look.
    def _is_as_opened(self, directory: _OpenDirectory) -> bool:
        node = directory.node
        return bool(node.paths) and not self._tree.knowledge.has_changed(node.path, directory.ticket)

    def _pack(self, directory: _OpenDirectory, offset: int, size: int, with_attributes: bool) -> bytes:
        parts: list[bytes] = []
        fixed = _DIRENT_BYTES + (_ENTRY_OUT_BYTES if with_attributes else 0)
        own = directory.node
        path = own.paths[-1] if own.paths else b""
        for position in range(offset, len(directory.entries) + 2):
            if position < 2:
                (name, kind), inode = _DOTS[position], own.stat.ino
            else:
                name, (inode, kind) = directory.entries[position - 2]
            size -= fixed + (len(name) + 7 & ~7)
            if size < 0:
                break
            if with_attributes:
                parts.append(self._entry(below(path, name)) if position >= 2 and path else protocol.NO_ATTRIBUTES)
            shown = self._tree.nodes.number(own.stat.dev, inode)
            parts.append(protocol.directory_entry(name, shown or 1, position + 1, kind))
        return b"".join(parts)

    # The kernel takes a reference to each inode that it is told of; FIFOs and devices it gets to know only by look-ups.
    def _entry(self, path: bytes) -> bytes:
        tree = self._tree
        seen = tree.knowledge.look(path)
        node = tree.nodes.at(path)
        if seen is None or seen.stat is None or (node is not None and node.unsent):
            return protocol.NO_ATTRIBUTES
        if seen.stat.mode & _TYPE in protocol.STREAM_TYPES:
            return protocol.NO_ATTRIBUTES
        return tree.entry(path, seen.stat, tree.knowledge.remaining_s(seen))
