"""struct statx and the mask and flags of statx(2): the same on every machine (include/uapi/linux/stat.h)."""

from __future__ import annotations

import os
import struct

from ...agent.wire.messages import FileStat
from .flags import AT_EMPTY_PATH, AT_NO_AUTOMOUNT, AT_STATX_SYNC_TYPE, AT_SYMLINK_NOFOLLOW
from .stat import split_time

BASIC_STATS = 0x7FF
BTIME = 0x800
RESERVED = 0x8000_0000
VALID_FLAGS = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH | AT_STATX_SYNC_TYPE

SIZE_BYTES = 256

_HEAD = struct.Struct("<IIQIIIH2xQQQQ")
_TIME = struct.Struct("<qI4x")
_DEVICES = struct.Struct("<IIII")


def pack(stat: FileStat) -> bytes:
    """struct statx: the basic fields, and the birth time if the pod has one; stx_mask says so.

    Like the kernel we fill in what we have, whatever the caller's mask. stx_mnt_id stays out of the mask: a mount of
    the pod is none of the tracee's. stx_attributes stays empty, and stx_attributes_mask says that it means nothing.
    """
    born = stat.btime_ns >= 0
    head = _HEAD.pack(
        BASIC_STATS | (BTIME if born else 0), stat.blksize, 0, stat.nlink, stat.uid, stat.gid, stat.mode,
        stat.ino, stat.size, stat.blocks, 0,
    )  # fmt: skip
    times = (stat.atime_ns, stat.btime_ns if born else 0, stat.ctime_ns, stat.mtime_ns)
    packed_times = b"".join(_TIME.pack(*split_time(time_ns)) for time_ns in times)
    devices = _DEVICES.pack(os.major(stat.rdev), os.minor(stat.rdev), os.major(stat.dev), os.minor(stat.dev))
    return (head + packed_times + devices).ljust(SIZE_BYTES, b"\0")


def arguments_valid(flags: int, mask: int) -> bool:
    """What statx(2) checks before it looks at the file; False is EINVAL."""
    both_sync_types = flags & AT_STATX_SYNC_TYPE == AT_STATX_SYNC_TYPE
    return not (flags & ~VALID_FLAGS or mask & RESERVED or both_sync_types)
