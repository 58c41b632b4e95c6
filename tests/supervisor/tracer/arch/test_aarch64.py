"""A register set as <asm/ptrace.h> lays it out, at openat(AT_FDCWD, path, O_RDONLY): aarch64 cannot run here.

Written down from the kernel's documentation, not recorded by this tool on such a machine.
"""

from __future__ import annotations

import struct

import pytest
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.arch.aarch64 import PC, X0, X8, AArch64

# x0 to x30, sp, pc, pstate.
STOPPED = [
    0xFFFFFFFFFFFFFF9C, 0xAAAAC8A10A08, 0x80000, 0x0, 0xFFFFF2D1B7A8, 0x5, 0x1F, 0x7F7F7F7F7F7F7F7F,
    56, 0x101010101010101, 0x8, 0x18, 0xFFFFB1D0A4E0, 0x0, 0x3, 0x0,
    0xAAAAC8A2FF58, 0xFFFFB1BF2B60, 0x73516240, 0xAAAAC8A30000, 0xFFFFF2D1B920, 0x1, 0xAAAAC8A108C0, 0x0,
    0x0, 0x0, 0x0, 0x0, 0x0, 0xFFFFF2D1B790, 0xFFFFB1BF2B9C,
    0xFFFFF2D1B790, 0xFFFFB1BF2BC4, 0x60001000,
]  # fmt: skip
_FULL = 0xFFFFFFFFFFFFFFFF


class Registers:
    """Stands for one tracee's register sets in the kernel: the general ones, and the syscall number beside them."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.words = list(STOPPED)
        self.sysno: int | None = None
        patch.setattr(ptrace, "get_register_set", lambda tid, size: struct.pack("<34Q", *self.words)[:size])
        patch.setattr(ptrace, "set_register_set", self._set)

    def _set(self, tid: int, content: bytes, note: int = ptrace.NT_PRSTATUS) -> None:
        if note == ptrace.NT_ARM_SYSTEM_CALL:
            (self.sysno,) = struct.unpack("<i", content)
        else:
            self.words = list(struct.unpack("<34Q", content))

    def changed(self) -> dict[int, int]:
        return {index: word for index, (word, old) in enumerate(zip(self.words, STOPPED, strict=True)) if word != old}


@pytest.fixture
def registers(monkeypatch: pytest.MonkeyPatch) -> Registers:
    return Registers(monkeypatch)


def test_what_is_where(registers: Registers) -> None:
    arch = AArch64()
    words = arch.registers(1)
    assert words == STOPPED
    assert arch.sysno(words) == arch.syscall_numbers["openat"]
    assert [words[arch.argument_index(position)] for position in range(3)] == [0xFFFFFFFFFFFFFF9C, 0xAAAAC8A10A08, 0x80000]
    assert arch.result([_FULL, *STOPPED[1:]]) == -1


def test_skip_sets_the_number_by_its_own_register_set(registers: Registers) -> None:
    AArch64().skip(1, -2)
    assert registers.changed() == {X0: _FULL - 1}
    assert registers.sysno == -1


def test_set_call_replaces_number_and_arguments(registers: Registers) -> None:
    words = list(STOPPED)
    words[1] = 0x1000
    AArch64().set_call(1, words, 222)
    assert registers.changed() == {1: 0x1000}
    assert registers.sysno == 222


def test_a_result_replaces_the_first_argument(registers: Registers) -> None:
    AArch64().set_result(1, list(STOPPED), 7)
    assert registers.changed() == {X0: 7}


def test_rewound_the_instruction_runs_again(registers: Registers) -> None:
    words = list(STOPPED)
    words[X8] = 222
    assert AArch64().rewound(words, 56) == [*STOPPED[:PC], STOPPED[PC] - 4, STOPPED[33]]
    AArch64().skip_and_rewind(1, STOPPED, 56)
    assert registers.changed() == {PC: STOPPED[PC] - 4}
    assert registers.sysno == -1
