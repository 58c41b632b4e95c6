"""The mounted pod tree as the tracer sees it: where it is, what is in it, and attributes that are still good.

The relay serves the pod's files as a FUSE file system whose mount is attached nowhere: the only way to it is a descriptor of
the supervisor. A path argument that policy gives to the pod is rewritten to begin with `prefix`, a magic link in /proc to
that descriptor. What the tracee opens there is the kernel's, and shows as the pod's own path in /proc/self/fd, maps and exe,
since a detached mount has no other.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ..agent.wire.messages import FileStat
from ..agent.wire.stats import unpack_stats
from .requests import PathStat

_LIMIT = 65536
_TYPE, _LINK = 0o170000, 0o120000


class KnownStat(NamedTuple):
    """What a pod path led to: an errno, or 0 and attributes. `no_xattrs`: it has no extended ones, as far as is known."""

    errno: int
    stat: FileStat
    until_s: float
    generation: int
    no_xattrs: bool


@dataclass
class Mount:
    """`prefix`: without a trailing slash. `device`: st_dev of its files. `generation()`: supervisor/fuse/generation.py.

    `is_ordinary`: the tool is an ordinary user, so that this machine's kernel, where it asks for a file's owner, compares the
    pod's users with ours, and finds that nothing is ours.

    `is_used`: whether any tracee may have a file of it open, or its working directory there. Until then no descriptor
    and no relative path needs a look.
    """

    prefix: bytes
    device: int
    generation: Callable[[], int]
    is_used: bool = False
    is_ordinary: bool = False
    aliases: dict[bytes, bytes] = field(default_factory=dict)
    """Pod path -> the tracee's name, by `note_name`."""
    _known: dict[tuple[bytes, bool], KnownStat] = field(default_factory=dict)

    def note_name(self, path: bytes, name: bytes) -> None:
        """`feature.fs.mapping` has led from `name` to the pod path `path`: the way back from an open directory's path."""
        if len(self.aliases) >= _LIMIT:
            self.aliases.clear()
        self.aliases[path] = name

    def name_of(self, path: bytes) -> bytes:
        """The tracee's name for a pod path that an open file or the working directory shows."""
        if not self.aliases:
            return path
        start = path
        while len(start) > 1:
            alias = self.aliases.get(start)
            if alias is not None:
                return alias + path[len(start) :]
            start = start[: start.rfind(b"/")] or b"/"
        return path

    def known(self, path: bytes, follow: bool) -> KnownStat | None:
        """What is still good of an earlier `learn`, or None."""
        known = self._known.get((path, follow))
        if known is None or known.generation != self.generation() or time.monotonic() >= known.until_s:
            return None
        return known

    def learn(self, path: bytes, follow: bool, reply: PathStat) -> None:
        """Keep a reply, and what it says of neighbours, for as long as it is good."""
        if reply.valid_ms <= 0:
            return
        if len(self._known) >= _LIMIT:
            self._known.clear()
        until_s = time.monotonic() + reply.valid_ms / 1000
        self._known[path, follow] = KnownStat(reply.errno, reply.stat, until_s, reply.generation, reply.no_xattrs)
        if not reply.names:
            return
        parent = path[: path.rindex(b"/") + 1]
        for name, stat, is_bare in zip(reply.names.split(b"\0"), unpack_stats(reply.stats), reply.bare, strict=True):
            known = KnownStat(0, stat, until_s, reply.generation, bool(is_bare))
            self._known[parent + name, False] = known
            if stat.mode & _TYPE != _LINK:
                self._known[parent + name, True] = known
