"""System calls that os has not, or not with everything that matters: errno as OSError, nothing looked at in between."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct

AT_FDCWD = -100
RESOLVE_NO_XDEV = 1
_AT_SYMLINK_FOLLOW = 0x400
_IS_X86 = platform.machine() == "x86_64"
_GETCWD, _STATX, _RENAMEAT2 = (79, 332, 316) if _IS_X86 else (17, 291, 276)
_FALLOCATE, _LINKAT = (285, 265) if _IS_X86 else (47, 37)
_OPENAT2, _FACCESSAT2, _FCHMODAT2 = 437, 439, 452
_STATX_FIELDS = struct.Struct("=IIQIIIH2xQQ")  # mask, blksize, attributes, nlink, uid, gid, mode, ino, size
_BTIME = 0x800
_RETRIES = 100

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
for _name, _result, _arguments in (
    ("fdopendir", ctypes.c_void_p, [ctypes.c_int]),
    ("readdir", ctypes.c_void_p, [ctypes.c_void_p]),
    ("telldir", ctypes.c_long, [ctypes.c_void_p]),
    ("seekdir", None, [ctypes.c_void_p, ctypes.c_long]),
    ("rewinddir", None, [ctypes.c_void_p]),
    ("closedir", ctypes.c_int, [ctypes.c_void_p]),
):
    getattr(_libc, _name).restype = _result
    getattr(_libc, _name).argtypes = _arguments


def _call(number: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result: int = _libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def getcwd() -> bytes:
    """getcwd(2), not the C library's, which finds out by itself what the kernel cannot tell."""
    buffer = ctypes.create_string_buffer(4096)
    size = _call(_GETCWD, buffer, 4096)
    return buffer.raw[: size - 1]


def statx(dirfd: int, path: bytes, flags: int) -> tuple[int, int, int, int, int, bool]:
    """statx(2): mode, nlink, uid, gid, size, and whether there is a birth time."""
    buffer = ctypes.create_string_buffer(256)
    _call(_STATX, dirfd, path, flags, 0xFFF, buffer)
    mask, _, _, nlink, uid, gid, mode, _, size = _STATX_FIELDS.unpack_from(buffer)
    return mode, nlink, uid, gid, size, bool(mask & _BTIME)


def renameat2(old_fd: int, old: bytes, new_fd: int, new: bytes, flags: int) -> None:
    """renameat2(2)."""
    _call(_RENAMEAT2, old_fd, old, new_fd, new, flags)


def linkat(old_fd: int, old: bytes, new_fd: int, new: bytes, *, follow: bool) -> None:
    """linkat(2). os.link does not always follow when it is told to."""
    _call(_LINKAT, old_fd, old, new_fd, new, _AT_SYMLINK_FOLLOW if follow else 0)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    _call(_FALLOCATE, fd, mode, offset, length)


def openat2(dirfd: int, path: bytes, flags: int, mode: int, resolve: int) -> int:
    """openat2(2). EAGAIN, which a rename or mount anywhere on the machine may bring about, is tried again."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_RETRIES):
        try:
            return _call(_OPENAT2, dirfd, path, how, len(how))
        except BlockingIOError:
            continue
    return _call(_OPENAT2, dirfd, path, how, len(how))


def faccessat2(dirfd: int, path: bytes, mode: int, flags: int) -> None:
    """faccessat2(2)."""
    _call(_FACCESSAT2, dirfd, path, mode, flags)


def fchmodat2(dirfd: int, path: bytes, mode: int, flags: int) -> None:
    """fchmodat2(2)."""
    _call(_FCHMODAT2, dirfd, path, mode, flags)


def set_lock(fd: int, kind: int, start: int, length: int, *, is_ofd: bool) -> None:
    """fcntl(2) with F_SETLK or F_OFD_SETLK."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK if is_ofd else fcntl.F_SETLK, _flock(kind, start, length))


def get_lock(fd: int, kind: int, start: int, length: int, *, is_ofd: bool) -> list[int]:
    """fcntl(2) with F_GETLK or F_OFD_GETLK: type, start, length. Not who: the pod has other processes than this machine."""
    command = fcntl.F_OFD_GETLK if is_ofd else fcntl.F_GETLK
    found = fcntl.fcntl(fd, command, _flock(kind, start, length))
    kind, _, start, length = struct.unpack("hhqq", found[:24])
    return [kind] if kind == fcntl.F_UNLCK else [kind, start, length]


def _flock(kind: int, start: int, length: int) -> bytes:
    return struct.pack("hh4xqqi4x", kind, os.SEEK_SET, start, length, 0)


class Directory:
    """An open directory, position by position."""

    def __init__(self, fd: int) -> None:
        """Owns `fd`."""
        self._at = _libc.fdopendir(fd)
        if not self._at:
            code = ctypes.get_errno()
            os.close(fd)
            raise OSError(code, os.strerror(code))

    def read(self, most: int = 1 << 30) -> list[tuple[bytes, int, int]]:
        """readdir(3): (name, DT_*, inode number) of the next entries."""
        found = []
        while len(found) < most:
            ctypes.set_errno(0)
            entry = _libc.readdir(self._at)
            if not entry:
                if ctypes.get_errno():
                    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
                break
            inode, _, _, kind = struct.unpack("=QqHB", ctypes.string_at(entry, 19))
            found.append((ctypes.string_at(entry + 19), kind, inode))
        return found

    def tell(self) -> int:
        """telldir(3)."""
        return int(_libc.telldir(self._at))

    def seek(self, position: int) -> None:
        """seekdir(3)."""
        _libc.seekdir(self._at, position)

    def rewind(self) -> None:
        """rewinddir(3)."""
        _libc.rewinddir(self._at)

    def close(self) -> None:
        """closedir(3)."""
        _libc.closedir(self._at)
