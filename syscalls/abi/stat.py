"""struct stat as stat(2), lstat(2), fstat(2) and newfstatat(2) write it: the kernel's layouts, one for each machine.

glibc's and musl's struct stat are the kernel's on both machines, and Go's and Rust's too. st_dev and st_rdev hold the
kernel's new_encode_dev, which is also what the pod's stat(2) gave, so they pass unchanged.
"""

from __future__ import annotations

import platform
import struct
from dataclasses import dataclass

from ...agent.wire.messages import FileStat

NANOSECONDS = 1_000_000_000


def split_time(time_ns: int) -> tuple[int, int]:
    """struct timespec: whole seconds (rounded down, so that times before 1970 work) and nanoseconds."""
    return divmod(time_ns, NANOSECONDS)


@dataclass(frozen=True)
class Layout:
    """struct stat of one machine."""

    layout: struct.Struct
    nlink_before_mode: bool

    @property
    def size_bytes(self) -> int:
        """sizeof(struct stat)."""
        return self.layout.size

    def pack(self, stat: FileStat) -> bytes:
        """struct stat with these values; pad bytes are zero, as the kernel leaves them."""
        links = (stat.nlink, stat.mode) if self.nlink_before_mode else (stat.mode, stat.nlink)
        return self.layout.pack(
            stat.dev, stat.ino, *links, stat.uid, stat.gid, stat.rdev, stat.size, stat.blksize, stat.blocks,
            *split_time(stat.atime_ns), *split_time(stat.mtime_ns), *split_time(stat.ctime_ns),
        )  # fmt: skip


X86_64 = Layout(struct.Struct("<QQQIII4xQqqq" + "qQ" * 3 + "24x"), nlink_before_mode=True)
"""arch/x86/include/uapi/asm/stat.h: 144 bytes."""

AARCH64 = Layout(struct.Struct("<QQIIIIQ8xqi4xq" + "qQ" * 3 + "8x"), nlink_before_mode=False)
"""include/uapi/asm-generic/stat.h: 128 bytes."""


def layout_for(machine: str) -> Layout:
    """The layout of a machine, named as in uname(2)."""
    return AARCH64 if machine == "aarch64" else X86_64


NATIVE = layout_for(platform.machine())
"""The layout of the machine that we run on."""
