"""fuse(4): looking names up, making, moving and removing them."""

from __future__ import annotations

import contextlib
import os
import stat

from ...agent.wire.file_messages import LinkFile, MakeLink, MakeNode, RemoveName, RenameFile
from ...agent.wire.messages import Attributes, Done, LinkTarget, ReadLink
from . import protocol
from .handles import Handles
from .nodes import Node, below
from .protocol import Request
from .tree import Tree
from .waiting import Work

_EXCHANGE = 2


class Names:
    """Operations on names. `handles`: files that stay open must not lose the only way to them."""

    def __init__(self, tree: Tree, handles: Handles) -> None:
        self._tree = tree
        self._handles = handles

    def _path(self, directory: int, name: bytes) -> bytes:
        return below(self._tree.nodes.get(directory).path, name)

    def lookup(self, request: Request) -> Work[bytes]:
        """LOOKUP: no round trip if it is known, else one, or a share of one."""
        (name,) = protocol.NO_FIELDS.names(request.body)
        tree = self._tree
        while True:
            path = self._path(request.node, name)
            seen = yield from tree.lstat(path)
            if path == self._path(request.node, name):
                break  # else the directory has moved meanwhile
        if seen.stat is None:
            tree.nodes.gone(path)
            return protocol.no_entry(tree.knowledge.remaining_s(seen))
        return tree.entry(path, seen.stat, tree.knowledge.remaining_s(seen))

    def readlink(self, request: Request) -> Work[bytes]:
        """READLINK: an absolute target becomes a relative one.

        The kernel would follow an absolute one from the program's own root. Too many `..` do no harm: they end at the
        mount's root.
        """
        tree = self._tree
        node = tree.nodes.get(request.node)
        seen = yield from tree.lstat(node.path)
        if seen.target:
            target = seen.target
        else:
            target = (yield from tree.ask(ReadLink(node.path), LinkTarget)).target
        if not target.startswith(b"/"):
            return target
        depth = max((path.count(b"/") for path in node.paths), default=1) - 1
        return b"../" * depth + (target.lstrip(b"/") or b".")

    def mknod(self, request: Request) -> Work[bytes]:
        """MKNOD: FIFOs, sockets, devices, and files where CREATE is not used."""
        mode, rdev, _ = protocol.MKNOD_IN.unpack_from(request.body)
        (name,) = protocol.MKNOD_IN.names(request.body)
        path = self._path(request.node, name)
        made = yield from self._make(path, MakeNode(path, mode, _to_rdev(rdev)))
        path = self._path(request.node, name)
        if made.stat.mode & 0o170000 in protocol.STREAM_TYPES:
            # The kernel insists on the type that it asked for; the next look-up finds what we make of it.
            return self._tree.special_entry(path, made.stat)
        return self._tree.fresh_entry(path, made.stat)

    def mkdir(self, request: Request) -> Work[bytes]:
        """MKDIR."""
        mode, _ = protocol.MKDIR_IN.unpack_from(request.body)
        (name,) = protocol.MKDIR_IN.names(request.body)
        path = self._path(request.node, name)
        made = yield from self._make(path, MakeNode(path, mode & 0o7777 | stat.S_IFDIR, 0))
        return self._tree.fresh_entry(self._path(request.node, name), made.stat)

    def symlink(self, request: Request) -> Work[bytes]:
        """SYMLINK."""
        name, target = protocol.NO_FIELDS.names(request.body)
        path = self._path(request.node, name)
        made = yield from self._make(path, MakeLink(path, target))
        return self._tree.fresh_entry(self._path(request.node, name), made.stat)

    def _make(self, path: bytes, message: MakeNode | MakeLink) -> Work[Attributes]:
        self._tree.demand_writable(path)
        try:
            return (yield from self._tree.ask(message, Attributes))
        except OSError:
            self._tree.name_changed(path)
            raise

    def link(self, request: Request) -> Work[bytes]:
        """LINK: also of a file without a name (O_TMPFILE)."""
        (number,) = protocol.LINK_IN.unpack_from(request.body)
        (name,) = protocol.LINK_IN.names(request.body)
        tree = self._tree
        path = self._path(request.node, name)
        tree.demand_writable(path)
        node = tree.nodes.get(number)
        yield from tree.behind.drained(node)
        try:
            if node.paths:
                made = yield from tree.ask(LinkFile(node.path, 0, path), Attributes)
            else:
                made = yield from tree.ask(LinkFile(b"", self._handles.any_of(node), path), Attributes)
        except OSError:
            tree.name_changed(path)
            raise
        tree.content_changed(node)
        return tree.fresh_entry(self._path(request.node, name), made.stat)

    def unlink(self, request: Request) -> Work[bytes]:
        """UNLINK."""
        (name,) = protocol.NO_FIELDS.names(request.body)
        return (yield from self._remove(request.node, name, False))

    def rmdir(self, request: Request) -> Work[bytes]:
        """RMDIR."""
        (name,) = protocol.NO_FIELDS.names(request.body)
        return (yield from self._remove(request.node, name, True))

    def _remove(self, parent: int, name: bytes, directory: bool) -> Work[bytes]:
        tree = self._tree
        path = self._path(parent, name)
        tree.demand_writable(path)
        node = tree.nodes.at(path)
        yield from self._keep_open(node)
        path = self._path(parent, name)
        try:
            yield from tree.ask(RemoveName(path, directory), Done)
        except OSError:
            tree.name_changed(path)
            raise
        path = self._path(parent, name)
        tree.name_removed(path)
        tree.nodes.gone(path)
        self._lost_a_name(node)
        return b""

    # A file that is open must be open in the pod as well before its last name goes. If the pod does not open it any more,
    # its content is here.
    def _keep_open(self, node: Node | None) -> Work[None]:
        if node is not None:
            for number in list(node.handles):
                with contextlib.suppress(OSError):
                    yield from self._handles.make_remote(number)

    def _lost_a_name(self, node: Node | None) -> None:
        if node is not None and node.paths:
            self._tree.content_changed(node)  # st_nlink, st_ctime
        elif node is not None:
            self._tree.nodes.replaced(node)

    def rename(self, request: Request) -> Work[bytes]:
        """RENAME."""
        (directory,) = protocol.RENAME_IN.unpack_from(request.body)
        old, new = protocol.RENAME_IN.names(request.body)
        return (yield from self._rename(request.node, old, directory, new, 0))

    def rename2(self, request: Request) -> Work[bytes]:
        """RENAME2."""
        directory, flags = protocol.RENAME2_IN.unpack_from(request.body)
        old, new = protocol.RENAME2_IN.names(request.body)
        return (yield from self._rename(request.node, old, directory, new, flags))

    def _rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int) -> Work[bytes]:
        tree = self._tree
        old, new = self._path(parent, name), self._path(new_parent, new_name)
        tree.demand_writable(old)
        tree.demand_writable(new)
        moved, replaced = tree.nodes.at(old), tree.nodes.at(new)
        yield from self._keep_open(replaced)
        if moved is not None:
            yield from tree.behind.drained(moved)
        try:
            old, new = self._path(parent, name), self._path(new_parent, new_name)
            yield from tree.ask(RenameFile(old, new, flags), Done)
            old, new = self._path(parent, name), self._path(new_parent, new_name)
        except OSError:
            tree.name_changed(old)
            tree.name_changed(new)
            raise
        if flags or moved is None or moved is replaced or moved.is_directory:
            tree.name_changed(old)
            tree.name_changed(new)
        else:
            tree.name_moved(old, new)
        if flags & _EXCHANGE:
            tree.nodes.exchanged(old, new)
            tree.tree_changed()
            return b""
        if moved is not None and moved is replaced:
            return b""  # two names of one file: rename(2) does nothing
        tree.nodes.moved(old, new)
        self._lost_a_name(replaced)
        if moved is None or moved.is_directory:
            tree.tree_changed()
        else:
            tree.content_changed(moved)  # st_ctime, by its other names
        return b""


# The kernel's 32-bit encoding (new_encode_dev) as stat(2) has it.
def _to_rdev(device: int) -> int:
    return os.makedev((device & 0xFFF00) >> 8, (device & 0xFF) | ((device >> 12) & 0xFFF00))
