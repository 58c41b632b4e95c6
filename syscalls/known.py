"""Paths that have been found to be the kernel's business, and who else wants to know of them.

The tracer's compiled loop (supervisor/tracer/hot.c) keeps a copy of these collections and lets calls on known paths
pass without asking Python. So everything that changes one goes through a method here, which tells the copy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from .actions import Continue

_FRESH_S = 1.0


class Mirror(Protocol):
    """What is told of changes: a member more, or that nothing of what was said holds any longer."""

    def add(self, path: bytes) -> None:
        """`path` is known from now on."""
        ...

    def clear(self) -> None:
        """No path is known any more."""
        ...


class KnownPaths(dict[bytes, Continue]):
    """Path as written by the tracee -> what its handler would say. Only grows, until it is cleared."""

    mirror: Mirror | None = None

    def remember(self, path: bytes, final: Continue) -> Continue:
        """Add a path; returns what is known of it, be it from before."""
        known = self.setdefault(path, final)
        if self.mirror is not None:
            self.mirror.add(path)
        return known

    def clear(self) -> None:
        """See dict.clear."""
        super().clear()
        if self.mirror is not None:
            self.mirror.clear()


class PathSet(set[bytes]):
    """Paths without anything to say about them. Only grows, until it is cleared."""

    mirror: Mirror | None = None

    def add(self, path: bytes) -> None:
        """See set.add."""
        super().add(path)
        if self.mirror is not None:
            self.mirror.add(path)

    def clear(self) -> None:
        """See set.clear."""
        super().clear()
        if self.mirror is not None:
            self.mirror.clear()


class Directories(PathSet):
    """Directories of this machine with no symbolic link on the way to them. Believed for a second.

    Most paths are new ones in a directory that was looked at a moment ago. What supervised programs do to directories is
    seen (`Quick.changes`) and clears this at once; what others do, within the second.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now_s = now_s
        self._until_s = 0.0

    def has(self, path: bytes) -> bool:
        """Whether this is known, and not for too long."""
        if path not in self:
            return False
        if self._now_s() < self._until_s:
            return True
        self.clear()
        return False

    def add(self, path: bytes) -> None:
        """See set.add."""
        now_s = self._now_s()
        if self and now_s >= self._until_s:
            self.clear()
        if not self:
            self._until_s = now_s + _FRESH_S
        super().add(path)
