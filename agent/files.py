"""The pod's files, read for the client: one function a request.

All of these may block on a slow disk, so they run on worker threads; none touches the session. A failure is an OSError
with the errno that the program would have seen in the pod.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple, Optional, Union

from . import kernel
from .root import Root
from .wire.messages import (
    Access,
    Attributes,
    Done,
    FileStat,
    LinkTarget,
    Opened,
    OpenedDirectory,
    OpenFile,
    ReadLink,
    Stat,
)

# `OpenFile.flags` has the numbers of x86-64, which `os` only has on such a machine.
_WIRE_O_DIRECTORY = 0o200000
_WIRE_O_NOFOLLOW = 0o400000
_WIRE_O_PATH = 0o10000000

_READ_BYTES = 1024 * 1024


class OpenResult(NamedTuple):
    """What `open_file` gives: the reply, and the open file whose content has to follow on the stream, if it does."""

    reply: Union[Opened, OpenedDirectory]
    fd: Optional[int]


def stat_file(root: Root, request: Stat) -> Attributes:
    """stat(2), lstat(2)."""
    fd = root.open_path(request.path, follow=request.follow)
    try:
        return Attributes(kernel.file_stat(fd))
    finally:
        os.close(fd)


def access(root: Root, request: Access) -> Done:
    """faccessat2(2), with the rights of the calling thread: what `OpenFile` can read is readable."""
    fd = root.open_path(request.path, follow=request.follow)
    try:
        kernel.access(_through(fd), request.mode)
    finally:
        os.close(fd)
    return Done()


def read_link(root: Root, request: ReadLink) -> LinkTarget:
    """readlink(2)."""
    fd = root.open_path(request.path, follow=False)
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return LinkTarget(os.readlink(b"", dir_fd=fd))
    finally:
        os.close(fd)


def open_file(root: Root, request: OpenFile) -> OpenResult:
    """open(2) for reading. A FIFO, socket or device is EOPNOTSUPP: reading it would be felt in the pod.

    The kind of file is looked at through an O_PATH descriptor, and the same one is then opened: there is no moment in
    which a regular file could be exchanged for a device.
    """
    flags = request.flags
    follow, directory = not flags & _WIRE_O_NOFOLLOW, bool(flags & _WIRE_O_DIRECTORY)
    fd = root.open_path(request.path, follow=follow, directory=directory)
    try:
        found = kernel.file_stat(fd)
        if flags & _WIRE_O_PATH:
            if stat.S_ISDIR(found.mode):
                return OpenResult(OpenedDirectory(found, (), (), ()), None)
            return OpenResult(Opened(found, b"", False), None)
        if stat.S_ISDIR(found.mode):
            return OpenResult(_directory(fd, found), None)
        if stat.S_ISLNK(found.mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if not stat.S_ISREG(found.mode):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return _regular(fd, found, request.inline_limit)
    finally:
        os.close(fd)


def _directory(path_fd: int, found: FileStat) -> OpenedDirectory:
    fd = os.open(_through(path_fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        entries = list(kernel.directory_entries(fd))
    finally:
        os.close(fd)
    return OpenedDirectory(
        found,
        tuple(entry.name for entry in entries),
        tuple(entry.inode for entry in entries),
        tuple(entry.type for entry in entries),
    )


# Files as in /proc say that their size is 0, and any file may be growing: what counts is what reading gives.
def _regular(path_fd: int, found: FileStat, inline_limit: int) -> OpenResult:
    fd = os.open(_through(path_fd), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        content = _read_up_to(fd, inline_limit + 1) if found.size <= inline_limit else None
        if content is not None and len(content) <= inline_limit:
            os.close(fd)
            return OpenResult(Opened(found, content, False), None)
        os.lseek(fd, 0, os.SEEK_SET)
        return OpenResult(Opened(found, b"", True), fd)
    except BaseException:
        os.close(fd)
        raise


def _read_up_to(fd: int, limit: int) -> bytes:
    parts = []
    while limit > 0:
        part = os.read(fd, min(limit, _READ_BYTES))
        if not part:
            break
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


# A path that means the very file that is open, for calls that take no O_PATH descriptor.
def _through(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd
