"""The inodes that the kernel knows by number, and the paths that lead to them.

A pod file is one inode here however many names it has, so that the kernel's page cache is shared among hard links. It is known
by device, inode number and type in the pod, and by its birth time where there is one, since file systems use the numbers of
deleted files again. An inode lives as long as the kernel holds references (FORGET) or open files.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace

from ...agent.wire.messages import FileStat
from .protocol import ROOT_ID
from .waiting import Outcome, failure

_TYPE = 0o170000
_DIRECTORY = 0o040000
_DEVICE_SHIFT = 48

Key = tuple[int, int, int, int]


class Node:
    """One inode. `stat`: as last seen, in the pod's own terms."""

    __slots__ = ("handles", "id", "kept_version", "key", "lookups", "paths", "stat", "unsent", "waiting", "write_errno")

    def __init__(self, number: int, key: Key, stat: FileStat) -> None:
        self.id = number
        self.key = key
        self.stat = stat
        self.paths: list[bytes] = []
        """Real paths, the one that was seen last at the end."""
        self.lookups = 0
        """The kernel's references."""
        self.handles: set[int] = set()
        """Open files (handles.py)."""
        self.kept_version: FileStat | None = None
        """The attributes to which the pages in the kernel's cache belong."""
        self.unsent = 0
        """Bytes written here that the pod has not acknowledged."""
        self.waiting: list[Callable[[Outcome], None]] = []
        """Who waits for `unsent` to be 0 (writebehind.py)."""
        self.write_errno = 0
        """Of a write that failed after write(2) had returned, until fsync(2) or close(2) tells."""

    @property
    def path(self) -> bytes:
        """A path that leads to it; ESTALE if there is none any more."""
        if not self.paths:
            raise failure(errno.ESTALE)
        return self.paths[-1]

    @property
    def is_removed(self) -> bool:
        """Whether its last name has been removed here: what is left of it is in use."""
        return not self.paths and not self.stat.nlink

    @property
    def is_directory(self) -> bool:
        """Whether it is one."""
        return self.key[2] == _DIRECTORY


def key_of(stat: FileStat) -> Key:
    """What makes a file the same file."""
    return stat.dev, stat.ino, stat.mode & _TYPE, stat.btime_ns


def below(directory: bytes, name: bytes) -> bytes:
    """The path of a name in a directory."""
    return directory + b"/" + name if directory != b"/" else b"/" + name


class Nodes:
    """All of them. The root directory is there from the start, without attributes."""

    def __init__(self) -> None:
        root = FileStat(0, ROOT_ID, 0o040755, 2, 0, 0, 0, 0, 4096, 0, 0, 0, 0, -1)
        self.root = Node(ROOT_ID, key_of(root), root)
        self.root.paths.append(b"/")
        self._by_id = {ROOT_ID: self.root}
        self._by_key: dict[Key, Node] = {}
        self._by_path = {b"/": self.root}
        self._next_id = ROOT_ID + 1
        self._devices: dict[int, int] = {}

    def get(self, number: int) -> Node:
        """The inode that the kernel names; ESTALE if it is none."""
        node = self._by_id.get(number)
        if node is None:
            raise failure(errno.ESTALE)
        return node

    def at(self, path: bytes) -> Node | None:
        """The inode that the real path is known to lead to."""
        return self._by_path.get(path)

    def found(self, path: bytes | None, stat: FileStat) -> Node:
        """The pod has this file, at `path` if it has a name: the inode for it, a new one if need be."""
        key = key_of(stat)
        node = self._known(path, key)
        if node is None:
            node = self._by_id[self._next_id] = Node(self._next_id, key, stat)
            self._next_id += 1
            if not node.is_directory:
                self._by_key[key] = node
        node.stat = stat
        if path is not None and node.paths[-1:] != [path]:
            if self._by_path.get(path) is node:
                node.paths.remove(path)
            else:
                self.gone(path)
                self._by_path[path] = node
            node.paths.append(path)
        return node

    # A directory has one place, as for the kernel. The same one elsewhere is mounted there too, or somebody in the pod has
    # moved it. The root may be mounted below itself, but the kernel takes it nowhere else.
    def _known(self, path: bytes | None, key: Key) -> Node | None:
        if path == b"/":
            self.root.key = key
            return self.root
        if key[2] != _DIRECTORY:
            return self._by_key.get(key)
        node = self._by_path.get(path) if path is not None else None
        return node if node is not None and node.key == key else None

    def is_still(self, node: Node, path: bytes, stat: FileStat | None) -> bool:
        """Whether what has just been seen at the inode's path is this inode; if so, these are its attributes now.

        If not, the path is none of the inode's any more.
        """
        if node is self.root and stat is not None:
            node.key = key_of(stat)
        if stat is None or node.key != key_of(stat):
            if self._by_path.get(path) is node:
                self.gone(path)
            return False
        node.stat = stat
        return True

    def gone(self, path: bytes) -> None:
        """The name leads to nothing any more, as far as we know."""
        node = self._by_path.get(path)
        if node is not None and node is not self.root:
            del self._by_path[path]
            node.paths.remove(path)

    def replaced(self, node: Node) -> None:
        """The file has no name left that we know: its number may be used again in the pod."""
        if not node.paths and node.stat.nlink:
            node.stat = replace(node.stat, nlink=0 if node.is_directory else node.stat.nlink - 1)
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]

    def moved(self, old: bytes, new: bytes) -> None:
        """rename(2): the file at `old`, and everything below it, is at `new`."""
        self.gone(new)
        for path, node in list(self._from(old)):
            del self._by_path[path]
            moved = new + path[len(old) :]
            self.gone(moved)
            node.paths[node.paths.index(path)] = moved
            self._by_path[moved] = node

    def exchanged(self, one: bytes, other: bytes) -> None:
        """renameat2(2) with RENAME_EXCHANGE."""
        aside = one + b"\0aside"
        self.moved(one, aside)
        self.moved(other, one)
        self.moved(aside, other)

    def forget(self, number: int, count: int) -> None:
        """The kernel has given up `count` references."""
        node = self._by_id.get(number)
        if node is None or node is self.root:
            return
        node.lookups -= count
        self.drop_if_unused(node)

    def drop_if_unused(self, node: Node) -> None:
        """Forget an inode that neither the kernel nor an open file refers to."""
        if node.lookups > 0 or node.handles or node.unsent or node is self.root:
            return
        self._by_id.pop(node.id, None)
        self.replaced(node)
        for path in list(node.paths):
            self.gone(path)

    def visible(self, stat: FileStat, device: int = 0) -> FileStat:
        """Attributes as the kernel is told them: one device, so that equal numbers on two of the pod's stay apart."""
        return replace(stat, dev=device, ino=self.number(stat.dev, stat.ino))

    def number(self, device: int, inode: int) -> int:
        """An inode number of one of the pod's devices, as `visible` shows it."""
        return inode ^ self._devices.setdefault(device, len(self._devices)) << _DEVICE_SHIFT

    def _from(self, path: bytes) -> Iterator[tuple[bytes, Node]]:
        prefix = path + b"/"
        node = self._by_path.get(path)
        if node is None or node.is_directory:
            for known, other in self._by_path.items():
                if known.startswith(prefix):
                    yield known, other
        if node is not None:
            yield path, node
