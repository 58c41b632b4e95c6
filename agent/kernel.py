"""System calls that Python 3.9's standard library does not offer, through ctypes.

The C library of a stock image may be old or musl, so newer calls go through syscall(2) by number. Numbers are those of
x86-64 and of the generic table (aarch64, riscv64, loongarch64). Every function raises OSError with the kernel's errno.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Iterator, NamedTuple, Tuple

from .wire.messages import FileStat

CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

RESOLVE_IN_ROOT = 0x10

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_EACCESS = 0x200
AT_NO_AUTOMOUNT = 0x800
STATX_BASIC_AND_BTIME = 0xFFF

PR_SET_PDEATHSIG = 1
PR_SET_NAME = 15

_OPENAT2 = 437
_FACCESSAT2 = 439
# (statx, getdents64)
_X86_64 = (332, 217)
_GENERIC = (291, 61)
_STATX, _GETDENTS64 = _X86_64 if platform.machine() == "x86_64" else _GENERIC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.access.argtypes = (ctypes.c_char_p, ctypes.c_int)
_libc.setns.argtypes = (ctypes.c_int, ctypes.c_int)

_STATX_BUFFER_BYTES = 256
# struct statx: mask, blksize, attributes, nlink, uid, gid, mode, ino, size, blocks, attributes_mask; then four times
# (seconds, nanoseconds) for atime, btime, ctime, mtime; then rdev and dev as (major, minor).
_STATX_LAYOUT = struct.Struct("=IIQIIIH2xQQQQ qI4x qI4x qI4x qI4x IIII")
_STATX_BTIME = 0x800
# Some file systems keep years that 64 bits of nanoseconds cannot.
_LATEST_NS = 2**63 - 1

_DIRENT_HEADER = struct.Struct("=QqHB")
_DIRENTS_BYTES = 64 * 1024


class DirectoryEntry(NamedTuple):
    """getdents64(2): one entry; `type` is a DT_* value."""

    name: bytes
    inode: int
    type: int


def _syscall(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def openat2(directory: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2) without creation; ENOSYS or EPERM where the kernel or a container's seccomp profile lacks it."""
    if b"\0" in path:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _syscall(_OPENAT2, ctypes.c_long(directory), ctypes.c_char_p(path), ctypes.c_char_p(how), ctypes.c_size_t(len(how)))


def file_stat(fd: int) -> FileStat:
    """statx(2) of an open file, O_PATH ones included. Kernels and profiles without statx give no birth time."""
    buffer = ctypes.create_string_buffer(_STATX_BUFFER_BYTES)
    try:
        _syscall(
            _STATX,
            ctypes.c_long(fd),
            ctypes.c_char_p(b""),
            ctypes.c_long(AT_EMPTY_PATH | AT_NO_AUTOMOUNT),
            ctypes.c_long(STATX_BASIC_AND_BTIME),
            buffer,
        )
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return _from_fstat(os.fstat(fd))
    return _from_statx(_STATX_LAYOUT.unpack_from(buffer))


def _from_statx(fields: Tuple[int, ...]) -> FileStat:
    mask, blksize, _, nlink, uid, gid, mode, ino, size, blocks, _ = fields[:11]
    times = [min(fields[at] * 10**9 + fields[at + 1], _LATEST_NS) for at in range(11, 19, 2)]
    rdev_major, rdev_minor, dev_major, dev_minor = fields[19:]
    return FileStat(
        dev=os.makedev(dev_major, dev_minor),
        ino=ino,
        mode=mode,
        nlink=nlink,
        uid=uid,
        gid=gid,
        rdev=os.makedev(rdev_major, rdev_minor),
        size=size,
        blksize=blksize,
        blocks=blocks,
        atime_ns=times[0],
        btime_ns=times[1] if mask & _STATX_BTIME else -1,
        ctime_ns=times[2],
        mtime_ns=times[3],
    )


def _from_fstat(stat: os.stat_result) -> FileStat:
    return FileStat(
        dev=stat.st_dev,
        ino=stat.st_ino,
        mode=stat.st_mode,
        nlink=stat.st_nlink,
        uid=stat.st_uid,
        gid=stat.st_gid,
        rdev=stat.st_rdev,
        size=stat.st_size,
        blksize=stat.st_blksize,
        blocks=stat.st_blocks,
        atime_ns=stat.st_atime_ns,
        mtime_ns=stat.st_mtime_ns,
        ctime_ns=stat.st_ctime_ns,
        btime_ns=-1,
    )


def directory_entries(fd: int) -> Iterator[DirectoryEntry]:
    """getdents64(2): every entry of the open directory, "." and ".." included, in the file system's order."""
    buffer = ctypes.create_string_buffer(_DIRENTS_BYTES)
    while True:
        size = _syscall(_GETDENTS64, ctypes.c_long(fd), buffer, ctypes.c_size_t(_DIRENTS_BYTES))
        if size == 0:
            return
        block = buffer.raw[:size]
        offset = 0
        while offset < size:
            inode, _, length, kind = _DIRENT_HEADER.unpack_from(block, offset)
            start = offset + _DIRENT_HEADER.size
            yield DirectoryEntry(block[start : block.index(b"\0", start)], inode, kind)
            offset += length


def access(path: bytes, mode: int) -> None:
    """faccessat2(2) with AT_EACCESS: by the rights of the calling thread; with those of the process where it is missing."""
    try:
        _syscall(_FACCESSAT2, ctypes.c_long(AT_FDCWD), ctypes.c_char_p(path), ctypes.c_long(mode), ctypes.c_long(AT_EACCESS))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        if _libc.access(path, mode) < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code)) from None


def setns(fd: int, kind: int) -> None:
    """setns(2); `kind` is one of CLONE_NEW*."""
    if _libc.setns(fd, kind) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def set_parent_death_signal(signal_number: int) -> None:
    """prctl(2) PR_SET_PDEATHSIG. The kernel forgets it at a change of credentials: call after setns(2)."""
    _prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number))


def set_process_name(name: bytes) -> None:
    """prctl(2) PR_SET_NAME: what ps(1) shows, at most 15 bytes."""
    _prctl(PR_SET_NAME, ctypes.c_char_p(name))


def _prctl(option: int, argument: object) -> None:
    unused = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), argument, unused, unused, unused) < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
