"""Namespace and mount calls that Python 3.10 does not offer, as thin functions over the C library.

Every function raises OSError whose `strerror` names the call: a refusal here is what the user has to understand.
"""

from __future__ import annotations

import ctypes
import os

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MNT_DETACH = 0x2

_PR_SET_PDEATHSIG = 1
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)

Argument = int | bytes | None


def unshare(flags: int) -> None:
    """unshare(2): new namespaces for this process; CLONE_NEWUSER wants a process of one thread."""
    _call("unshare", flags)


def setns(fd: int, kind: int) -> None:
    """setns(2): join the namespace that `fd` stands for; `kind` is its CLONE_NEW* flag."""
    _call("setns", fd, kind)


def sethostname(name: bytes) -> None:
    """sethostname(2): the name of this UTS namespace."""
    _call("sethostname", name, len(name))


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2): `kind` is the file system type; empty strings stand for what the flags make meaningless."""
    names = (source.encode(), target.encode(), kind.encode() or None)
    _call("mount", *names, ctypes.c_ulong(flags), options.encode() or None)


def umount(target: str, flags: int = 0) -> None:
    """umount2(2)."""
    _call("umount2", target.encode(), flags)


def pivot_root(new_root: str, put_old: str) -> None:
    """pivot_root(2): has no wrapper in the C library."""
    number = ctypes.c_long(_SYS_PIVOT_ROOT[os.uname().machine])
    _call("syscall", number, new_root.encode(), put_old.encode(), name="pivot_root")


def die_with_parent(signal_number: int) -> None:
    """prctl(2) PR_SET_PDEATHSIG: the kernel sends the signal when the thread that forked us ends.

    A parent that died before the call is not noticed by the kernel: the caller checks afterwards.
    """
    _call("prctl", _PR_SET_PDEATHSIG, ctypes.c_ulong(signal_number), name="prctl(PR_SET_PDEATHSIG)")


# One place that turns the C library's -1 into an OSError that names the call.
def _call(function: str, *arguments: Argument | ctypes.c_ulong | ctypes.c_long, name: str = "") -> int:
    result = int(getattr(_libc, function)(*arguments))
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name or function}: {os.strerror(number)}")
    return result
