"""What is known of the other names of a directory, for the tracer in advance.

A question of the tracer's that is answered here without the pod still costs more than a stop. Who looks at one name after the
other of a directory that is known here gets ever more of them with each answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from ...agent.wire.stats import pack_stats
from .nodes import below
from .tree import Tree

_MOST = 128


class Neighbours(NamedTuple):
    """As in `PathStat`."""

    names: bytes = b""
    stats: bytes = b""
    bare: bytes = b""


class Telling:
    """Names of one directory at a time, each once, in the directory's order."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._directory: tuple[bytes, int, float] = (b"", 0, 0.0)
        self._names: Iterator[bytes] = iter(())
        self._count = 0

    def of(self, path: bytes, generation: int, valid_s: float) -> tuple[Neighbours, float]:
        """Some neighbours of the real path, and for how long they and what is told of `path`, which is for `valid_s`, count.

        None at the first question about a directory, nor where the directory is not known.
        """
        knowledge, nodes = self._tree.knowledge, self._tree.nodes
        parent = path.rpartition(b"/")[0] or b"/"
        listing = knowledge.listing(parent)
        if listing is None:
            return Neighbours(), valid_s
        directory = parent, generation, listing.until_s
        if directory != self._directory:
            self._directory, self._names, self._count = directory, iter(list(listing.entries)), 1
            return Neighbours(), valid_s
        self._count = min(4 * self._count, _MOST)
        names, stats, bare = [], [], bytearray()
        for name in islice(self._names, self._count):
            other = below(parent, name)
            seen, node = knowledge.look(other), nodes.at(other)
            if seen is None or seen.stat is None or (node is not None and node.unsent):
                continue
            valid_s = min(valid_s, knowledge.remaining_s(seen))
            names.append(name)
            stats.append(self._tree.visible(seen.stat))
            bare.append(seen.no_xattrs)
        return Neighbours(b"\0".join(names), pack_stats(stats), bytes(bare)), valid_s
