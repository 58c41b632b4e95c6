"""Register sets recorded on a real machine at a seccomp stop of openat(AT_FDCWD, ...), and what becomes of them."""

from __future__ import annotations

import os
import struct

import pytest
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.arch.x86_64 import ORIG_RAX, R8, R9, R10, RAX, RDI, RDX, RIP, RSI, RSP, X8664

# r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags rsp ss fs_base gs_base ds es fs gs
RECORDED = [
    0x7FF1E7E41000, 0x7FF1E7E40AE0, 0x7FF1E7E41000, 0x0, 0x7FFD0A3C5B60, 0x7FF1E7E41180, 0x246, 0x0, 0x7FFD0A3C5AA0,
    0x7, 0xFFFFFFFFFFFFFFDA, 0x7FF1E7E2B6E8, 0x80000, 0x7FF1E7E31C5A, 0xFFFFFF9C, 0x101, 0x7FF1E7E2B6E8, 0x33, 0x246,
    0x7FFD0A3C5A98, 0x2B, 0x7FF1E7E0A740, 0x0, 0x0, 0x0, 0x0, 0x0,
]  # fmt: skip
_FULL = 0xFFFFFFFFFFFFFFFF


class Registers:
    """Stands for one tracee's registers in the kernel."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.words = list(RECORDED)
        patch.setattr(ptrace, "get_register_set", lambda tid, size: struct.pack("<27Q", *self.words)[:size])
        patch.setattr(ptrace, "set_register_set", self._set)
        patch.setattr(ptrace, "poke_user", self._poke)

    def _set(self, tid: int, content: bytes) -> None:
        self.words = list(struct.unpack("<27Q", content))

    def _poke(self, tid: int, offset: int, value: int) -> None:
        self.words[offset // 8] = value & _FULL

    def changed(self) -> dict[int, int]:
        return {index: word for index, (word, old) in enumerate(zip(self.words, RECORDED, strict=True)) if word != old}


@pytest.fixture
def registers(monkeypatch: pytest.MonkeyPatch) -> Registers:
    return Registers(monkeypatch)


def test_what_is_where(registers: Registers) -> None:
    arch = X8664()
    words = arch.registers(1)
    assert words == RECORDED
    assert arch.sysno(words) == 257
    assert arch.result(words) == -38
    assert [arch.argument_index(position) for position in range(6)] == [RDI, RSI, RDX, R10, R8, R9]
    assert words[arch.argument_index(0)] == 0xFFFFFF9C
    assert (words[RIP], words[RSP]) == (0x7FF1E7E2B6E8, 0x7FFD0A3C5A98)


def test_skip_gives_the_result_and_no_call(registers: Registers) -> None:
    X8664().skip(1, -2)
    assert registers.changed() == {ORIG_RAX: _FULL, RAX: _FULL - 1}


def test_set_call_replaces_number_and_arguments_only(registers: Registers) -> None:
    words = list(RECORDED)
    words[RSI] = 0x1000
    X8664().set_call(1, words, 9)
    assert registers.changed() == {RSI: 0x1000, ORIG_RAX: 9}


def test_a_replaced_result_is_not_taken_for_a_restart(registers: Registers) -> None:
    X8664().set_result(1, list(RECORDED), -512)
    assert registers.changed() == {RAX: _FULL - 511, ORIG_RAX: _FULL}


def test_the_kernels_restart_stays_one(registers: Registers) -> None:
    X8664().set_interrupted(1, list(RECORDED), 257, -512)
    assert registers.changed() == {RAX: _FULL - 511}


def test_rewound_the_instruction_runs_again_with_the_same_number(registers: Registers) -> None:
    words = X8664().rewound(RECORDED, 257)
    changed = {index for index in range(27) if words[index] != RECORDED[index]}
    assert changed == {RIP, RAX, ORIG_RAX}
    assert (words[RIP], words[RAX], words[ORIG_RAX]) == (RECORDED[RIP] - 2, 257, _FULL)
    X8664().skip_and_rewind(1, RECORDED, 257)
    assert registers.words == words


def test_the_layout_is_this_machines() -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("another machine")
    from rig import CALL, Child, apart, syscall

    @apart
    def compare() -> None:
        child = Child(lambda: syscall(CALL, 11, 12, 13, 14, 15, 16))
        child.next()
        arch = X8664()
        words = arch.registers(child.pid)
        assert [words[arch.argument_index(position)] for position in range(6)] == [11, 12, 13, 14, 15, 16]
        _, _, ip, sp, sysno, *_ = ptrace.call_at_stop(child.pid)
        assert (words[RIP], words[RSP], arch.sysno(words)) == (ip, sp, sysno)
        child.kill()

    compare()
