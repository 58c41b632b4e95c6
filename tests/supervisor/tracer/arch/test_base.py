"""Both machines offer what the tracer asks for, and know the numbers of all calls it names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from mirrord_trace.supervisor.tracer.arch import native
from mirrord_trace.syscalls.table import rows

_MACHINES = ("x86_64", "aarch64")
_HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
# What the generic header calls otherwise on machines of 64 bit.
_GENERIC = {"3264_fstatat": "newfstatat", "3264_fstat": "fstat", "3264_mmap": "mmap"}
_GENERIC |= {"3264_statfs": "statfs", "3264_truncate": "truncate"}
# Calls that the headers of an older distribution (Linux 6.1) do not know; their numbers are the same on every machine.
_NEWER = {
    "fchmodat2": 452, "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466,
    "file_getattr": 468, "file_setattr": 469,
}  # fmt: skip
_INJECTED = ("mmap", "openat", "memfd_create", "seccomp", "clone", "clone3")


@pytest.mark.parametrize("machine", _MACHINES)
def test_numbers_are_the_kernels(machine: str) -> None:
    header = _HEADERS[machine]
    if not header.exists():
        pytest.skip(f"no {header}: apt-get install linux-libc-dev")
    defined = {
        _GENERIC.get(name, name): int(number)
        for name, number in re.findall(r"^#define __NR(?:_|(?=3264_))(\w+)\s+(\d+)$", header.read_text(), re.MULTILINE)
    }
    numbers = native(machine).syscall_numbers
    assert {name: defined.get(name, _NEWER.get(name)) for name in numbers} == numbers


@pytest.mark.parametrize("machine", _MACHINES)
def test_each_call_has_a_number_of_its_own(machine: str) -> None:
    numbers = native(machine).syscall_numbers
    assert len(set(numbers.values())) == len(numbers)
    assert set(_INJECTED) <= set(numbers)


def test_every_row_of_the_table_exists_somewhere_and_all_modern_ones_everywhere() -> None:
    x86, arm = native("x86_64").syscall_numbers, native("aarch64").syscall_numbers
    names = {row.name for mounted in (False, True) for row in rows(mounted)}
    assert names <= set(x86)
    assert names - set(arm) <= {
        "open", "creat", "stat", "lstat", "access", "readlink", "getdents", "chmod", "chown", "lchown", "mkdir", "mknod",
        "rmdir", "unlink", "rename", "link", "symlink", "utime", "utimes", "futimesat",
    }  # fmt: skip
