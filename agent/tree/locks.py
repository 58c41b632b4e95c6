"""Locks of the client's programs in the pod: fcntl_locking(2) and flock(2), by owners that are not processes here.

POSIX locks belong to a process, and all of the client's programs are one process here, the agent. Open file description
locks (F_OFD_SETLK) belong to an open file, and conflict with other processes' POSIX locks. So every owner has a
description of its own for each file that it holds locks on, opened once more through /proc/self/fd/N, and it is closed
with the owner's last lock. The kernel keeps the ranges; here is only noted which are covered, to know when none is left.

Nothing waits: a lock that is not free is BlockingIOError, and is tried again later (handles.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import threading
from typing import Dict, Iterator, List, Set, Tuple

from ..wire.file_messages import NO_LOCK, READ_LOCK, WRITE_LOCK, GetLock, LockFile, LockState
from ..wire.messages import Done
from .handles import Handle
from .paths import failure, through

_F_OFD_GETLK, _F_OFD_SETLK = 36, 37
_FLOCK = struct.Struct("hhqqi4x")  # l_type, l_whence, l_start, l_len, l_pid
_TO_THE_END = 2**63 - 1
_FLOCK_OPERATIONS = {READ_LOCK: fcntl.LOCK_SH, WRITE_LOCK: fcntl.LOCK_EX, NO_LOCK: fcntl.LOCK_UN}

_Place = Tuple[int, int]


class _Held:
    # One owner's description of one file: what it covers, and the handles that it was locked through.
    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.ranges: List[Tuple[int, int]] = []
        self.handles: Set[Handle] = set()

    def close(self) -> None:
        # The description may be shared with a handle: closing it would not be enough.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.fd, _F_OFD_SETLK, _range(NO_LOCK, 0, _TO_THE_END))
        os.close(self.fd)


class _File:
    # All locks on one file: by owner, those of flock by handle and owner. `users`: calls that have it in hand.
    def __init__(self) -> None:
        self.mutex = threading.Lock()
        self.users = 0
        self.held: Dict[int, _Held] = {}
        self.flocks: Dict[Tuple[Handle, int], int] = {}

    def set_range(self, handle: Handle, request: LockFile) -> None:
        held = self.held.get(request.owner)
        asked = _range(request.kind, request.start, request.end)
        if held is None:
            if request.kind == NO_LOCK:
                return
            held = self.held[request.owner] = _Held(_description(handle))
        try:
            fcntl.fcntl(held.fd, _F_OFD_SETLK, asked)
            held.ranges = _without(held.ranges, request.start, request.end)
            if request.kind != NO_LOCK:
                held.ranges.append((request.start, request.end))
                held.handles.add(handle)
        finally:
            if not held.ranges:
                self.held.pop(request.owner).close()

    def set_whole(self, handle: Handle, request: LockFile) -> None:
        key = handle, request.owner
        fd = self.flocks.pop(key, -1)
        if request.kind == NO_LOCK:
            if fd >= 0:
                fcntl.flock(fd, fcntl.LOCK_UN)
                os.close(fd)
            return
        if fd < 0:
            fd = _description(handle)
        try:
            fcntl.flock(fd, _FLOCK_OPERATIONS[request.kind] | fcntl.LOCK_NB)
        except OSError:
            os.close(fd)  # flock(2): a conversion that fails has lost the lock that was there before
            raise
        self.flocks[key] = fd

    def release(self, handle: Handle) -> None:
        for key in [key for key in self.flocks if key[0] is handle]:
            os.close(self.flocks.pop(key))
        for owner, held in list(self.held.items()):
            held.handles.discard(handle)
            if not held.handles:
                self.held.pop(owner).close()

    def close(self) -> None:
        for held in self.held.values():
            held.close()
        for fd in self.flocks.values():
            os.close(fd)


class Locks:
    """Every lock that the session holds. For workers, none of which waits for a lock.

    Calls for one file come one after the other: a file server that is slow holds up nobody else.
    """

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._files: Dict[_Place, _File] = {}

    def set(self, handle: Handle, request: LockFile) -> Done:
        """fcntl(2) F_SETLK or flock(2) for `request.owner`; BlockingIOError if somebody else's lock is in the way."""
        fd = handle.descriptor()
        if request.kind not in _FLOCK_OPERATIONS or not request.owner:
            raise failure(errno.EINVAL)
        with self._file(_place(fd)) as file:
            if request.flock:
                file.set_whole(handle, request)
            else:
                file.set_range(handle, request)
        return Done()

    def get(self, handle: Handle, request: GetLock) -> LockState:
        """fcntl(2) F_GETLK: what would be in the way of `request.owner`."""
        fd = handle.descriptor()
        if request.kind not in _FLOCK_OPERATIONS:
            raise failure(errno.EINVAL)
        # NO_LOCK asks for the owner's own locks (F_OFD_GETLK since Linux 6.3): it has to have some.
        asked = _range(request.kind, request.start, request.end)
        with self._file(_place(fd)) as file:
            held = file.held.get(request.owner)
            answer = fcntl.fcntl(fd if held is None else held.fd, _F_OFD_GETLK, asked)
        kind, _, start, length, pid = _FLOCK.unpack(answer)
        if kind == NO_LOCK:
            return LockState(NO_LOCK, request.start, request.end, 0)
        return LockState(kind, start, start + length - 1 if length else _TO_THE_END, max(pid, 0))

    def release(self, handle: Handle) -> None:
        """The handle is about to be closed: its flocks go, and the locks of owners who have no other handle of the file."""
        place = _place(handle.descriptor())
        if place in self._files:
            with self._file(place) as file:
                file.release(handle)

    def close(self) -> None:
        """Give up every lock."""
        with self._mutex:
            for file in self._files.values():
                file.close()
            self._files.clear()

    @contextlib.contextmanager
    def _file(self, place: _Place) -> Iterator[_File]:
        with self._mutex:
            file = self._files.setdefault(place, _File())
            file.users += 1
        try:
            with file.mutex:
                yield file
        finally:
            with self._mutex:
                file.users -= 1
                if not (file.users or file.held or file.flocks):
                    self._files.pop(place, None)


def _place(fd: int) -> _Place:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


# A read lock needs a description that may read, a write lock one that may write. Of a file that may not be opened
# again (its mode has changed since), and of what would notice, the handle's own has to do: owners then share it.
def _description(handle: Handle) -> int:
    fd = handle.descriptor()
    if stat.S_ISREG(handle.mode) or stat.S_ISDIR(handle.mode):
        for access in (os.O_RDWR, handle.flags & 0o3):
            try:
                return os.open(through(fd), access | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    raise
    return os.dup(fd)


def _range(kind: int, start: int, end: int) -> bytes:
    if not 0 <= start <= end <= _TO_THE_END:
        raise failure(errno.EINVAL)
    return _FLOCK.pack(kind, os.SEEK_SET, start, 0 if end == _TO_THE_END else end - start + 1, 0)


def _without(ranges: List[Tuple[int, int]], start: int, end: int) -> List[Tuple[int, int]]:
    left = []
    for first, last in ranges:
        if last < start or end < first:
            left.append((first, last))
            continue
        if first < start:
            left.append((first, start - 1))
        if last > end:
            left.append((end + 1, last))
    return left
