"""Remote objects behind local fds: what a file descriptor that we gave to a tracee stands for.

An object is found by (st_dev, st_ino) of the open file, not by (process, fd): dup(2), fork(2), execve(2) and
SCM_RIGHTS then need no book-keeping at all, because the kernel carries the inode along.

This holds only while the inode number cannot be used again for another file. The numbers of memfds never are (the
kernel counts them up, 64 bit). A stand-in on a disk is an unlinked file whose number the file system gives away as
soon as the last descriptor is closed, so such an object holds a descriptor of its own (`pin`) for as long as it is
registered here. Pins cost descriptors and disk space; `wants_sweep` asks earlier when there are many.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Container
from dataclasses import dataclass, field
from functools import cache

from ..agent.wire.messages import FileStat

Key = tuple[int, int]
"""(st_dev, st_ino) of an open file."""

SWEEP_AT = 1024
"""The first sweep is wanted at this many objects; afterwards at twice what the last sweep left."""

SWEEP_AT_PINS = 64
"""The same for objects that hold a descriptor of ours."""


@dataclass(frozen=True)
class RemoteFile:
    """A pod file that is not a directory: also what an O_PATH descriptor of a symbolic link or a device stands for.

    `name` is the absolute path by which the tracee opened it, `path` the pod path (they differ only by
    feature.fs.mapping). `stat` is as of the open.
    """

    name: bytes
    path: bytes
    stat: FileStat


@dataclass(frozen=True)
class RemoteDirectory:
    """A pod directory. `records` are its linux_dirent64 records.

    `offsets` are where each record begins, and at last where the records end: the positions that lseek(2) may name.
    """

    name: bytes
    path: bytes
    stat: FileStat
    records: bytes = b""
    offsets: tuple[int, ...] = (0,)

    def window(self, position: int, size_bytes: int) -> tuple[int, int]:
        """getdents64(2): begin and end of the whole records from `position` on that fit into `size_bytes`.

        A position inside a record means the next one. Begin and end are equal if there are none or the first does
        not fit; `records` ends at the last offset, so the caller can tell which.
        """
        index = bisect_left(self.offsets, position)
        if index == len(self.offsets):
            return self.offsets[-1], self.offsets[-1]
        start = self.offsets[index]
        return start, self.offsets[bisect_right(self.offsets, start + size_bytes) - 1]


RemoteObject = RemoteFile | RemoteDirectory


@cache
def _memfd_device() -> int:
    # st_dev of every memfd of this kernel: its internal tmpfs mount.
    fd = os.memfd_create("mirrord-trace")
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def pin_for(fd: int) -> int:
    """A duplicate of `fd` that keeps its inode number from being used again, or -1 if that cannot happen (memfds)."""
    return -1 if os.fstat(fd).st_dev == _memfd_device() else os.dup(fd)


@dataclass
class Objects:
    """The remote objects of a session. False while there are none, so that the hot path can skip every look-up."""

    _objects: dict[Key, RemoteObject] = field(default_factory=dict)
    _pins: dict[Key, int] = field(default_factory=dict)
    _sweep_at: int = SWEEP_AT
    _sweep_at_pins: int = SWEEP_AT_PINS

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: Key | None) -> RemoteObject | None:
        """The object behind the open file known by `key` (None: no such fd)."""
        return self._objects.get(key) if key is not None else None

    def add(self, key: Key, remote: RemoteObject, pin: int = -1) -> None:
        """Register what the open file known by `key` stands for. `pin` is owned from here on (see `pin_for`)."""
        self._unpin(key)
        self._objects[key] = remote
        if pin >= 0:
            self._pins[key] = pin

    @property
    def wants_sweep(self) -> bool:
        """Whether so much has been added since the last sweep that the dead ought to be looked for."""
        return len(self._objects) >= self._sweep_at or len(self._pins) >= self._sweep_at_pins

    def sweep(self, live_keys: Container[Key]) -> int:
        """Forget all objects that no process has open any more; return how many.

        The next sweep is wanted at twice what is left, so that sweeping costs each open a constant share. A descriptor
        that is just then on its way in a socket (SCM_RIGHTS) and open nowhere else counts as dead.
        """
        dead = [key for key in self._objects if key not in live_keys]
        for key in dead:
            del self._objects[key]
            self._unpin(key)
        self._sweep_at = max(SWEEP_AT, 2 * len(self._objects))
        self._sweep_at_pins = max(SWEEP_AT_PINS, 2 * len(self._pins))
        return len(dead)

    def close(self) -> None:
        """Forget everything: the session is over."""
        self.sweep(frozenset())

    def _unpin(self, key: Key) -> None:
        pin = self._pins.pop(key, -1)
        if pin >= 0:
            os.close(pin)
