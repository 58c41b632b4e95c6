"""Paths of the target container, resolved inside its root directory whatever its symbolic links say.

A link in the target to /etc/shadow means the target's /etc/shadow: an absolute link, or enough `..`, must never lead
out of the target's root into the file system that the agent itself sees. openat2(2) with RESOLVE_IN_ROOT lets the
kernel do that. Where it is missing (before Linux 5.6, or refused by a container's seccomp profile) the path is walked
one component at a time with O_NOFOLLOW; every directory entered stays open on a stack, so `..` is a pop and a
concurrent rename cannot lift the walk above the root.

The root is an O_PATH descriptor opened at the start: it goes on working when the target process has died.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from typing import List

from . import kernel

MAX_LINKS = 40
"""What a walk may meet before it counts as a loop: the kernel's own number (path_resolution(7))."""

# openat2 gives EAGAIN when a rename anywhere raced with a `..`; it cannot know whether the root was left.
_RENAME_RETRIES = 64
# No call takes a longer path, but directories may be deeper: whoever is in one goes on with relative paths.
_PATH_MAX = 4096


_NETWORK = re.compile(rb"/proc/(self/)?net(?=/|\Z)((?:/+[^/]+)*)/*\Z", re.DOTALL)


class Root:
    """The root directory of the target. Owns `fd`."""

    def __init__(self, fd: int, use_openat2: bool = True) -> None:
        self.fd = fd
        self._in_kernel = use_openat2 and _openat2_works(fd)

    def close(self) -> None:
        """Close the directory; no method may be used afterwards."""
        os.close(self.fd)

    def open_path(self, path: bytes, *, follow: bool = True, directory: bool = False) -> int:
        """open(2) with O_PATH of an absolute pod path: nothing is read, no device or FIFO feels it.

        `follow` False leaves a final symbolic link unresolved. The caller owns the descriptor. OSError has the errno
        that the pod would see.
        """
        if not path:
            raise _failure(errno.ENOENT)
        network = _NETWORK.match(path)
        if network is not None:
            # What /proc tells of a network depends on who looks. The agent's process is in the pod's network namespace, and
            # the target's /proc has no entry for it, so it looks at its own.
            is_link = not network[1] and not network[2]
            return _own_network(b"/proc/net" if is_link else b"/proc/self/net" + network[2], follow, directory)
        flags = _path_flags(follow, directory)
        if not self._in_kernel or len(path) >= _PATH_MAX:
            return self._walk(path, flags)
        for _ in range(_RENAME_RETRIES):
            try:
                return kernel.openat2(self.fd, path, flags, kernel.RESOLVE_IN_ROOT)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
        return self._walk(path, flags)

    def _walk(self, path: bytes, flags: int) -> int:
        stack = [os.dup(self.fd)]
        try:
            return self._walk_components(stack, path, flags)
        finally:
            for fd in stack:
                os.close(fd)

    # Resolve `path` with `stack` as the directories from the root down to the current one. `todo` is a stack as well:
    # the next component is at its end.
    def _walk_components(self, stack: List[int], path: bytes, flags: int) -> int:
        todo = components(path)
        links = 0
        while todo:
            name = todo.pop()
            if name == b".":
                continue
            if name == b"..":
                if len(stack) > 1:
                    os.close(stack.pop())
                continue
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=stack[-1])
            stack.append(fd)
            mode = os.fstat(fd).st_mode
            if stat.S_ISLNK(mode) and (todo or not flags & os.O_NOFOLLOW):
                links += 1
                if links > MAX_LINKS:
                    raise _failure(errno.ELOOP)
                target = os.readlink(b"", dir_fd=fd)
                os.close(stack.pop())
                if target.startswith(b"/"):
                    while len(stack) > 1:
                        os.close(stack.pop())
                todo.extend(components(target))
            elif not stat.S_ISDIR(mode) and (todo or flags & os.O_DIRECTORY):
                raise _failure(errno.ENOTDIR)
        return os.dup(stack[-1])


def components(path: bytes) -> List[bytes]:
    """The names of a path, last first.

    A trailing slash leaves a "." behind: it demands a directory and that a final link is followed.
    """
    parts = [part for part in path.split(b"/") if part]
    if path.endswith(b"/"):
        parts.append(b".")
    parts.reverse()
    return parts


def _openat2_works(fd: int) -> bool:
    try:
        os.close(kernel.openat2(fd, b".", os.O_PATH, kernel.RESOLVE_IN_ROOT))
    except OSError:
        return False
    return True


def _failure(code: int) -> OSError:
    return OSError(code, os.strerror(code))


def _path_flags(follow: bool, directory: bool) -> int:
    return os.O_PATH | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW) | (os.O_DIRECTORY if directory else 0)


def _own_network(path: bytes, follow: bool, directory: bool) -> int:
    if b".." in path.split(b"/"):
        raise _failure(errno.ENOENT)
    return os.open(path, _path_flags(follow, directory))
