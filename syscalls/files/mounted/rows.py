"""The file calls where the pod's tree is mounted, by name, for syscalls/table.py."""

from __future__ import annotations

from ...process import uname
from . import paths
from .access import access, faccessat, faccessat2
from .acl import fsetxattr
from .directory import chdir, fchdir, getcwd
from .execve import execve, execveat
from .openat2 import openat2
from .opening import creat, open_, openat
from .paths import Handler
from .readlink import readlink, readlinkat
from .stat import lstat, newfstatat, stat, statx
from .watching import inotify_add_watch

HANDLERS: dict[str, Handler] = {
    "open": open_,
    "creat": creat,
    "openat": openat,
    "openat2": openat2,
    "stat": stat,
    "lstat": lstat,
    "newfstatat": newfstatat,
    "statx": statx,
    "access": access,
    "faccessat": faccessat,
    "faccessat2": faccessat2,
    "readlink": readlink,
    "readlinkat": readlinkat,
    "chdir": chdir,
    "fchdir": fchdir,
    "execve": execve,
    "execveat": execveat,
    "uname": uname,
    **paths.HANDLERS,
    "inotify_add_watch": inotify_add_watch,
    "fsetxattr": fsetxattr,
}
"""Syscall name -> handler, of the calls that always stop."""

LATER = {"getcwd": (getcwd, "the process has gone to a pod directory")}
"""Syscall name -> handler, of the calls that stop once a process has done something, and what."""

_OPENING = ("open", "creat", "openat", "openat2")
_LOOKING = ("stat", "lstat", "newfstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat")

NOTES: dict[str, str] = {
    **dict.fromkeys(_OPENING, "pod files, for reading and writing"),
    **dict.fromkeys(_LOOKING, "pod files"),
    "chdir": "pod directories", "fchdir": "pod directories; nothing but getcwd is different then",
    "getcwd": "the path in the pod", "execve": "programs of the pod, with their interpreters",
    "execveat": "programs of the pod, with their interpreters", "uname": "the pod's hostname",
    **{call.name: "paths of the pod" for call in paths.CALLS},
    "inotify_add_watch": "paths of the pod; what happens there is seen", "fsetxattr": "no access lists on pod files",
}  # fmt: skip
"""Syscall name -> note."""
