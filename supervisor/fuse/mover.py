"""Plays what happened in the pod into the mount, so that the kernel tells those who watch it by inotify(7).

FUSE has no message for "this file has changed". But the kernel does tell watchers of what somebody does in the mount. So a
thread of ours does there what was done in the pod: makes the name, removes it, sets the time. The server knows the thread
by its number and answers its requests by itself (events.py): nothing of it reaches the pod.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import stat
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass

_INVALIDATE_ENTRY = 3
_NOTIFICATION = struct.Struct("=IiQQII")
_UTIME_OMIT, _UTIME_NOW = (1 << 30) - 2, (1 << 30) - 1
_AT_SYMLINK_NOFOLLOW = 0x100

_utimensat = ctypes.CDLL(None, use_errno=True).utimensat


@dataclass(frozen=True)
class Deed:
    """One thing to do. `kind`: "make", "remove", "modify", "attribute", "close" or "move"; `path`, `other`: absolute pod
    paths.

    `mode`: st_mode of the file. `stale`: (node number of the directory, name) pairs that the kernel has to forget first.
    """

    kind: str
    path: bytes
    mode: int = 0
    other: bytes = b""
    stale: tuple[tuple[int, bytes], ...] = ()


class Mover:
    """One thread, started with the first deed. `root`: a descriptor of the mount's root; `device`: the server's."""

    def __init__(self, root: int, device: int) -> None:
        self.thread_id = 0
        self.current: Deed | None = None
        """What is being done: the server answers by it."""
        self._root = root
        self._device = device
        self._deeds: queue.SimpleQueue[tuple[Deed, Callable[[], None]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def do(self, deed: Deed, done: Callable[[], None]) -> None:
        """Do it, then call `done`, on the thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        self._deeds.put((deed, done))

    def close(self) -> None:
        """No more deeds."""
        self._deeds.put(None)

    def _run(self) -> None:
        self.thread_id = threading.get_native_id()
        while (item := self._deeds.get()) is not None:
            deed, done = item
            self.current = deed
            with contextlib.suppress(OSError):
                self._forget(deed)
                self._act(deed)
            with contextlib.suppress(OSError):
                self._forget(deed)
            self.current = None
            done()

    def _act(self, deed: Deed) -> None:
        path, root = deed.path.lstrip(b"/") or b".", self._root
        if deed.kind == "make":
            self._make(path, deed.mode)
        elif deed.kind == "remove":
            (os.rmdir if stat.S_ISDIR(deed.mode) else os.unlink)(path, dir_fd=root)
        elif deed.kind == "modify":
            # The time of the last change alone is IN_MODIFY, as truncate(2) is; both times would be IN_ATTRIB.
            _set_modified(root, path)
        elif deed.kind == "attribute":
            os.chmod(path, deed.mode & 0o7777, dir_fd=root)
        elif deed.kind == "close":
            os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW, dir_fd=root))
        else:
            os.rename(path, deed.other.lstrip(b"/"), src_dir_fd=root, dst_dir_fd=root)

    def _make(self, path: bytes, mode: int) -> None:
        if stat.S_ISDIR(mode):
            os.mkdir(path, mode & 0o7777, dir_fd=self._root)
        elif stat.S_ISLNK(mode):
            os.symlink(b".", path, dir_fd=self._root)
        else:
            os.mknod(path, stat.S_IFREG | mode & 0o7777, dir_fd=self._root)

    def _forget(self, deed: Deed) -> None:
        for directory, name in deed.stale:
            body = _NOTIFICATION.pack(_NOTIFICATION.size + len(name) + 1, _INVALIDATE_ENTRY, 0, directory, len(name), 0)
            with contextlib.suppress(OSError):  # ENOENT: it does not know the name
                os.write(self._device, body + name + b"\0")


def _set_modified(root: int, path: bytes) -> None:
    times = struct.pack("=qqqq", 0, _UTIME_OMIT, 0, _UTIME_NOW)
    if _utimensat(root, path, times, _AT_SYMLINK_NOFOLLOW) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
