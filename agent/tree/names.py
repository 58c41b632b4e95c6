"""Making, removing and renaming names: each call gets the open parent directory and the last name, and never follows it.

The agent's umask is 0: the client's kernel has applied that of the program.
"""

from __future__ import annotations

import errno
import os
import stat

from .. import kernel
from ..root import Root
from ..wire.file_messages import LinkFile, MakeLink, MakeNode, RemoveName, RenameFile
from ..wire.messages import Attributes, Done
from . import calls
from .paths import open_parent, through


def make_node(root: Root, request: MakeNode) -> Attributes:
    """mknod(2), mkdir(2)."""
    with open_parent(root, request.path, errno.EEXIST) as (parent, name):
        if stat.S_ISDIR(request.mode):
            os.mkdir(name, stat.S_IMODE(request.mode), dir_fd=parent)
        else:
            os.mknod(name, request.mode, request.rdev, dir_fd=parent)
        return _attributes(parent, name)


def make_link(root: Root, request: MakeLink) -> Attributes:
    """symlink(2)."""
    with open_parent(root, request.path, errno.EEXIST) as (parent, name):
        os.symlink(request.target, name, dir_fd=parent)
        return _attributes(parent, name)


def link_path(root: Root, request: LinkFile) -> Attributes:
    """linkat(2) of a path; a symbolic link gets another name itself."""
    old, new = open_parent(root, request.path, errno.EPERM), open_parent(root, request.new_path, errno.EEXIST)
    with old as (old_parent, old_name), new as (parent, name):
        os.link(old_name, name, src_dir_fd=old_parent, dst_dir_fd=parent, follow_symlinks=False)
        return _attributes(parent, name)


def link_open_file(root: Root, fd: int, new_path: bytes) -> Attributes:
    """linkat(2) of an open file, which has no name yet if it was opened with O_TMPFILE."""
    with open_parent(root, new_path, errno.EEXIST) as (parent, name):
        os.link(through(fd), name, dst_dir_fd=parent, follow_symlinks=True)
        return _attributes(parent, name)


def remove_name(root: Root, request: RemoveName) -> Done:
    """unlink(2), rmdir(2)."""
    with open_parent(root, request.path, errno.EBUSY if request.directory else errno.EISDIR) as (parent, name):
        if request.directory:
            os.rmdir(name, dir_fd=parent)
        else:
            os.unlink(name, dir_fd=parent)
    return Done()


def rename_file(root: Root, request: RenameFile) -> Done:
    """rename(2), renameat2(2)."""
    old, new = open_parent(root, request.path, errno.EBUSY), open_parent(root, request.new_path, errno.EBUSY)
    with old as (old_parent, old_name), new as (parent, name):
        if request.flags:
            calls.renameat2(old_parent, old_name, parent, name, request.flags)
        else:  # wherever renameat2 may be missing
            os.rename(old_name, name, src_dir_fd=old_parent, dst_dir_fd=parent)
    return Done()


def _attributes(parent: int, name: bytes) -> Attributes:
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        return Attributes(kernel.file_stat(fd))
    finally:
        os.close(fd)
