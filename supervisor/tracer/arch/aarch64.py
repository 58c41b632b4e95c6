"""aarch64: `struct user_pt_regs` of <asm/ptrace.h>, syscall number in x8, NT_ARM_SYSTEM_CALL to change it.

Written from the kernel's headers and tested against recorded register sets; no aarch64 machine has run it yet.
"""

from __future__ import annotations

import struct

from .. import ptrace
from .base import WordRegisters

_WORDS = struct.Struct("<34Q")
_MASK = 0xFFFFFFFFFFFFFFFF
X0, X8, PC = 0, 8, 32
_SYSCALL_INSTRUCTION_BYTES = 4

AUDIT_ARCH = 0xC00000B7

NUMBERS: dict[str, int] = {
    "close": 57,
    "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14, "lremovexattr": 15, "getcwd": 17,
    "inotify_add_watch": 27,
    "mknodat": 33, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38, "statfs": 43,
    "truncate": 45, "chdir": 49, "fchmodat": 53, "fchownat": 54, "utimensat": 88, "execve": 221,
    "name_to_handle_at": 264, "renameat2": 276, "execveat": 281, "open_tree": 428, "fchmodat2": 452,
    "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466, "file_getattr": 468,
    "file_setattr": 469,
    "ioctl": 29, "fchdir": 50, "setsockopt": 208,
    "getxattr": 8, "lgetxattr": 9, "listxattr": 11, "llistxattr": 12,
    "faccessat": 48, "openat": 56, "getdents64": 61, "readlinkat": 78, "newfstatat": 79, "fstat": 80, "uname": 160,
    "ptrace": 117, "prctl": 167,
    "socket": 198, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "getsockname": 204, "getpeername": 205,
    "sendto": 206, "recvfrom": 207, "getsockopt": 209, "sendmsg": 211, "recvmsg": 212, "clone": 220, "mmap": 222,
    "munmap": 215, "accept4": 242, "recvmmsg": 243, "sendmmsg": 269, "seccomp": 277, "memfd_create": 279, "statx": 291,
    "mount": 40, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268, "move_mount": 429,
    "io_uring_setup": 425, "clone3": 435, "openat2": 437, "faccessat2": 439,
}  # fmt: skip


class AArch64(WordRegisters):
    """aarch64, unverified on real hardware."""

    name = "aarch64"
    audit = AUDIT_ARCH
    syscall_numbers = NUMBERS
    layout = _WORDS
    result_at = X0

    def argument_index(self, position: int) -> int:
        return X0 + position

    def set_call(self, tid: int, words: list[int], sysno: int) -> None:
        self.set_registers(tid, words)
        self._set_sysno(tid, sysno)

    def skip(self, tid: int, result: int) -> None:
        words = self.registers(tid)
        words[X0] = result & _MASK
        self.set_registers(tid, words)
        self._set_sysno(tid, -1)

    def set_result(self, tid: int, words: list[int], result: int) -> None:
        changed = list(words)
        changed[X0] = result & _MASK
        self.set_registers(tid, changed)

    def set_interrupted(self, tid: int, words: list[int], sysno: int, result: int) -> None:
        # The kernel restarts from orig_x0, which no regset shows or changes.
        self.set_result(tid, words, result)

    def rewound(self, words: list[int], sysno: int) -> list[int]:
        # x8 still holds the number and x0, at entry, the first argument: only the program counter goes back.
        changed = list(words)
        changed[PC] -= _SYSCALL_INSTRUCTION_BYTES
        changed[X8] = sysno & _MASK
        return changed

    def sysno(self, words: list[int]) -> int:
        return words[X8]

    def skip_and_rewind(self, tid: int, words: list[int], sysno: int) -> None:
        self.set_registers(tid, self.rewound(words, sysno))
        self._set_sysno(tid, -1)

    def _set_sysno(self, tid: int, sysno: int) -> None:
        ptrace.set_register_set(tid, struct.pack("<i", sysno), ptrace.NT_ARM_SYSTEM_CALL)
