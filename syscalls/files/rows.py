"""The file calls by name, for syscalls/table.py."""

from __future__ import annotations

from collections.abc import Callable

from ..actions import Handling
from ..context import Args, Context
from ..process import uname
from ..task import Task
from .access import access, faccessat, faccessat2
from .chdir import fchdir
from .getdents import getdents, getdents64
from .open import creat, open_, openat
from .openat2 import openat2
from .readlink import readlink, readlinkat
from .stat import fstat, lstat, newfstatat, stat, statx
from .xattr import getxattr, lgetxattr, listxattr, llistxattr

Handler = Callable[[Context, Task, Args], Handling]

HANDLERS: dict[str, Handler] = {
    "open": open_,
    "creat": creat,
    "openat": openat,
    "openat2": openat2,
    "stat": stat,
    "lstat": lstat,
    "fstat": fstat,
    "newfstatat": newfstatat,
    "statx": statx,
    "access": access,
    "faccessat": faccessat,
    "faccessat2": faccessat2,
    "readlink": readlink,
    "readlinkat": readlinkat,
    "fchdir": fchdir,
    "getdents": getdents,
    "getdents64": getdents64,
    "getxattr": getxattr,
    "lgetxattr": lgetxattr,
    "listxattr": listxattr,
    "llistxattr": llistxattr,
    "uname": uname,
}
"""Syscall name -> handler."""

X86_64_ONLY = frozenset({"open", "creat", "stat", "lstat", "access", "readlink", "getdents"})
"""The names that aarch64 does not have; the others are on both machines."""
