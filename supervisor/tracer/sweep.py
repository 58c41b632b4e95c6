"""Forgets remote files and sockets that no supervised process has open any more.

Closing an fd never stops, so nothing tells when the last descriptor of a file has gone. Instead, when the tables have
doubled, all descriptors of the tree are looked at once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from ...syscalls.context import Context
from . import look


class Supervised(Protocol):
    """Who is supervised: `Tree`, or notify/tasks.py."""

    @property
    def tracees(self) -> Mapping[int, object]:
        """All threads by tid."""
        ...


class Sweeper:
    """Looks through /proc when it is worth it. Costs nothing otherwise."""

    def __init__(self, tree: Supervised, context: Context) -> None:
        self._tree = tree
        self._context = context

    def sweep_if_due(self) -> None:
        """Called between stops."""
        objects, sockets = self._context.objects, self._context.sockets
        if not (objects.wants_sweep or sockets.wants_sweep):
            return
        keys = self._open_files()
        objects.sweep(keys)
        sockets.sweep({inode for _, inode in keys})

    def _open_files(self) -> set[tuple[int, int]]:
        keys: set[tuple[int, int]] = set()
        # Threads may have descriptor tables of their own (CLONE_FILES left out), so every task counts.
        for tid in list(self._tree.tracees):
            try:
                with os.scandir(f"/proc/{tid}/fd") as entries:
                    for entry in entries:
                        key = look.file_key(os.fsencode(entry.path))
                        if key is not None:
                            keys.add(key)
            except OSError:
                continue  # it has ended
        return keys
