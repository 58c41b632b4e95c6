"""Tries to change a tree in every way there is: `python file_attempts.py TREE FILE-OUTSIDE` prints what came of each.

An errno's name, or DID. TREE has `file`, `d/inner`, `empty/`, `pipe`, and `dangling`, a link to what is not there.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import shutil
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

AT_FDCWD, AT_EMPTY_PATH, AT_SYMLINK_FOLLOW, RENAME_EXCHANGE = -100, 0x1000, 0x400, 2
FS_IOC_SETFLAGS, FICLONE = 0x40086602, 0x40049409
NEW = os.O_WRONLY | os.O_CREAT
WAYS = (os.O_RDWR, os.O_WRONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_TRUNC, os.O_RDONLY | os.O_TRUNC)

Attempt = tuple[str, Callable[[], object]]
_libc = ctypes.CDLL(None, use_errno=True)


def libc(name: str, *arguments: object) -> None:
    """A call that Python does not offer."""
    if getattr(_libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


class Tree:
    """The tree, which is the working directory, with everything in it open for reading, and the ways that lead there."""

    def __init__(self, path: str, outside: str) -> None:
        os.chdir(path)
        self.path, self.outside = path, outside
        self.file, self.folder = os.open("file", os.O_RDONLY), os.open("d", os.O_RDONLY)
        self.here = os.open(".", os.O_PATH)
        self.other = os.open(outside, os.O_RDWR | os.O_CREAT)
        os.write(self.other, b"outside")
        self.files = ("file", f"{path}/file", f"/proc/self/fd/{self.file}", "/proc/self/cwd/file")
        self.folders = ("d", f"{path}/d", "/proc/self/cwd/d", f"/proc/self/fd/{self.folder}", f"{path}/d/../d")


def by_descriptor(tree: Tree) -> Iterator[Attempt]:
    """On what is open for reading."""
    fd = tree.file
    yield "write", partial(os.write, fd, b"x")
    yield "pwrite", partial(os.pwrite, fd, b"x", 0)
    yield "ftruncate", partial(os.ftruncate, fd, 0)
    yield "fallocate", partial(os.posix_fallocate, fd, 0, 100000)
    yield "copy_file_range", lambda: os.copy_file_range(tree.other, fd, 1, 0, 0)
    yield "sendfile", partial(os.sendfile, fd, tree.other, 0, 1)
    yield "mmap", partial(mmap.mmap, fd, 0, mmap.MAP_SHARED, mmap.PROT_WRITE)
    yield "fchmod", partial(os.fchmod, fd, 0o777)
    yield "fchown", partial(os.fchown, fd, 1, 1)
    yield "futimens", partial(os.utime, fd, (1, 1))
    yield "utimensat", partial(libc, "utimensat", fd, None, None, 0)
    yield "fchownat", partial(libc, "fchownat", fd, b"", 1, 1, AT_EMPTY_PATH)
    yield "fsetxattr", partial(os.setxattr, fd, "user.x", b"x")
    yield "fremovexattr", partial(os.removexattr, fd, "user.kept")
    yield "FS_IOC_SETFLAGS", partial(fcntl.ioctl, fd, FS_IOC_SETFLAGS, struct.pack("l", 0x10))
    yield "FICLONE", partial(fcntl.ioctl, fd, FICLONE, tree.other)
    yield "linkat", partial(libc, "linkat", fd, b"", tree.folder, b"hard", AT_EMPTY_PATH)
    magic = f"/proc/self/fd/{fd}".encode()
    yield "linkat magic", partial(libc, "linkat", AT_FDCWD, magic, tree.folder, b"hard", AT_SYMLINK_FOLLOW)


def by_name(tree: Tree) -> Iterator[Attempt]:
    """By a path."""
    for file in (*tree.files, f"/proc/{os.getpid()}/fd/{tree.file}", f"/dev/fd/{tree.file}"):
        for flags in WAYS:
            yield f"open {file} {flags:o}", lambda file=file, flags=flags: os.write(os.open(file, flags), b"x")
        for call, rest in (
            (os.chmod, (0o777,)), (os.chown, (1, 1)), (os.utime, ((1, 1),)), (os.truncate, (0,)),
            (os.setxattr, ("user.x", b"x")), (os.removexattr, ("user.kept",)), (os.rename, ("moved",)), (os.link, ("hard",)),
        ):  # fmt: skip
            yield f"{call.__name__} {file}", partial(call, file, *rest)
    for folder in tree.folders:
        for name in ("inner", "new"):
            path = f"{folder}/{name}"
            for call in (os.mkdir, os.mkfifo, os.mknod, os.unlink, os.rmdir):
                yield f"{call.__name__} {path}", partial(call, path)
            yield f"create {path}", partial(os.open, path, NEW | os.O_EXCL)
            yield f"symlink {path}", partial(os.symlink, "target", path)
            yield f"move in {path}", partial(os.rename, tree.outside, path)
        yield f"without a name {folder}", partial(os.open, folder, os.O_TMPFILE | os.O_RDWR)
    yield "create by link", partial(os.open, "dangling", NEW)
    yield "pipe", partial(os.open, "pipe", os.O_WRONLY | os.O_NONBLOCK)
    yield "bind", partial(socket.socket(socket.AF_UNIX).bind, "new")
    yield "rmtree", partial(shutil.rmtree, "d")
    yield "move", partial(shutil.move, tree.path, tree.outside + ".moved")


def by_directory(tree: Tree) -> Iterator[Attempt]:
    """Relative to an open directory."""
    here, folder = tree.here, tree.folder
    for call, rest in (
        (os.mkdir, ("new",)), (os.mkfifo, ("new",)), (os.unlink, ("file",)), (os.rmdir, ("empty",)), (os.open, ("new", NEW)),
        (os.chmod, ("file", 0o777)), (os.chown, ("file", 1, 1)), (os.utime, ("file", (1, 1))), (os.symlink, ("x", "soft")),
    ):  # fmt: skip
        yield f"{call.__name__} at", partial(call, *rest, dir_fd=here)
    yield "renameat", partial(os.rename, "file", "moved", src_dir_fd=here, dst_dir_fd=folder)
    yield "renameat in", partial(os.rename, tree.outside, "moved", dst_dir_fd=folder)
    yield "renameat out", partial(os.rename, "file", tree.outside, src_dir_fd=here)
    yield "exchange", partial(libc, "renameat2", here, b"file", folder, b"inner", RENAME_EXCHANGE)
    yield "linkat", partial(os.link, "file", "hard", src_dir_fd=here, dst_dir_fd=folder)


def main() -> None:
    """Everything is tried; in the end the file reads as before."""
    tree = Tree(*sys.argv[1:])
    for attempts in (by_descriptor, by_name, by_directory):
        for name, attempt in attempts(tree):
            try:
                print("DID", name, attempt())
            except (OSError, ValueError) as error:
                print(errno.errorcode[getattr(error, "errno", None) or errno.EINVAL], name)
    print("read", os.read(tree.file, 10), Path("file").read_text())


if __name__ == "__main__":
    main()
