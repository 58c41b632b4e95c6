"""fuse(4): the layouts of the kernel's requests and of our replies, as values. No I/O.

The kernel's header linux/fuse.h, protocol 7.31 or later. Integers have the machine's byte order, which is little endian on
both machines that we run on. A request is a header of 40 bytes and a body that depends on the opcode; a reply a header
of 16 bytes, and on success a body.
"""

from __future__ import annotations

import enum
import os
import struct
from typing import NamedTuple

from ...agent.wire.messages import FileStat

ROOT_ID = 1

MAJOR = 7
LOWEST_MINOR = 31
HIGHEST_MINOR = 41

MAX_WRITE_BYTES = 1024 * 1024
"""The most that one READ or WRITE carries."""

REQUEST_BYTES = MAX_WRITE_BYTES + 4096
"""What a read(2) from the device must offer."""


class Op(enum.IntEnum):
    """Opcodes."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    SETXATTR = 21
    GETXATTR = 22
    LISTXATTR = 23
    REMOVEXATTR = 24
    FLUSH = 25
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    FSYNCDIR = 30
    GETLK = 31
    SETLK = 32
    SETLKW = 33
    ACCESS = 34
    CREATE = 35
    INTERRUPT = 36
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    POLL = 40
    FALLOCATE = 43
    READDIRPLUS = 44
    RENAME2 = 45
    LSEEK = 46
    COPY_FILE_RANGE = 47
    TMPFILE = 51
    STATX = 52


# -- INIT -----------------------------------------------------------------------------------------------------------

ASYNC_READ = 1 << 0
POSIX_LOCKS = 1 << 1
ATOMIC_O_TRUNC = 1 << 3
BIG_WRITES = 1 << 5
FLOCK_LOCKS = 1 << 10
AUTO_INVAL_DATA = 1 << 12
DO_READDIRPLUS = 1 << 13
READDIRPLUS_AUTO = 1 << 14
ASYNC_DIO = 1 << 15
PARALLEL_DIROPS = 1 << 18
MAX_PAGES = 1 << 22
HANDLE_KILLPRIV_V2 = 1 << 28
INIT_EXT = 1 << 30
DIRECT_IO_ALLOW_MMAP = 1 << 36

WANTED = (
    ASYNC_READ | POSIX_LOCKS | ATOMIC_O_TRUNC | BIG_WRITES | FLOCK_LOCKS | AUTO_INVAL_DATA | DO_READDIRPLUS | ASYNC_DIO
    | PARALLEL_DIROPS | MAX_PAGES | HANDLE_KILLPRIV_V2 | INIT_EXT | DIRECT_IO_ALLOW_MMAP
)  # fmt: skip
"""What we ask for where the kernel has it. Not WRITEBACK_CACHE: with it the kernel takes its own idea of a file's size and
times for the truth, so that a log that grows in the pod would not grow here. Writing behind is done by us instead."""

_INIT_IN = struct.Struct("=IIII")
_INIT_OUT = struct.Struct("=IIIIHHIIHHI28x")
_BACKGROUND = 64


class Init(NamedTuple):
    """INIT: the kernel's protocol version and what it can do."""

    major: int
    minor: int
    flags: int


def read_init(body: memoryview) -> Init:
    """The kernel's INIT."""
    major, minor, _, flags = _INIT_IN.unpack_from(body)
    if flags & INIT_EXT and len(body) >= _INIT_IN.size + 4:
        flags |= int.from_bytes(body[16:20], "little") << 32
    return Init(major, minor, flags)


def init_reply(init: Init) -> bytes:
    """Our answer: the lower of the two versions, and those of the wanted flags that the kernel has."""
    flags = WANTED & init.flags
    return _INIT_OUT.pack(
        MAJOR, min(init.minor, HIGHEST_MINOR), MAX_WRITE_BYTES, flags & 0xFFFFFFFF, _BACKGROUND, _BACKGROUND * 3 // 4,
        MAX_WRITE_BYTES, 1, MAX_WRITE_BYTES // 4096, 0, flags >> 32,
    )  # fmt: skip


# -- requests -------------------------------------------------------------------------------------------------------

_IN_HEADER = struct.Struct("=IIQQIIIHH")
IN_HEADER_BYTES = _IN_HEADER.size


class Request(NamedTuple):
    """One request. `node`: the inode it is about; `pid`: the thread that made it, 0 where nobody did."""

    op: int
    unique: int
    node: int
    pid: int
    body: memoryview


def read_request(data: bytes) -> Request:
    """One read(2) of the device."""
    _, op, unique, node, _, _, pid, _, _ = _IN_HEADER.unpack_from(data)
    return Request(op, unique, node, pid, memoryview(data)[IN_HEADER_BYTES:])


class Layout(struct.Struct):
    """The fixed part of a body; names or data follow it."""

    def names(self, body: memoryview) -> list[bytes]:
        """The NUL-terminated strings behind it."""
        return bytes(body[self.size :]).split(b"\0")[:-1]


GETATTR_IN = Layout("=I4xQ")  # flags, fh
SETATTR_IN = Layout("=I4xQQQQQQIIIIIIII")
MKNOD_IN = Layout("=III4x")  # mode, rdev, umask
MKDIR_IN = Layout("=II")  # mode, umask
RENAME_IN = Layout("=Q")  # new directory
RENAME2_IN = Layout("=QI4x")  # new directory, flags
LINK_IN = Layout("=Q")  # node
OPEN_IN = Layout("=II")  # flags, open flags
CREATE_IN = Layout("=IIII")  # flags, mode, umask, open flags
READ_IN = Layout("=QQIIQI4x")  # fh, offset, size, read flags, lock owner, flags
WRITE_IN = Layout("=QQIIQI4x")  # fh, offset, size, write flags, lock owner, flags
RELEASE_IN = Layout("=QIIQ")  # fh, flags, release flags, lock owner
FSYNC_IN = Layout("=QI4x")  # fh, flags
FLUSH_IN = Layout("=Q8xQ")  # fh, lock owner
SETXATTR_IN = Layout("=II")  # size, flags
GETXATTR_IN = Layout("=I4x")  # size
LOCK_IN = Layout("=QQQQIII4x")  # fh, owner, start, end, type, pid, flags
ACCESS_IN = Layout("=I4x")  # mask
INTERRUPT_IN = Layout("=Q")  # unique
FORGET_IN = Layout("=Q")  # count
BATCH_FORGET_IN = Layout("=I4x")  # count of pairs
FORGET_ONE = struct.Struct("=QQ")  # node, count
FALLOCATE_IN = Layout("=QQQI4x")  # fh, offset, length, mode
LSEEK_IN = Layout("=QQI4x")  # fh, offset, whence
COPY_IN = Layout("=QQQQQQQ")  # fh in, offset in, node out, fh out, offset out, length, flags
POLL_IN = Layout("=QQII")  # fh, number for the notification, flags, events
STATX_IN = Layout("=I4xQII")  # getattr flags, fh, sx flags, sx mask
NO_FIELDS = Layout("=")

GETATTR_FH = 1
RELEASE_FLOCK_UNLOCK = 2
WRITE_CACHE = 1
WRITE_KILL_SUIDGID = 4
FSYNC_DATA = 1
LOCK_FLOCK = 1

POLL_SCHEDULE_NOTIFY = 1

FATTR_FH = 64
FATTR_LOCKOWNER = 512
FATTR_KILL_SUIDGID = 2048

FOPEN_DIRECT_IO = 1
FOPEN_KEEP_CACHE = 2
FOPEN_NONSEEKABLE = 4
FOPEN_STREAM = 16

# -- replies --------------------------------------------------------------------------------------------------------

_OUT_HEADER = struct.Struct("=IiQ")
_ATTR = "QQQQQQIIIIIIIIII"
_ENTRY_OUT = struct.Struct("=QQQQII" + _ATTR)
_ATTR_OUT = struct.Struct("=QI4x" + _ATTR)
_STATX_OUT = struct.Struct("=QII16x" + "IIQIIIHHQQQQ" + "qI4x" * 4 + "IIII112x")
_OPEN_OUT = struct.Struct("=QII")
_STATFS_OUT = struct.Struct("=QQQQQIII4x24x")
_LOCK_OUT = struct.Struct("=QQII")
_DIRENT = struct.Struct("=QQII")
WRITE_OUT = struct.Struct("=II")
SIZE_OUT = struct.Struct("=I4x")
OFFSET_OUT = struct.Struct("=Q")
POLL_OUT = struct.Struct("=I4x")

_NEGATIVE_PADDING = bytes(88)
_NOTIFY_POLL = 1
_STATX_BASIC = 0x7FF
_STATX_BTIME = 0x800
_SECOND = 10**9

STREAM_TYPES = frozenset((0o010000, 0o020000, 0o060000))
"""S_IFMT of what is read where it stands: FIFOs and devices. The kernel would open its own instead, so it is told that they
are regular files."""
_REGULAR = 0o100000
_TYPE = 0o170000


def reply(unique: int, body: bytes = b"") -> bytes:
    """Success."""
    return _OUT_HEADER.pack(16 + len(body), 0, unique) + body


def failure(unique: int, errno: int) -> bytes:
    """An errno."""
    return _OUT_HEADER.pack(16, -errno, unique)


def poll_wakeup(number: int) -> bytes:
    """FUSE_NOTIFY_POLL: who polls the open file that the kernel knows by this number is to look again."""
    return _OUT_HEADER.pack(24, _NOTIFY_POLL, 0) + OFFSET_OUT.pack(number)


def _fields(stat: FileStat, is_special: bool = False) -> tuple[int, ...]:
    mode = stat.mode
    if mode & _TYPE in STREAM_TYPES and not is_special:
        mode = mode & ~_TYPE | _REGULAR
    return (
        stat.ino, stat.size, stat.blocks,
        stat.atime_ns // _SECOND & 0xFFFFFFFFFFFFFFFF, stat.mtime_ns // _SECOND & 0xFFFFFFFFFFFFFFFF,
        stat.ctime_ns // _SECOND & 0xFFFFFFFFFFFFFFFF,
        stat.atime_ns % _SECOND, stat.mtime_ns % _SECOND, stat.ctime_ns % _SECOND,
        mode, stat.nlink, stat.uid, stat.gid, _rdev(stat.rdev), stat.blksize, 0,
    )  # fmt: skip


# The kernel's 32-bit encoding (new_encode_dev), not stat(2)'s.
def _rdev(device: int) -> int:
    major, minor = os.major(device), os.minor(device)
    return (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & 0xFFF00) << 12


def entry(node: int, stat: FileStat, entry_s: float, attribute_s: float, is_special: bool = False) -> bytes:
    """fuse_entry_out: a name leads to this inode; both are good for so long.

    `is_special`: FIFOs and devices stay what they are.
    """
    entry_whole, attribute_whole = int(entry_s), int(attribute_s)
    return _ENTRY_OUT.pack(
        node, 0, entry_whole, attribute_whole,
        int((entry_s - entry_whole) * _SECOND), int((attribute_s - attribute_whole) * _SECOND), *_fields(stat, is_special),
    )  # fmt: skip


def no_entry(entry_s: float) -> bytes:
    """fuse_entry_out: there is no such name, for so long."""
    whole = int(entry_s)
    return struct.pack("=QQQQII", 0, 0, whole, 0, int((entry_s - whole) * _SECOND), 0) + _NEGATIVE_PADDING


def attributes(stat: FileStat, attribute_s: float) -> bytes:
    """fuse_attr_out."""
    whole = int(attribute_s)
    return _ATTR_OUT.pack(whole, int((attribute_s - whole) * _SECOND), *_fields(stat))


def statx(stat: FileStat, attribute_s: float) -> bytes:
    """fuse_statx_out."""
    whole = int(attribute_s)
    mask = _STATX_BASIC | (_STATX_BTIME if stat.btime_ns >= 0 else 0)
    mode = _fields(stat)[9]
    instants = (stat.atime_ns, max(stat.btime_ns, 0), stat.ctime_ns, stat.mtime_ns)
    times = [part for instant in instants for part in divmod(instant, _SECOND)]
    return _STATX_OUT.pack(
        whole, int((attribute_s - whole) * _SECOND), 0, mask, stat.blksize, 0, stat.nlink, stat.uid, stat.gid, mode, 0,
        stat.ino, stat.size, stat.blocks, 0, *times, os.major(stat.rdev), os.minor(stat.rdev), 0, 0,
    )  # fmt: skip


def opened(handle: int, flags: int = 0) -> bytes:
    """fuse_open_out; `flags`: FOPEN_*."""
    return _OPEN_OUT.pack(handle, flags, 0)


def file_system(
    blocks: int, free: int, available: int, files: int, files_free: int, block: int, name: int, fragment: int
) -> bytes:
    """fuse_statfs_out."""
    return _STATFS_OUT.pack(blocks, free, available, files, files_free, block, name, fragment)


def lock(start: int, end: int, kind: int, pid: int) -> bytes:
    """fuse_lk_out."""
    return _LOCK_OUT.pack(start, end, kind, pid)


def directory_entry(name: bytes, inode: int, offset: int, kind: int) -> bytes:
    """fuse_dirent; `offset`: where the next one begins."""
    return _DIRENT.pack(inode, offset, len(name), kind) + name + bytes(-len(name) % 8)


def nodes_told(body: bytes) -> list[int]:
    """The inodes to which a reply to READDIRPLUS gives the kernel references."""
    found, at = [], 0
    while at < len(body):
        found.append(int.from_bytes(body[at : at + 8], "little"))
        at += len(NO_ATTRIBUTES)
        _, _, length, _ = _DIRENT.unpack_from(body, at)
        at += _DIRENT.size + (length + 7 & ~7)
    return [node for node in found if node]


NO_ATTRIBUTES = bytes(128)
"""In place of `entry` in READDIRPLUS: nothing is said about the inode."""
