"""Flag bits of the file calls, by machine: the kernel's numbers, which differ between x86-64 and aarch64 for a few.

Python's `os` has the constants of the machine it runs on only; here both machines are values, so that both can be
tested anywhere. Octal as in the kernel's headers (asm-generic/fcntl.h, asm/fcntl.h of arm64).
"""

from __future__ import annotations

import platform
from dataclasses import dataclass

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_EACCESS = 0x200
AT_SYMLINK_FOLLOW = 0x400
AT_NO_AUTOMOUNT = 0x800
AT_EMPTY_PATH = 0x1000
AT_STATX_SYNC_TYPE = 0x6000
AT_STATX_FORCE_SYNC = 0x2000

O_ACCMODE = 0o3
O_RDONLY = 0o0
O_WRONLY = 0o1
O_CREAT = 0o100
O_EXCL = 0o200
O_NOCTTY = 0o400
O_TRUNC = 0o1000
O_APPEND = 0o2000
O_NONBLOCK = 0o4000
O_DSYNC = 0o10000
FASYNC = 0o20000
O_NOATIME = 0o1000000
O_CLOEXEC = 0o2000000
SYNC_BIT = 0o4000000
"""__O_SYNC: O_SYNC without its O_DSYNC half."""
O_PATH = 0o10000000
TMPFILE_BIT = 0o20000000
"""__O_TMPFILE: O_TMPFILE without its O_DIRECTORY half."""

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20
VALID_RESOLVE = 0x3F

MODE_BITS = 0o7777

WRITING = O_ACCMODE | O_CREAT | O_TRUNC | TMPFILE_BIT
"""open(2) flags that may change something; O_RDONLY is no bit, and the access mode 3 needs write permission too."""


@dataclass(frozen=True)
class OpenFlags:
    """open(2): the flag bits that differ between machines, and the sets of flags made of them."""

    directory: int
    nofollow: int
    direct: int
    largefile: int

    @property
    def valid(self) -> int:
        """VALID_OPEN_FLAGS: what openat2(2) accepts; open(2) and openat(2) ignore all other bits."""
        common = WRITING | O_EXCL | O_NOCTTY | O_APPEND | O_NONBLOCK | O_DSYNC | FASYNC | O_NOATIME | O_CLOEXEC
        return common | SYNC_BIT | O_PATH | self.directory | self.nofollow | self.direct | self.largefile

    @property
    def with_path(self) -> int:
        """O_PATH_FLAGS: what has a meaning together with O_PATH."""
        return self.directory | self.nofollow | O_PATH | O_CLOEXEC

    def to_wire(self, flags: int) -> int:
        """The flags that matter to the pod, with the numbers of x86-64: client and pod may be different machines."""
        wire = flags & O_PATH
        wire |= X86_64.directory if flags & self.directory else 0
        return wire | (X86_64.nofollow if flags & self.nofollow else 0)


X86_64 = OpenFlags(directory=0o200000, nofollow=0o400000, direct=0o40000, largefile=0o100000)
AARCH64 = OpenFlags(directory=0o40000, nofollow=0o100000, direct=0o200000, largefile=0o400000)


def open_flags(machine: str) -> OpenFlags:
    """The open(2) flag bits of a machine, named as in uname(2)."""
    return AARCH64 if machine == "aarch64" else X86_64


NATIVE = open_flags(platform.machine())
"""The bits of the machine that we run on."""


def to_int32(register: int) -> int:
    """The C int in an argument register: the kernel looks at the low 32 bits only, as a signed number."""
    low = register & 0xFFFFFFFF
    return low - 0x1_0000_0000 if low & 0x8000_0000 else low
