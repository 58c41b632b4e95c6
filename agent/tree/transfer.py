"""Reading and writing open files, and the calls that only make sense on one.

A regular file or block device is read and written at an offset, to the end of what was asked. A FIFO or a device is read where
it stands and gives what is there; BlockingIOError says that there is nothing yet, or no room.
"""

from __future__ import annotations

import errno
import os
import select
import stat

from .. import kernel
from ..wire.file_messages import (
    AllocateHandle,
    Content,
    CopyRange,
    Number,
    PollHandle,
    ReadHandle,
    SeekHandle,
    SyncHandle,
    WriteHandle,
)
from ..wire.frames import MAX_MESSAGE_BYTES
from ..wire.messages import Attributes, Done
from . import calls
from .handles import Handle
from .paths import failure

# A reply has to fit into a message.
_LARGEST_READ = MAX_MESSAGE_BYTES - 64
_SEEK_DATA, _SEEK_HOLE = 3, 4
_EVENTS = 0xFFFF
_READABLE = select.POLLIN | select.POLLRDNORM


def read(handle: Handle, request: ReadHandle) -> Content:
    """pread(2) until `size` or the end of the file; read(2) of what has no offsets."""
    fd, size = handle.descriptor(), min(request.size, _LARGEST_READ)
    if not _has_offsets(handle):
        return Content(_read_stream(handle, fd, size))
    content = os.pread(fd, size, request.offset)
    if len(content) in (0, size) or request.offset + len(content) == os.fstat(fd).st_size:
        return Content(content)
    parts, offset = [content], request.offset + len(content)
    left = size - len(content)
    while left > 0:
        part = os.pread(fd, left, offset)
        if not part:
            break
        parts.append(part)
        offset += len(part)
        left -= len(part)
    return Content(b"".join(parts))


def _read_stream(handle: Handle, fd: int, size: int) -> bytes:
    early, handle.early = handle.early[:size], handle.early[size:]
    if not early or len(early) == size:
        return early or os.read(fd, size)
    try:
        return early + os.read(fd, size - len(early))
    except OSError:
        return early


def poll(handle: Handle, request: PollHandle) -> Number:
    """poll(2), without waiting: BlockingIOError if `request` is to wait and there is nothing yet."""
    poller = select.poll()
    poller.register(handle.descriptor(), request.events & _EVENTS)
    found = poller.poll(0)
    events = found[0][1] if found else 0
    if handle.early:
        events |= request.events & _READABLE
    if not events and request.wait:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return Number(events)


class Writing:
    """One `WriteHandle`: it may take several attempts, each of which goes on where the last one stopped."""

    def __init__(self, handle: Handle, request: WriteHandle) -> None:
        self._handle = handle
        self._left = memoryview(request.content)
        self._offset = request.offset

    def attempt(self) -> Done:
        """pwrite(2), write(2) until everything is written; BlockingIOError if there is no room for more."""
        fd, has_offsets = self._handle.descriptor(), _has_offsets(self._handle)
        while self._left:
            written = os.pwrite(fd, self._left, self._offset) if has_offsets else os.write(fd, self._left)
            self._left = self._left[written:]
            self._offset += written
        return Done()


def sync(handle: Handle, request: SyncHandle) -> Done:
    """fsync(2), fdatasync(2)."""
    (os.fdatasync if request.data_only else os.fsync)(handle.descriptor())
    return Done()


def allocate(handle: Handle, request: AllocateHandle) -> Done:
    """fallocate(2)."""
    calls.fallocate(handle.descriptor(), request.mode, request.offset, request.length)
    return Done()


def seek(handle: Handle, request: SeekHandle) -> Number:
    """lseek(2) for the next data or hole; EINVAL for positions that an open file of the client's has, not ours."""
    if request.whence not in (_SEEK_DATA, _SEEK_HOLE):
        raise failure(errno.EINVAL)
    return Number(os.lseek(handle.descriptor(), request.offset, request.whence))


def copy_range(source: Handle, target: Handle, request: CopyRange) -> Number:
    """copy_file_range(2): one call of it, which may copy less."""
    copied = calls.copy_file_range(
        source.descriptor(), request.source_offset, target.descriptor(), request.offset, request.length
    )
    return Number(copied)


def stat_handle(handle: Handle) -> Attributes:
    """fstat(2)."""
    return Attributes(kernel.file_stat(handle.descriptor()))


# Directories have none, but say so themselves.
def _has_offsets(handle: Handle) -> bool:
    return stat.S_ISREG(handle.mode) or stat.S_ISBLK(handle.mode) or stat.S_ISDIR(handle.mode)
