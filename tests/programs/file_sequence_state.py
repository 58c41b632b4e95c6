"""What a sequence of file_sequences.py has at hand, and how what it sees is shown.

Left out of what is compared, since every network file system has its own: device and inode numbers (but that the listing and
stat(2) agree), block counts, access and change times, times that nobody set, process numbers of lock owners.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import file_sequence_calls as calls

Result = Any
_OLD_S = 1_600_000_000
_SHOWN_BYTES = 40


@dataclass
class State:
    """What one sequence has: where it is, and its open files by slot.

    `top` is its directory, in `root`, which is everybody's, and belongs to `owner`.
    """

    root: bytes
    top: bytes
    owner: tuple[int, int]
    open: dict[int, int] = field(default_factory=dict)
    has_mapped: bool = False
    is_deep: bool = False

    def path(self, text: str) -> bytes:
        """A path from its text: latin-1, and a leading @ stands for the absolute path of the top."""
        path = text.encode("latin-1")
        return self.top + path[1:] if path.startswith(b"@") else path

    def fd(self, slot: int | None) -> int:
        """The open file in a slot; None is the working directory. EBADF for an empty slot."""
        if slot is None:
            return calls.AT_FDCWD
        return self.open.get(slot, -1)

    def directory(self, slot: int | None) -> int | None:
        """The same for os."""
        return None if slot is None else self.fd(slot)

    def keep(self, slot: int, fd: int) -> str:
        """Put an open file into a slot, and close what was there."""
        old = self.open.get(slot)
        self.open[slot] = fd
        if old is not None:
            os.close(old)
        return "open"

    def shown(self, path: bytes) -> str:
        """Text of a path, without where the sequences are on this machine."""
        return path.replace(self.top, b"@").replace(self.root, b"@@").decode("latin-1")


def attributes(state: State, found: os.stat_result) -> list[Result]:
    """What has to agree; the time only if it was set to one of long ago."""
    owner = [found.st_uid == state.owner[0], found.st_gid == state.owner[1]]
    modified = found.st_mtime_ns if found.st_mtime < _OLD_S else "now"
    return [oct(found.st_mode), found.st_nlink, found.st_size, *owner, modified]


def shown(content: bytes) -> Result:
    """Data, shortened."""
    if len(content) <= _SHOWN_BYTES:
        return content.decode("latin-1")
    return [len(content), hashlib.sha256(content).hexdigest()[:12], content[:8].decode("latin-1")]


def pattern(seed: int, size: int) -> bytes:
    """`size` bytes that are no others' bytes."""
    row = bytes((seed * 37 + index) % 251 + 1 for index in range(251))
    return (row * (size // 251 + 1))[:size]


def operations(module: dict[str, Any], *others: str) -> dict[str, Callable[..., Result]]:
    """The functions of a module whose names begin with _, by their names without; `others` are none."""
    return {
        name[1:]: value
        for name, value in module.items()
        if name.startswith("_") and not name.startswith("__") and callable(value) and name not in others
    }
