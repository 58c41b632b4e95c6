"""The numbers are those of the kernel of this machine, and the two machines differ where they should."""

from __future__ import annotations

import os
import platform

import pytest
from mirrord_trace.syscalls.abi import flags

NAMES = [name for name in vars(flags) if name.startswith(("O_", "AT_")) and hasattr(os, name)]


@pytest.mark.parametrize("name", NAMES)
def test_constants_are_those_of_python(name: str) -> None:
    assert vars(flags)[name] == getattr(os, name)


def test_native_bits_are_those_of_python() -> None:
    assert flags.open_flags(platform.machine()) == flags.NATIVE
    assert flags.NATIVE.directory == os.O_DIRECTORY
    assert flags.NATIVE.nofollow == os.O_NOFOLLOW
    assert flags.NATIVE.direct == os.O_DIRECT
    assert flags.TMPFILE_BIT | flags.NATIVE.directory == os.O_TMPFILE
    assert flags.SYNC_BIT | flags.O_DSYNC == os.O_SYNC


def test_no_bit_means_two_things() -> None:
    for bits in (flags.X86_64, flags.AARCH64):
        special = [bits.directory, bits.nofollow, bits.direct, bits.largefile]
        assert len(set(special)) == 4
        assert not any(bit & flags.WRITING for bit in special)
        assert all(bit & bits.valid for bit in special)


def test_the_wire_has_one_numbering() -> None:
    for bits in (flags.X86_64, flags.AARCH64):
        asked = bits.directory | bits.nofollow | flags.O_PATH | flags.O_CLOEXEC | bits.largefile
        assert bits.to_wire(asked) == flags.X86_64.directory | flags.X86_64.nofollow | flags.O_PATH
        assert bits.to_wire(flags.O_CLOEXEC) == 0


@pytest.mark.parametrize(
    ("register", "value"),
    [(0, 0), (3, 3), (0xFFFFFFFF, -1), (0xFFFFFF9C, -100), (2**64 - 100, -100), (0x1_0000_0005, 5), (0x7FFFFFFF, 2**31 - 1)],
)
def test_to_int32_takes_the_low_half(register: int, value: int) -> None:
    assert flags.to_int32(register) == value
