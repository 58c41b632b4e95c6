"""open(2) without ever blocking: fifo(7) says when an open of a FIFO would have returned, and this finds out by trying.

A FIFO opened for reading is open at once with O_NONBLOCK, which lets a writer in the pod go on just as if it were waited
for; whether one is there shows in a read: EAGAIN with a writer, the end of the file without. A FIFO opened for writing
has ENXIO until there is a reader. Everything else opens with O_NONBLOCK as it would without.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import Optional

from .. import kernel
from ..root import Root
from ..wire.file_messages import OpenHandle
from ..wire.messages import Attributes
from .handles import Handle
from .paths import failure, open_parent, take_object, through

# Flags on the wire have the numbers of x86-64; these differ elsewhere.
_WIRE_O_DIRECTORY = 0o200000
_WIRE_O_TMPFILE = 0o20000000
WIRE_O_NONBLOCK = 0o4000
_O_TMPFILE = _WIRE_O_TMPFILE | os.O_DIRECTORY
_WIRE_O_PATH = 0o10000000
# O_CREAT, O_EXCL, O_TRUNC, O_APPEND, O_DSYNC, O_SYNC, O_NOATIME, and the access mode: the same on all machines.
_SAME = 0o3 | 0o100 | 0o200 | 0o1000 | 0o2000 | 0o10000 | 0o4010000 | 0o1000000
_WHERE_CREATED = 0o100 | 0o200
_ALWAYS = os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Opening:
    """One `OpenHandle`, tried until it comes to an end. On a worker, but for `abandon`."""

    def __init__(self, root: Root, request: OpenHandle, handle: Handle, source: Optional[Handle]) -> None:
        self._root = root
        self._request = request
        self._handle = handle
        self._source = source
        self._path_fd = -1
        self._fd = -1

    def attempt(self) -> Attributes:
        """open(2); BlockingIOError while a FIFO has no other end."""
        if self._fd < 0:
            self._fd = self._open()
        found = kernel.file_stat(self._fd)
        flags = self._request.flags
        if stat.S_ISFIFO(found.mode) and flags & 0o3 == os.O_RDONLY and self._handle.is_patient and not flags & _WIRE_O_PATH:
            self._look_for_writer()
        handle = self._handle
        handle.mode, handle.flags = found.mode, flags & (0o3 | os.O_APPEND)
        handle.fd, self._fd = self._fd, -1
        return Attributes(found)

    def abandon(self) -> None:
        """Close what is open and was not given to the handle."""
        for fd in (self._path_fd, self._fd):
            if fd >= 0:
                os.close(fd)
        self._path_fd = self._fd = -1

    def _open(self) -> int:
        flags = self._request.flags
        if flags & _WIRE_O_PATH:
            return self._open_path()
        native = flags & _SAME | _ALWAYS | (os.O_DIRECTORY if flags & _WIRE_O_DIRECTORY else 0)
        if self._source is not None:
            if self._path_fd < 0:  # later attempts do not depend on the source
                self._path_fd = os.dup(self._source.descriptor())
            return self._reopen(self._path_fd, native & ~_WHERE_CREATED)
        if flags & _WIRE_O_TMPFILE:
            return self._open_nameless(native & ~os.O_CREAT | _O_TMPFILE)
        if flags & os.O_CREAT:
            return self._create(native)
        if self._path_fd < 0:
            self._path_fd = take_object(self._root, self._request.path)
        return self._reopen(self._path_fd, native)

    def _open_path(self) -> int:
        if self._source is not None:
            fd = os.open(through(self._source.descriptor()), os.O_PATH | os.O_CLOEXEC)
        else:
            fd = take_object(self._root, self._request.path)
        if self._request.flags & _WIRE_O_DIRECTORY and not stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            raise failure(errno.ENOTDIR)
        return fd

    # The very file that was looked up, whatever its name has become since.
    def _reopen(self, fd: int, flags: int) -> int:
        try:
            return os.open(through(fd), flags)
        except OSError as error:
            raise self._explained(error, os.fstat(fd).st_mode) from None

    def _open_nameless(self, flags: int) -> int:
        directory = self._root.open_path(self._request.path, follow=False, directory=True)
        try:
            return os.open(through(directory), flags, self._request.mode & 0o7777)
        finally:
            os.close(directory)

    def _create(self, flags: int) -> int:
        with open_parent(self._root, self._request.path, errno.EISDIR) as (parent, name):
            if name in (b".", b".."):
                raise failure(errno.EISDIR)
            try:
                return os.open(name, flags | os.O_NOFOLLOW, self._request.mode & 0o7777, dir_fd=parent)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
                raise self._explained(error, mode) from None

    # ENXIO of a FIFO means "no reader yet"; that of a socket or a device is final.
    def _explained(self, error: OSError, mode: int) -> OSError:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(mode) and self._handle.is_patient:
            return failure(errno.EAGAIN)
        return error

    def _look_for_writer(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        if poll.poll(0):  # something to read, or a writer that has come and gone
            return
        try:
            self._handle.early = os.read(self._fd, 1)
        except BlockingIOError:
            return
        if not self._handle.early:
            raise failure(errno.EAGAIN)
