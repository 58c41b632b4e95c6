"""A whole directory in one reply: names, kinds, inodes, and attributes of the first entries."""

from __future__ import annotations

import errno
import os
import stat
import struct
from typing import List

from ..root import Root
from ..wire.file_messages import Entries, ReadDirectory
from ..wire.stats import GONE
from . import calls
from .paths import failure, open_object, split, through


def read_directory(root: Root, request: ReadDirectory) -> Entries:
    """getdents64(2) of a directory, with lstat(2) and readlink(2) of up to `stat_limit` entries."""
    names: List[bytes] = []
    types = bytearray()
    inodes: List[int] = []
    with open_object(root, request.path) as path_fd:
        # The kernel would say ELOOP to a link here; to who reads a directory it is just none.
        if not stat.S_ISDIR(os.fstat(path_fd).st_mode):
            raise failure(errno.ENOTDIR)
        fd = os.open(through(path_fd), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for block in calls.directory_blocks(fd):
            calls.split_entries(block, names, types, inodes)
            if 0 < request.entry_limit < len(names):
                raise failure(errno.E2BIG)
        stats = calls.packed_stats(fd, names[: max(request.stat_limit, 0)])
        targets = _read_links(fd, names, stats)
        bare = _without_xattrs(fd, names, stats)
        own = calls.packed_stat(fd)
    finally:
        os.close(fd)
    return Entries(
        names=b"\0".join(names),
        types=bytes(types),
        inodes=struct.pack(f"<{len(inodes)}Q", *inodes),
        stats=b"".join(stats),
        targets=b"\0".join(targets),
        own=own + _parent(root, request.path),
        bare=bare,
    )


# A link that goes away between the two calls is gone altogether: the client counts links by their modes.
def _read_links(fd: int, names: List[bytes], stats: List[bytes]) -> List[bytes]:
    targets = []
    for index, packed in enumerate(stats):
        if stat.S_ISLNK(calls.packed_mode(packed)):
            try:
                targets.append(os.readlink(names[index], dir_fd=fd))
            except OSError:
                stats[index] = GONE
    return targets


# `ls -l` asks for the access list of every file: the client need not ask for what is known not to be there. Where the file
# system has none at all, one question is enough.
def _without_xattrs(fd: int, names: List[bytes], stats: List[bytes]) -> bytes:
    bare = bytearray(len(stats))
    folder = through(fd) + b"/"
    try:
        for index, packed in enumerate(stats):
            if packed is not GONE and not os.listxattr(folder + names[index], follow_symlinks=False):
                bare[index] = 1
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return b"\1" * len(stats)
        if error.errno != errno.ENOENT:
            return bytes(bare)
    return bytes(bare)


# By its path, not by "..", which would lead out of the container's root.
def _parent(root: Root, path: bytes) -> bytes:
    try:
        fd = root.open_path(split(path)[0], directory=True)
    except OSError:
        return GONE
    try:
        return calls.packed_stat(fd)
    finally:
        os.close(fd)
