"""x86-64: `struct user_regs_struct` of <sys/user.h>, System V syscall convention."""

from __future__ import annotations

import struct

from .. import ptrace
from .base import WordRegisters

_WORDS = struct.Struct("<27Q")
_MASK = 0xFFFFFFFFFFFFFFFF

# Positions in user_regs_struct.
R10, R9, R8, RAX, RCX, RDX, RSI, RDI, ORIG_RAX, RIP, RSP = 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 19
_ARGUMENTS = (RDI, RSI, RDX, R10, R8, R9)
_SYSCALL_INSTRUCTION_BYTES = 2

AUDIT_ARCH = 0xC000003E
AUDIT_ARCH_I386 = 0x40000003
X32_BIT = 0x40000000

NUMBERS: dict[str, int] = {
    "close": 3,
    "execve": 59, "truncate": 76, "getcwd": 79, "chdir": 80, "fchdir": 81, "rename": 82, "mkdir": 83, "rmdir": 84,
    "link": 86, "unlink": 87, "symlink": 88, "chmod": 90, "chown": 92, "lchown": 94, "utime": 132, "mknod": 133,
    "statfs": 137, "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198, "utimes": 235,
    "inotify_add_watch": 254, "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261, "unlinkat": 263,
    "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268, "utimensat": 280, "name_to_handle_at": 303,
    "renameat2": 316, "execveat": 322, "open_tree": 428, "fchmodat2": 452, "setxattrat": 463, "getxattrat": 464,
    "listxattrat": 465, "removexattrat": 466, "file_getattr": 468, "file_setattr": 469,
    "open": 2, "stat": 4, "fstat": 5, "lstat": 6, "mmap": 9, "ioctl": 16, "access": 21, "socket": 41, "connect": 42,
    "accept": 43, "munmap": 11,
    "sendto": 44, "recvfrom": 45, "sendmsg": 46, "recvmsg": 47, "bind": 49, "listen": 50, "getsockname": 51,
    "getpeername": 52, "setsockopt": 54, "getsockopt": 55, "clone": 56, "fork": 57, "vfork": 58, "uname": 63,
    "ptrace": 101, "prctl": 157, "getdents": 78,
    "creat": 85, "readlink": 89, "getxattr": 191, "lgetxattr": 192, "listxattr": 194, "llistxattr": 195,
    "getdents64": 217, "openat": 257, "newfstatat": 262, "readlinkat": 267, "faccessat": 269,
    "accept4": 288, "recvmmsg": 299, "sendmmsg": 307, "seccomp": 317, "memfd_create": 319, "statx": 332,
    "pivot_root": 155, "chroot": 161, "mount": 165, "unshare": 272, "setns": 308, "move_mount": 429,
    "io_uring_setup": 425, "clone3": 435, "openat2": 437, "faccessat2": 439,
}  # fmt: skip


class X8664(WordRegisters):
    """x86-64, measured and tested."""

    name = "x86_64"
    audit = AUDIT_ARCH
    syscall_numbers = NUMBERS
    layout = _WORDS
    result_at = RAX

    def argument_index(self, position: int) -> int:
        return _ARGUMENTS[position]

    def set_call(self, tid: int, words: list[int], sysno: int) -> None:
        changed = list(words)
        changed[ORIG_RAX] = sysno & _MASK
        self.set_registers(tid, changed)

    def skip(self, tid: int, result: int) -> None:
        ptrace.poke_user(tid, ORIG_RAX * 8, -1)
        ptrace.poke_user(tid, RAX * 8, result)

    def set_result(self, tid: int, words: list[int], result: int) -> None:
        changed = list(words)
        changed[RAX] = result & _MASK
        # orig_rax -1: the kernel must not take this result for one of its own that asks for a restart.
        changed[ORIG_RAX] = _MASK
        self.set_registers(tid, changed)

    def set_interrupted(self, tid: int, words: list[int], sysno: int, result: int) -> None:
        changed = list(words)
        changed[RAX] = result & _MASK
        changed[ORIG_RAX] = sysno & _MASK
        self.set_registers(tid, changed)

    def rewound(self, words: list[int], sysno: int) -> list[int]:
        changed = list(words)
        changed[RIP] -= _SYSCALL_INSTRUCTION_BYTES
        changed[RAX] = sysno & _MASK
        changed[ORIG_RAX] = _MASK
        return changed

    def sysno(self, words: list[int]) -> int:
        return words[ORIG_RAX]

    def skip_and_rewind(self, tid: int, words: list[int], sysno: int) -> None:
        self.set_registers(tid, self.rewound(words, sysno))
