"""What the tracer asks of a machine: which register holds what at a syscall stop.

Registers are handled as the list of 64-bit words of NT_PRSTATUS (`struct user_regs_struct`), so that the layouts can be
tested against recorded register sets on any machine.
"""

from __future__ import annotations

import struct
from typing import Protocol

from .. import ptrace


class Arch(Protocol):
    """One machine's register layout and syscall numbers."""

    name: str
    audit: int
    """AUDIT_ARCH_* of the native ABI (seccomp(2), `struct seccomp_data.arch`)."""
    syscall_numbers: dict[str, int]
    """Numbers of the calls this tool names; a call that the machine lacks is absent."""

    def registers(self, tid: int) -> list[int]:
        """The general registers of a stopped tracee, as words of NT_PRSTATUS."""
        ...

    def set_registers(self, tid: int, words: list[int]) -> None:
        """Write them back."""
        ...

    def argument_index(self, position: int) -> int:
        """Index of the word that holds syscall argument 0…5."""
        ...

    def set_call(self, tid: int, words: list[int], sysno: int) -> None:
        """At a seccomp stop: write `words` with the syscall number replaced, so that the kernel runs `sysno`."""
        ...

    def skip(self, tid: int, result: int) -> None:
        """At a seccomp stop: make the kernel skip the call and give the tracee `result`."""
        ...

    def set_result(self, tid: int, words: list[int], result: int) -> None:
        """At a syscall-exit stop: write `words` with the result register replaced."""
        ...

    def set_interrupted(self, tid: int, words: list[int], sysno: int, result: int) -> None:
        """At a syscall-exit stop whose result is -ERESTART*: write `words` so that the kernel still sees its own restart."""
        ...

    def rewound(self, words: list[int], sysno: int) -> list[int]:
        """`words` (as at the call's entry) changed so that the tracee makes the call again when it runs."""
        ...

    def sysno(self, words: list[int]) -> int:
        """The number of the call in progress."""
        ...

    def result(self, words: list[int]) -> int:
        """The result register, signed."""
        ...

    def skip_and_rewind(self, tid: int, words: list[int], sysno: int) -> None:
        """At a seccomp stop: skip the call and have the tracee make it again after pending signals."""
        ...


class WordRegisters:
    """The part of `Arch` that differs between machines only in how many words there are and where the result is."""

    layout: struct.Struct
    """All words of NT_PRSTATUS."""
    result_at: int

    def registers(self, tid: int) -> list[int]:
        """See `Arch.registers`."""
        return list(self.layout.unpack(ptrace.get_register_set(tid, self.layout.size)))

    def set_registers(self, tid: int, words: list[int]) -> None:
        """See `Arch.set_registers`."""
        ptrace.set_register_set(tid, self.layout.pack(*words))

    def result(self, words: list[int]) -> int:
        """See `Arch.result`."""
        value = words[self.result_at]
        return value - (1 << 64) if value >> 63 else value
