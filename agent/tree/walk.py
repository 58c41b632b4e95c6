"""path_resolution(7) by hand, telling all that is met: it runs for each open of a file, so calls are counted.

A directory on the way takes three system calls (statx, open with O_PATH, close), a link two, the end one. Each name is
looked at and opened in a directory that is open, never following, so a concurrent rename cannot lead the walk out of the
root. `..` is a step back on the stack of open directories. The links that the kernel resolves by magic in /proc are read like
any other, and what they say is looked for inside the root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import List, Optional, Set, Tuple

from ..root import MAX_LINKS, Root, components
from ..wire.file_messages import Walk, Walked
from . import calls
from .paths import failure, through

_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_BYTES = 1024 * 1024


def walk(root: Root, request: Walk, inner_pid: int = 1) -> Walked:
    """path_resolution(7) of `request.path`; an error is part of the answer. `inner_pid`: whom the pod calls /proc/self."""
    walker = _Walker(root.fd, inner_pid)
    code, content = 0, None
    try:
        walker.go(request.path, request.follow)
        content = walker.content(request.content_limit)
    except OSError as error:
        code = error.errno or errno.EIO
    finally:
        walker.close()
    missing = walker.missing if code == errno.ENOENT else b""
    return Walked(
        tuple(walker.paths), b"".join(walker.stats), tuple(walker.targets), code, missing, content is not None, content or b""
    )


class _Walker:
    def __init__(self, root_fd: int, inner_pid: int) -> None:
        self.paths: List[bytes] = []
        self.stats: List[bytes] = []
        self.targets: List[bytes] = []
        self.missing = b""
        self._inner_pid = inner_pid
        self._seen: Set[bytes] = set()
        # Open directories with their real paths, that of the root being empty. The root's descriptor is not ours.
        self._stack: List[Tuple[int, bytes]] = [(root_fd, b"")]
        # The end, unless it is the directory on top of the stack: name and attributes.
        self._end: Tuple[bytes, bytes] = b"", b""

    def close(self) -> None:
        self._back_to(1)

    def go(self, path: bytes, follow: bool) -> None:
        self._note(b"/", calls.packed_stat(self._stack[0][0]))
        if not path or b"\0" in path:
            raise failure(errno.EINVAL if path else errno.ENOENT)
        todo = components(path)
        links = 0
        while todo:
            name = todo.pop()
            if name == b".":
                continue
            if name == b"..":
                self._back_to(max(1, len(self._stack) - 1))
                continue
            target = self._step(name, not todo, follow)
            if target:
                links += 1
                if links > MAX_LINKS:
                    raise failure(errno.ELOOP)
                if target.startswith(b"/"):
                    self._back_to(1)
                todo.extend(components(target))
        self._note_end()

    # One name in the directory on top of the stack: what is to be followed, or b"".
    def _step(self, name: bytes, is_last: bool, follow: bool) -> bytes:
        directory, above = self._stack[-1]
        real = above + b"/" + name
        self.missing = real
        packed = calls.packed_stat(directory, name)
        mode = calls.packed_mode(packed)
        if stat.S_ISLNK(mode):
            target = self._read_link(directory, name, real)
            self._note(real, packed, target)
            if follow or not is_last:
                return target
            self._end = name, packed
            return b""
        self._note(real, packed)
        if is_last:
            self._end = name, packed
        elif stat.S_ISDIR(mode):
            self._stack.append((os.open(name, _DIRECTORY_FLAGS, dir_fd=directory), real))
        else:
            raise failure(errno.ENOTDIR)
        return b""

    # The pod's /proc does not know the agent if it is in another process namespace: "self" leads nowhere then. To a
    # program in the target's place it means the target.
    def _read_link(self, directory: int, name: bytes, real: bytes) -> bytes:
        try:
            return os.readlink(name, dir_fd=directory)
        except FileNotFoundError:
            if real == b"/proc/self":
                return b"%d" % self._inner_pid
            if real == b"/proc/thread-self":
                return b"%d/task/%d" % (self._inner_pid, self._inner_pid)
            raise

    def _note(self, real: bytes, packed: bytes, target: bytes = b"") -> None:
        if real not in self._seen:
            self._seen.add(real)
            self.paths.append(real)
            self.stats.append(packed)
            self.targets.append(target)

    # The end is last, even if it was met before.
    def _note_end(self) -> None:
        above = self._stack[-1][1]
        real = above + b"/" + self._end[0] if self._end[0] else above or b"/"
        if self.paths[-1] != real:
            at = self.paths.index(real)
            for column in (self.paths, self.stats, self.targets):
                column.append(column[at])

    def content(self, limit: int) -> Optional[bytes]:
        """All of the regular file at the end, if it has at most `limit` bytes and may be read."""
        name, packed = self._end
        if not name or limit <= 0 or not stat.S_ISREG(calls.packed_mode(packed)) or calls.packed_size(packed) > limit:
            return None
        with contextlib.suppress(OSError):
            # The same file is looked at and opened: there is no moment to put a device in its place.
            path_fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._stack[-1][0])
            try:
                if stat.S_ISREG(os.fstat(path_fd).st_mode):
                    return _read_all(through(path_fd), calls.packed_size(packed), limit)
            finally:
                os.close(path_fd)
        return None

    def _back_to(self, depth: int) -> None:
        while len(self._stack) > depth:
            os.close(self._stack.pop()[0])


# Files as in /proc say that they are empty, so the end is where reading ends. None: more than `limit` bytes. Some of those
# would wait for something to read (kmsg): O_NONBLOCK makes that an error.
def _read_all(path: bytes, expected: int, limit: int) -> Optional[bytes]:
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        parts: List[bytes] = []
        total = 0
        while total <= limit:
            part = os.read(fd, min(max(expected + 1 - total, 4096), _READ_BYTES))
            if not part:
                return b"".join(parts)
            parts.append(part)
            total += len(part)
        return None
    finally:
        os.close(fd)
