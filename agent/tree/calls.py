"""System calls for the tree that neither Python 3.9 nor `kernel.py` has, made for many calls in a row.

Attributes go from the kernel's struct statx straight into the packed form of `wire/stats.py`: in a directory of ten
thousand files an object for each would cost more than all system calls. Each thread has its buffers. Those calls go through
syscall(2), since the C library may be older than the kernel; every function raises OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
import threading
from typing import Iterator, List, NamedTuple, Optional, Sequence, Tuple

from ..wire.stats import GONE, STAT_BYTES

AT_FDCWD = -100
UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

IN_CHANGES = 0xFCE
"""IN_MODIFY, IN_ATTRIB, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF."""
IN_Q_OVERFLOW = 0x4000
IN_IGNORED = 0x8000

_AT_SYMLINK_NOFOLLOW = 0x100
_AT_NO_AUTOMOUNT = 0x800
_AT_EMPTY_PATH = 0x1000
_STATX_BASIC_AND_BTIME = 0xFFF
_STATX_BTIME = 0x800


class _Numbers(NamedTuple):
    statx: int
    getdents64: int
    setfsuid: int
    setfsgid: int
    setgroups: int
    capget: int
    capset: int
    renameat2: int
    copy_file_range: int
    fallocate: int


_X86_64 = _Numbers(332, 217, 122, 123, 116, 125, 126, 316, 326, 285)
_GENERIC = _Numbers(291, 61, 151, 152, 159, 90, 91, 276, 285, 47)
_NUMBERS = _X86_64 if platform.machine() == "x86_64" else _GENERIC

# See `kernel.py`: mask, blksize, attributes, nlink, uid, gid, mode, ino, size, blocks, attributes_mask; atime, btime, ctime,
# mtime as (seconds, nanoseconds); rdev and dev as (major, minor).
_STATX = struct.Struct("=IIQIIIH2xQQQQ qI4x qI4x qI4x qI4x IIII")
_STATX_BYTES = 256
_PACKED = struct.Struct("<QQIIIIQQIQqqqq")
assert _PACKED.size == STAT_BYTES
_PACKED_MODE_AT = 16
_LATEST_NS = 2**63 - 1

_DIRENT = struct.Struct("=QqHB")
_DIRENTS_BYTES = 256 * 1024

_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)
_long, _int, _pointer, _string = ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p
_LongCall = ctypes.CFUNCTYPE(_long, _long, _long, _long, _long, _long, _long, _long, use_errno=True)
_PathCall = ctypes.CFUNCTYPE(_long, _long, _long, _string, _long, _string, _long, use_errno=True)
_StatxCall = ctypes.CFUNCTYPE(_long, _long, _int, _string, _int, ctypes.c_uint, _pointer, use_errno=True)
_syscall_longs = _LongCall(("syscall", _libc))
_syscall_paths = _PathCall(("syscall", _libc))
_syscall_statx = _StatxCall(("syscall", _libc))
_libc.utimensat.argtypes = (_int, _string, _string, _int)
_libc.inotify_add_watch.argtypes = (_int, _string, ctypes.c_uint32)
_libc.inotify_rm_watch.argtypes = (_int, _int)


class _Buffers(threading.local):
    def __init__(self) -> None:
        self.statx = ctypes.create_string_buffer(_STATX_BYTES)
        self.statx_at = ctypes.addressof(self.statx)
        self.entries: Optional[ctypes.Array[ctypes.c_char]] = None


_buffers = _Buffers()


def _failure() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


def _call(number: int, *arguments: int) -> int:
    padding = (0,) * (6 - len(arguments))
    result: int = _syscall_longs(number, *arguments, *padding)
    if result < 0:
        raise _failure()
    return result


# -- attributes -----------------------------------------------------------------------------------------------------


def packed_stat(directory: int, name: bytes = b"") -> bytes:
    """statx(2), never following: of `name` in an open directory, or of the open file itself. Packed as in `wire/stats.py`."""
    buffers = _buffers
    flags = _AT_SYMLINK_NOFOLLOW | _AT_NO_AUTOMOUNT | (0 if name else _AT_EMPTY_PATH)
    if _syscall_statx(_NUMBERS.statx, directory, name, flags, _STATX_BASIC_AND_BTIME, buffers.statx_at) < 0:
        error = _failure()
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise error
        return _without_statx(directory, name)
    return _repacked(_STATX.unpack_from(buffers.statx))


def packed_stats(directory: int, names: Sequence[bytes]) -> List[bytes]:
    """`packed_stat` of many names; GONE for those that cannot be had."""
    packed = []
    for name in names:
        try:
            packed.append(packed_stat(directory, name))
        except OSError:
            packed.append(GONE)
    return packed


def packed_mode(packed: bytes) -> int:
    """The mode in packed attributes."""
    return int.from_bytes(packed[_PACKED_MODE_AT : _PACKED_MODE_AT + 4], "little")


def packed_size(packed: bytes) -> int:
    """The size in packed attributes."""
    size: int = _PACKED.unpack(packed)[7]
    return size


def _repacked(fields: Tuple[int, ...]) -> bytes:
    (mask, blksize, _, nlink, uid, gid, mode, ino, size, blocks, _, atime, atime_ns, btime, btime_ns, ctime, ctime_ns,
     mtime, mtime_ns, rdev_major, rdev_minor, dev_major, dev_minor) = fields  # fmt: skip
    times = (
        atime * 1000000000 + atime_ns,
        mtime * 1000000000 + mtime_ns,
        ctime * 1000000000 + ctime_ns,
        btime * 1000000000 + btime_ns if mask & _STATX_BTIME else -1,
    )
    dev = os.makedev(dev_major, dev_minor)
    rdev = os.makedev(rdev_major, rdev_minor) if rdev_major or rdev_minor else 0
    try:
        return _PACKED.pack(dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, *times)
    except struct.error:  # some file systems keep years that 64 bits of nanoseconds cannot
        times_in_range = [max(-_LATEST_NS, min(time, _LATEST_NS)) for time in times]
        return _PACKED.pack(dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, *times_in_range)


# Old kernels, and containers' seccomp profiles that do not know statx.
def _without_statx(directory: int, name: bytes) -> bytes:
    found = os.stat(name, dir_fd=directory, follow_symlinks=False) if name else os.fstat(directory)
    return _PACKED.pack(
        found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_rdev, found.st_size,
        found.st_blksize, found.st_blocks, found.st_atime_ns, found.st_mtime_ns, found.st_ctime_ns, -1,
    )  # fmt: skip


def set_times(path: bytes, atime: Tuple[int, int], mtime: Tuple[int, int]) -> None:
    """utimensat(2), following `path`; times as (seconds, nanoseconds or UTIME_NOW or UTIME_OMIT)."""
    if _libc.utimensat(AT_FDCWD, path, struct.pack("=qqqq", *atime, *mtime), 0) < 0:
        raise _failure()


# -- directories ----------------------------------------------------------------------------------------------------


def directory_blocks(fd: int) -> Iterator[bytes]:
    """getdents64(2) to the end: blocks of whole entries as the kernel makes them."""
    buffer = _buffers.entries
    if buffer is None:
        buffer = _buffers.entries = ctypes.create_string_buffer(_DIRENTS_BYTES)
    address = ctypes.addressof(buffer)
    while True:
        size = _call(_NUMBERS.getdents64, fd, address, _DIRENTS_BYTES)
        if size == 0:
            return
        yield ctypes.string_at(address, size)


def split_entries(block: bytes, names: List[bytes], types: bytearray, inodes: List[int]) -> None:
    """The entries of one block, less "." and "..", appended to three parallel lists."""
    offset, size = 0, len(block)
    unpack, header_bytes, find = _DIRENT.unpack_from, _DIRENT.size, block.index
    while offset < size:
        inode, _, length, kind = unpack(block, offset)
        start = offset + header_bytes
        name = block[start : find(b"\0", start)]
        offset += length
        if name not in (b".", b".."):
            names.append(name)
            types.append(kind)
            inodes.append(inode)


# -- names and content ------------------------------------------------------------------------------------------------


def renameat2(old_directory: int, old_name: bytes, new_directory: int, new_name: bytes, flags: int) -> None:
    """renameat2(2)."""
    if _syscall_paths(_NUMBERS.renameat2, old_directory, old_name, new_directory, new_name, flags) < 0:
        raise _failure()


def copy_file_range(source: int, source_offset: int, target: int, offset: int, length: int) -> int:
    """copy_file_range(2) with both offsets given: how much was copied."""
    at, to = ctypes.c_int64(source_offset), ctypes.c_int64(offset)
    return _call(_NUMBERS.copy_file_range, source, ctypes.addressof(at), target, ctypes.addressof(to), length, 0)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    _call(_NUMBERS.fallocate, fd, mode, offset, length)


# -- inotify ----------------------------------------------------------------------------------------------------------


def inotify_init() -> int:
    """inotify_init1(2), close-on-exec and non-blocking."""
    fd: int = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if fd < 0:
        raise _failure()
    return fd


def inotify_add_watch(fd: int, path: bytes, mask: int) -> int:
    """inotify_add_watch(2): the watch descriptor."""
    descriptor: int = _libc.inotify_add_watch(fd, path, mask)
    if descriptor < 0:
        raise _failure()
    return descriptor


def inotify_rm_watch(fd: int, descriptor: int) -> None:
    """inotify_rm_watch(2)."""
    if _libc.inotify_rm_watch(fd, descriptor) < 0:
        raise _failure()


# -- the calling thread's rights ----------------------------------------------------------------------------------------


def set_thread_fs_ids(uid: int, gid: int) -> None:
    """setfsuid(2), setfsgid(2) of this thread alone. Neither tells whether it worked."""
    _call(_NUMBERS.setfsgid, gid)
    _call(_NUMBERS.setfsuid, uid)


def set_thread_groups(groups: Sequence[int]) -> None:
    """setgroups(2) of this thread alone: the C library's would change all of them."""
    array = (ctypes.c_uint32 * max(len(groups), 1))(*groups)
    _call(_NUMBERS.setgroups, len(groups), ctypes.addressof(array))


def thread_capabilities() -> Tuple[int, int, int]:
    """capget(2) of this thread: effective, permitted, inheritable."""
    header, sets = _capability_buffers()
    _call(_NUMBERS.capget, ctypes.addressof(header), ctypes.addressof(sets))
    low, high = sets[:3], sets[3:]
    effective, permitted, inheritable = (low[index] | high[index] << 32 for index in range(3))
    return effective, permitted, inheritable


def set_thread_capabilities(effective: int, permitted: int, inheritable: int) -> None:
    """capset(2) of this thread."""
    header, sets = _capability_buffers()
    for index, capabilities in enumerate((effective, permitted, inheritable)):
        sets[index], sets[index + 3] = capabilities & 0xFFFFFFFF, capabilities >> 32
    _call(_NUMBERS.capset, ctypes.addressof(header), ctypes.addressof(sets))


def _capability_buffers() -> Tuple[ctypes.Array[ctypes.c_uint32], ctypes.Array[ctypes.c_uint32]]:
    return (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
