"""seccomp(2): the classic BPF program that selects which calls stop, assembled from the table.

Every program starts with the architecture, since the same number means another call under another ABI. On x86-64 a
process can also enter the kernel by `int 0x80` (i386) and with bit 30 of the number set (x32); both get a stop with
their own code, where the tracer refuses them loudly. The kernel caches, per number, whether a filter allows a call
without looking at its arguments: calls outside the table cost next to nothing.

Jumps in classic BPF reach 255 instructions; the numbers are therefore searched by a binary tree whose leaves hold at
most a few comparisons, and argument tests are placed behind it.
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass

LD_ABS = 0x20
JEQ = 0x15
JGE = 0x35
JSET = 0x45
JA = 0x05
RET = 0x06
ALU_AND = 0x54

RET_KILL_PROCESS = 0x80000000
RET_ERRNO = 0x00050000
RET_USER_NOTIF = 0x7FC00000
RET_TRACE = 0x7FF00000
RET_ALLOW = 0x7FFF0000

TRACE_CALL = 0
TRACE_FOREIGN_ABI = 1
"""ret_data of RET_TRACE: a call of the table, or one through an ABI this tool refuses."""

_OFFSET_NR = 0
_OFFSET_ARCH = 4
_OFFSET_ARGS = 16

SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_TSYNC = 1
SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV = 32
PR_SET_NO_NEW_PRIVS = 38

_LONGEST_PROGRAM = 4096
_INSTRUCTION = struct.Struct("<HBBI")


@dataclass(frozen=True)
class NonZero:
    """Stop only if the argument is not 0 (a pointer that the caller may leave out)."""

    argument: int


@dataclass(frozen=True)
class OneOf:
    """Stop only if the argument's low 32 bits, after `mask`, are one of these values."""

    argument: int
    values: tuple[int, ...]
    mask: int = 0xFFFFFFFF


Test = NonZero | OneOf


@dataclass(frozen=True)
class Rule:
    """A call that stops when all of `tests`, or all of one of `alternatives`, hold; or answers `errno` without a stop."""

    sysno: int
    tests: tuple[Test, ...] = ()
    errno: int | None = None
    alternatives: tuple[tuple[Test, ...], ...] = ()


class _Assembler:
    """Instructions with symbolic jump targets. Far jumps are turned into JA, whose offset has 32 bits."""

    def __init__(self) -> None:
        self.code: list[tuple[int, str | None, str | None, int]] = []
        self.labels: dict[str, int] = {}

    def load(self, offset: int) -> None:
        self.code.append((LD_ABS, None, None, offset))

    def give(self, value: int) -> None:
        self.code.append((RET, None, None, value))

    def mask(self, value: int) -> None:
        self.code.append((ALU_AND, None, None, value))

    def jump(self, operation: int, value: int, true: str | None, false: str | None) -> None:
        """A conditional jump; None is the next instruction. Targets are reached by way of JA, so always in range."""
        here = len(self.code)
        self.code.append((operation, f"+{here}t" if true else None, f"+{here}f" if false else None, value))
        if true and false:
            self.labels[f"+{here}t"] = len(self.code)
            self.code.append((JA, true, None, 0))
            self.labels[f"+{here}f"] = len(self.code)
            self.code.append((JA, false, None, 0))
        elif true or false:
            # The side without a target skips the JA.
            side, target = ("t", true) if true else ("f", false)
            self.labels[f"+{here}{side}"] = len(self.code)
            self.code.append((JA, target, None, 0))
            other = "f" if side == "t" else "t"
            operation, _, _, value = self.code[here]
            self.labels[f"+{here}{other}"] = len(self.code)
            self.code[here] = (operation, f"+{here}t", f"+{here}f", value)

    def label(self, name: str) -> None:
        self.labels[name] = len(self.code)

    def bytes(self) -> bytes:
        if len(self.code) > _LONGEST_PROGRAM:
            raise ValueError(f"seccomp program of {len(self.code)} instructions; the kernel takes {_LONGEST_PROGRAM}")
        output = []
        for position, (operation, true, false, value) in enumerate(self.code):
            if operation == JA:
                assert true is not None
                output.append(_INSTRUCTION.pack(JA, 0, 0, self.labels[true] - position - 1))
            else:
                distances = [self.labels[t] - position - 1 if t else 0 for t in (true, false)]
                output.append(_INSTRUCTION.pack(operation, distances[0], distances[1], value))
        return b"".join(output)


def program(rules: Sequence[Rule], audit_arch: int, x32_bit: int = 0, stop: int = RET_TRACE) -> bytes:
    """The BPF program for `rules`, as an array of `struct sock_filter`. Calls without a rule are allowed.

    Calls of another architecture, and those with `x32_bit` set in their number, get RET_TRACE with TRACE_FOREIGN_ABI.
    `stop`: RET_TRACE, or RET_USER_NOTIF, whose listener sees by itself which ABI it is.
    """
    assembler = _Assembler()
    assembler.load(_OFFSET_ARCH)
    assembler.jump(JEQ, audit_arch, None, "foreign")
    assembler.load(_OFFSET_NR)
    if x32_bit:
        assembler.jump(JSET, x32_bit, "foreign", None)
    ordered = sorted(rules, key=lambda rule: rule.sysno)
    if len({rule.sysno for rule in ordered}) != len(ordered):
        raise ValueError("two rules for one syscall number")
    _search(assembler, ordered)
    for rule in ordered:
        if rule.errno is not None or rule.tests:
            _leaf(assembler, rule)
    for name, value in (("trace", stop | TRACE_CALL), ("foreign", stop | TRACE_FOREIGN_ABI)):
        assembler.label(name)
        assembler.give(value)
    assembler.label("allow")
    assembler.give(RET_ALLOW)
    return assembler.bytes()


def _search(assembler: _Assembler, rules: Sequence[Rule]) -> None:
    if len(rules) <= 3:
        for rule in rules:
            plain = rule.errno is None and not rule.tests
            assembler.jump(JEQ, rule.sysno, "trace" if plain else f"rule{rule.sysno}", None)
        _go(assembler, "allow")
        return
    middle = len(rules) // 2
    upper = f"from{rules[middle].sysno}"
    assembler.jump(JGE, rules[middle].sysno, upper, None)
    _search(assembler, rules[:middle])
    assembler.label(upper)
    _search(assembler, rules[middle:])


def _go(assembler: _Assembler, target: str) -> None:
    assembler.code.append((JA, target, None, 0))


def _leaf(assembler: _Assembler, rule: Rule) -> None:
    assembler.label(f"rule{rule.sysno}")
    if rule.errno is not None:
        assembler.give(RET_ERRNO | rule.errno)
        return
    ways = (rule.tests, *rule.alternatives)
    for number, tests in enumerate(ways):
        failed = f"rule{rule.sysno}way{number + 1}" if number + 1 < len(ways) else "allow"
        _all(assembler, tests, f"rule{rule.sysno}way{number}", failed)
        _go(assembler, "trace")
        if failed != "allow":
            assembler.label(failed)


def _all(assembler: _Assembler, tests: Sequence[Test], name: str, failed: str) -> None:
    # Falls through if all tests hold.
    for number, test in enumerate(tests):
        passed = f"{name}passed{number}"
        low = _OFFSET_ARGS + 8 * test.argument
        assembler.load(low)
        if isinstance(test, NonZero):
            assembler.jump(JEQ, 0, None, passed)
            assembler.load(low + 4)
            assembler.jump(JEQ, 0, failed, None)
        else:
            if test.mask != 0xFFFFFFFF:
                assembler.mask(test.mask)
            for value in test.values:
                assembler.jump(JEQ, value, passed, None)
            _go(assembler, failed)
        assembler.label(passed)


def install(code: bytes, *, no_new_privs: bool, flags: int = 0) -> int:
    """seccomp(2): put `code` on the calling thread. OSError as the kernel says (EACCES without no_new_privs or privilege).

    Returns the listener's descriptor with SECCOMP_FILTER_FLAG_NEW_LISTENER, else 0.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if no_new_privs and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_NO_NEW_PRIVS): " + os.strerror(ctypes.get_errno()))
    buffer = ctypes.create_string_buffer(code, len(code))
    header = ctypes.create_string_buffer(struct.pack("<H6xQ", len(code) // 8, ctypes.addressof(buffer)), 16)
    sysno = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
    result = int(libc.syscall(sysno, SECCOMP_SET_MODE_FILTER, flags, header))
    if result < 0:
        raise OSError(ctypes.get_errno(), "seccomp: " + os.strerror(ctypes.get_errno()))
    return result
