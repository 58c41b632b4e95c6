"""What a file has besides its content: owner, mode, times, size, extended attributes; and its file system's numbers.

All of these take an open file, O_PATH or not, and reach it through /proc/self/fd/N. So they work alike for handles and
paths, and on a symbolic link itself: the kernel follows the entry in /proc to the link and no further.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Tuple

from .. import kernel
from ..wire.file_messages import (
    SET_ATIME,
    SET_ATIME_NOW,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_MTIME_NOW,
    SET_SIZE,
    SET_UID,
    Content,
    FileSystem,
    GetXattr,
    ListXattr,
    RemoveXattr,
    SetAttributes,
    SetXattr,
)
from ..wire.messages import Attributes, Done
from . import calls
from .paths import failure, through

_UNCHANGED = -1


def set_attributes(fd: int, request: SetAttributes, is_writable: bool = False) -> Attributes:
    """lchown(2), truncate(2), chmod(2), utimensat(2), as far as `what` asks for them, in this order.

    Owner before mode: a change of owner takes set-user-ID bits away. Size before times: it would change them. `is_writable`:
    the file is open for writing, so ftruncate(2) does not ask for permission once more.
    """
    what, path = request.what, through(fd)
    if what & (SET_UID | SET_GID):
        uid = request.uid if what & SET_UID else _UNCHANGED
        gid = request.gid if what & SET_GID else _UNCHANGED
        os.chown(path, uid, gid)
    if what & SET_SIZE:
        os.truncate(fd if is_writable else path, request.size)
    if what & SET_MODE:
        if stat.S_ISLNK(os.fstat(fd).st_mode):
            raise failure(errno.EOPNOTSUPP)  # as Linux says since 6.6; before, some file systems did it
        os.chmod(path, stat.S_IMODE(request.mode))
    if what & (SET_ATIME | SET_MTIME):
        atime = _time(what & SET_ATIME, what & SET_ATIME_NOW, request.atime_ns)
        calls.set_times(path, atime, _time(what & SET_MTIME, what & SET_MTIME_NOW, request.mtime_ns))
    return Attributes(kernel.file_stat(fd))


def _time(is_set: int, is_now: int, time_ns: int) -> Tuple[int, int]:
    if not is_set:
        return 0, calls.UTIME_OMIT
    if is_now:
        return 0, calls.UTIME_NOW
    return divmod(time_ns, 1000000000)


def get_xattr(fd: int, request: GetXattr) -> Content:
    """lgetxattr(2)."""
    return Content(os.getxattr(through(fd), request.name))


def list_xattr(fd: int, request: ListXattr) -> Content:
    """llistxattr(2)."""
    return Content(b"".join(os.fsencode(name) + b"\0" for name in os.listxattr(through(fd))))


def set_xattr(fd: int, request: SetXattr) -> Done:
    """lsetxattr(2)."""
    os.setxattr(through(fd), request.name, request.value, request.flags)
    return Done()


def remove_xattr(fd: int, request: RemoveXattr) -> Done:
    """lremovexattr(2)."""
    os.removexattr(through(fd), request.name)
    return Done()


def stat_fs(fd: int) -> FileSystem:
    """statfs(2)."""
    found = os.fstatvfs(fd)
    return FileSystem(
        blocks=found.f_blocks,
        blocks_free=found.f_bfree,
        blocks_available=found.f_bavail,
        files=found.f_files,
        files_free=found.f_ffree,
        block_size=found.f_bsize,
        name_length=found.f_namemax,
        fragment_size=found.f_frsize,
    )
