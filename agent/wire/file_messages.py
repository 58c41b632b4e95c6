"""The control messages of a mounted pod tree: what a file system in the client's kernel asks of the pod's files.

Paths are absolute pod paths. The client's kernel walks symbolic links by itself, so the names on the way to the last one
are directories as the client knows them; a link that has since appeared in their place is followed inside the pod's root.
The last name is never followed, except where `follow` says so.

A *handle* is an open file of the agent, numbered by the client (1 to 2^63-1, not in use), so that it may be used before
the reply to its `OpenHandle` has come. Requests on one handle are carried out in the order in which they were sent. A
request that takes a path and a handle means the handle's file if the handle is not 0.

Attributes in bulk are packed: see `stats.py`. Flags and modes have the numbers of x86-64 Linux.
"""

from __future__ import annotations

from dataclasses import dataclass

from .lock_messages import NO_LOCK, READ_LOCK, WRITE_LOCK, GetLock, GiveUpWait, LockFile, LockState, PollHandle
from .values import Message, message
from .watch_messages import PathEvent, UnwatchPath, WatchPath

__all__ = [
    "SET_MODE", "SET_UID", "SET_GID", "SET_SIZE", "SET_ATIME", "SET_MTIME", "SET_ATIME_NOW", "SET_MTIME_NOW",
    "NO_LOCK", "READ_LOCK", "WRITE_LOCK", "Walk", "Walked", "ReadDirectory", "Entries", "OpenHandle", "CloseHandle",
    "ReadHandle", "Content", "WriteHandle", "SyncHandle", "AllocateHandle", "SeekHandle", "Number", "CopyRange",
    "StatHandle", "SetAttributes", "MakeNode", "MakeLink", "LinkFile", "RemoveName", "RenameFile", "GetXattr",
    "ListXattr", "SetXattr", "RemoveXattr", "StatFs", "FileSystem", "GetLock", "GiveUpWait", "LockFile", "LockState",
    "PollHandle", "PathEvent", "UnwatchPath", "WatchPath",
]  # fmt: skip

# -- the way to a file ----------------------------------------------------------------------------------------------


@message(80)
@dataclass(frozen=True)
class Walk(Message):
    """path_resolution(7): everything on the way to `path`, in one round trip. Reply: `Walked`, also where it fails.

    `follow`: a symbolic link at the end as well. If the end is a regular file of at most `content_limit` bytes that may be
    read, its content comes along (0: never).
    """

    path: bytes
    follow: bool
    content_limit: int


@message(81)
@dataclass(frozen=True)
class Walked(Message):
    """Reply to `Walk`. `paths`: each object met, "/" first, with its real path; `stats` their attributes, packed, in order.

    `targets`: as many as paths; the target of a symbolic link, b"" for anything else. `errno`: 0, or why the walk ended
    early; for ENOENT `missing` is the real path that does not exist. `has_content`: `content` is all of the file.
    """

    paths: tuple[bytes, ...]
    stats: bytes
    targets: tuple[bytes, ...]
    errno: int
    missing: bytes
    has_content: bool
    content: bytes


@message(82)
@dataclass(frozen=True)
class ReadDirectory(Message):
    """getdents64(2) of all of `path`, with the attributes of up to `stat_limit` entries. Reply: `Entries`.

    E2BIG if there are more than `entry_limit` (0: no limit): for who asks on a guess.
    """

    path: bytes
    stat_limit: int
    entry_limit: int = 0


@message(83)
@dataclass(frozen=True)
class Entries(Message):
    """Reply to `ReadDirectory`, without "." and "..", in the file system's order.

    `names` with a NUL between two; `types` a byte each (DT_*); `inodes` 8 bytes each, little endian; `stats`: packed
    attributes (lstat) of the first entries, a mode of 0 where an entry has just gone; `targets`: of those of them that are
    symbolic links, in order, with a NUL between two; `own`: packed attributes of the directory itself, then of its parent.
    `bare`: a byte for each of `stats`, 1 if the entry is known to have no extended attributes.
    """

    names: bytes
    types: bytes
    inodes: bytes
    stats: bytes
    targets: bytes
    own: bytes
    bare: bytes


# -- open files -----------------------------------------------------------------------------------------------------


@message(84)
@dataclass(frozen=True)
class OpenHandle(Message):
    """open(2) of `path` as `handle`, without following a link at its end. Reply: `Attributes`; `Failed`: there is no handle.

    `flags`: access mode, O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DSYNC, O_SYNC, O_NONBLOCK, O_NOATIME, O_DIRECTORY,
    O_TMPFILE, O_PATH. `source`: a handle whose file is to be opened once more instead of a path (0: none). A FIFO is waited
    for unless O_NONBLOCK is set; `GiveUpWait` ends that.
    """

    handle: int
    path: bytes
    flags: int
    mode: int
    source: int


@message(85)
@dataclass(frozen=True)
class CloseHandle(Message):
    """Notice: close(2), after everything sent before. Locks of `flock` go with it. Unknown handles are ignored."""

    handle: int


@message(86)
@dataclass(frozen=True)
class ReadHandle(Message):
    """pread(2); at most `size` bytes, fewer only at the end of the file. Reply: `Content`.

    A FIFO, socket or device is read where it stands, waits for what comes, and gives what is there.
    """

    handle: int
    offset: int
    size: int


@message(87)
@dataclass(frozen=True)
class Content(Message):
    """Reply to `ReadHandle`, `GetXattr`, `ListXattr`."""

    content: bytes


@message(88)
@dataclass(frozen=True)
class WriteHandle(Message):
    """pwrite(2) of everything; at the end of the file if the handle has O_APPEND. Reply: `Done`."""

    handle: int
    offset: int
    content: bytes


@message(89)
@dataclass(frozen=True)
class SyncHandle(Message):
    """fsync(2), fdatasync(2) if `data_only`. Reply: `Done`."""

    handle: int
    data_only: bool


@message(90)
@dataclass(frozen=True)
class AllocateHandle(Message):
    """fallocate(2). Reply: `Done`."""

    handle: int
    mode: int
    offset: int
    length: int


@message(91)
@dataclass(frozen=True)
class SeekHandle(Message):
    """lseek(2) with SEEK_DATA (3) or SEEK_HOLE (4). Reply: `Number`."""

    handle: int
    offset: int
    whence: int


@message(92)
@dataclass(frozen=True)
class Number(Message):
    """Reply to `SeekHandle` (a position) and `CopyRange` (a count of bytes)."""

    number: int


@message(93)
@dataclass(frozen=True)
class CopyRange(Message):
    """copy_file_range(2) between two handles. Reply: `Number`."""

    source: int
    source_offset: int
    handle: int
    offset: int
    length: int


@message(94)
@dataclass(frozen=True)
class StatHandle(Message):
    """fstat(2). Reply: `Attributes`."""

    handle: int


SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME = 1, 2, 4, 8, 16, 32
SET_ATIME_NOW, SET_MTIME_NOW = 128, 256
"""Bits of `SetAttributes.what`. The NOW bits come together with those of their time."""


@message(95)
@dataclass(frozen=True)
class SetAttributes(Message):
    """chmod(2), lchown(2), truncate(2), utimensat(2), in this order: owner, size, mode, times. Reply: `Attributes` afterwards.

    `what`: which of the values count.
    """

    path: bytes
    handle: int
    what: int
    mode: int
    uid: int
    gid: int
    size: int
    atime_ns: int
    mtime_ns: int


# -- names ----------------------------------------------------------------------------------------------------------


@message(96)
@dataclass(frozen=True)
class MakeNode(Message):
    """mknod(2), or mkdir(2) if `mode` says S_IFDIR. The umask has been applied. Reply: `Attributes`."""

    path: bytes
    mode: int
    rdev: int


@message(97)
@dataclass(frozen=True)
class MakeLink(Message):
    """symlink(2): `path` will lead to `target`. Reply: `Attributes`."""

    path: bytes
    target: bytes


@message(98)
@dataclass(frozen=True)
class LinkFile(Message):
    """linkat(2): `new_path` becomes another name of `path` or of the handle's file (O_TMPFILE). Reply: `Attributes`."""

    path: bytes
    handle: int
    new_path: bytes


@message(99)
@dataclass(frozen=True)
class RemoveName(Message):
    """unlink(2), or rmdir(2) if `directory`. Reply: `Done`."""

    path: bytes
    directory: bool


@message(100)
@dataclass(frozen=True)
class RenameFile(Message):
    """renameat2(2); `flags`: RENAME_NOREPLACE (1), RENAME_EXCHANGE (2), RENAME_WHITEOUT (4). Reply: `Done`."""

    path: bytes
    new_path: bytes
    flags: int


# -- the rest -------------------------------------------------------------------------------------------------------


@message(101)
@dataclass(frozen=True)
class GetXattr(Message):
    """lgetxattr(2), the whole value. Reply: `Content`."""

    path: bytes
    handle: int
    name: bytes


@message(102)
@dataclass(frozen=True)
class ListXattr(Message):
    """llistxattr(2), each name with a NUL behind it. Reply: `Content`."""

    path: bytes
    handle: int


@message(103)
@dataclass(frozen=True)
class SetXattr(Message):
    """lsetxattr(2); `flags`: XATTR_CREATE (1), XATTR_REPLACE (2). Reply: `Done`."""

    path: bytes
    handle: int
    name: bytes
    value: bytes
    flags: int


@message(104)
@dataclass(frozen=True)
class RemoveXattr(Message):
    """lremovexattr(2). Reply: `Done`."""

    path: bytes
    handle: int
    name: bytes


@message(105)
@dataclass(frozen=True)
class StatFs(Message):
    """statfs(2). Reply: `FileSystem`."""

    path: bytes


@message(106)
@dataclass(frozen=True)
class FileSystem(Message):
    """Reply to `StatFs`: the fields of struct statfs that mean something far away."""

    blocks: int
    blocks_free: int
    blocks_available: int
    files: int
    files_free: int
    block_size: int
    name_length: int
    fragment_size: int
