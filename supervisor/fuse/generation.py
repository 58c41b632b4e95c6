"""A counter in memory shared by relay (writes) and tracer (reads): has anything in the mounted tree changed?

The tracer keeps attributes to answer stat(2) from (syscalls/mount.py), but does not see write(2), ftruncate(2) and the other
calls that the kernel takes to the relay by itself. The relay counts before it lets such a call end, so a program that
has changed something never finds older attributes afterwards.
"""

from __future__ import annotations

import mmap


class Generation:
    """The counter. Made before the fork. One writer, and eight aligned bytes, which are read and written as a whole."""

    def __init__(self) -> None:
        self._memory = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")

    def advance(self) -> None:
        """Relay: something has changed."""
        self._memory[0] += 1

    @property
    def now(self) -> int:
        """The count."""
        return self._memory[0]
