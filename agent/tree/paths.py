"""From a path of the pod to something open: the object itself, or its parent directory and its name there.

A call that takes a name gets it with an O_PATH descriptor of its directory, which `Root` has found inside the container's
root. One that follows links, or a final "..", never gets a name: it gets /proc/self/fd/N of the object, found the same way.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Iterator, Tuple

from ..root import Root


def failure(code: int) -> OSError:
    """An OSError with the text that belongs to it."""
    return OSError(code, os.strerror(code))


def through(fd: int) -> bytes:
    """A path that means the very file that is open, for calls that take no O_PATH descriptor."""
    return b"/proc/self/fd/%d" % fd


def split(path: bytes) -> Tuple[bytes, bytes]:
    """Parent directory and last name; the name of "/" is empty."""
    if b"\0" in path:
        raise failure(errno.EINVAL)
    if not path:
        raise failure(errno.ENOENT)
    parent, _, name = path.rstrip(b"/").rpartition(b"/")
    return parent or b"/", name


@contextlib.contextmanager
def open_object(root: Root, path: bytes) -> Iterator[int]:
    """The object that `path` names, a symbolic link itself included, as an O_PATH descriptor for a while."""
    fd = take_object(root, path)
    try:
        yield fd
    finally:
        os.close(fd)


def take_object(root: Root, path: bytes) -> int:
    """The same for good: the caller closes it."""
    if b"\0" in path:
        raise failure(errno.EINVAL)
    # A slash at the end would let a link be followed.
    return root.open_path(path.rstrip(b"/") or path[:1], follow=False)


@contextlib.contextmanager
def open_parent(root: Root, path: bytes, of_root: int) -> Iterator[Tuple[int, bytes]]:
    """The directory that holds the last name of `path`, and that name. `of_root`: the errno for "/", which has none."""
    parent, name = split(path)
    if not name:
        raise failure(of_root)
    fd = root.open_path(parent, directory=True)
    try:
        yield fd, name
    finally:
        os.close(fd)
