"""Looks at what a tracee has open without asking any file system.

The pod's files are served by a process that asks the pod. Were the tracer to wait for that, every tracee would wait with
it: at worst for ever, since the answer may need the tracer. statx(2) with AT_STATX_DONT_SYNC takes what the kernel has,
and st_dev, st_ino and the type never change.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct

from ...syscalls.views import View

_AT_STATX_DONT_SYNC = 0x4000
_STATX_INO = 0x100
_SIZE_BYTES = 256
# stx_mode is at 28, stx_ino at 32, stx_dev_major and stx_dev_minor at 136.
_FIELDS = struct.Struct("<28xH2xQ96xII")

_SYS_STATX = {"x86_64": 332, "aarch64": 291}.get(os.uname().machine, 332)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_AT_FDCWD = ctypes.c_long(-100)


def file_key(path: bytes) -> tuple[int, int] | None:
    """(st_dev, st_ino) of what the link `path` in /proc leads to, or None if nothing is there."""
    buffer = ctypes.create_string_buffer(_SIZE_BYTES)
    flags, mask = ctypes.c_long(_AT_STATX_DONT_SYNC), ctypes.c_long(_STATX_INO)
    if _libc.syscall(_SYS_STATX, _AT_FDCWD, path, flags, mask, buffer):
        return None
    _, inode, major, minor = _FIELDS.unpack_from(buffer)
    return os.makedev(major, minor), inode


def device(path: bytes) -> int | None:
    """st_dev of what the link `path` leads to, or None. Also where its file system lets only another user look."""
    fields = _without_attributes(path)
    return os.makedev(*fields[2:]) if fields is not None else None


def may_be_directory(path: bytes) -> bool:
    """Whether the link `path` leads to a directory. True also where its file system lets only another user look."""
    fields = _without_attributes(path)
    return fields is not None and (not fields[0] or stat.S_ISDIR(fields[0]))


# Who asks for no attributes is told the device also by another user's file system, where stx_mode is 0.
def _without_attributes(path: bytes) -> tuple[int, int, int, int] | None:
    buffer = ctypes.create_string_buffer(_SIZE_BYTES)
    if _libc.syscall(_SYS_STATX, _AT_FDCWD, path, ctypes.c_long(_AT_STATX_DONT_SYNC), ctypes.c_long(0), buffer):
        return None
    mode, inode, major, minor = _FIELDS.unpack_from(buffer)
    return mode, inode, major, minor


def read_link(path: bytes) -> bytes | None:
    """readlink(2) here: the target, b"" if it is no symbolic link, None if there is no such file or it cannot be told."""
    try:
        return os.readlink(path)
    except OSError as error:
        return b"" if error.errno == errno.EINVAL else None


def has_own(tid: int, view: View) -> bool:
    """See `Task.has_own`."""
    if view is View.NETWORK or view is View.NAME:
        return _differ(tid, b"ns/net" if view is View.NETWORK else b"ns/uts")
    # Only this machine's root directory is asked for /proc, which is never the pod's.
    return _differ(tid, b"root") or _differ(tid, b"root/proc")


def _differ(tid: int, name: bytes) -> bool:
    # file_key takes nothing but the link in /proc, whatever file system it leads to.
    theirs = file_key(b"/proc/%d/%s" % (tid, name))
    return theirs is not None and theirs != file_key(b"/proc/self/" + name)
