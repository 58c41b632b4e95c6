"""A classic BPF interpreter for `struct seccomp_data`: what the kernel does with a program, without its verifier's mercy."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_INSTRUCTION = struct.Struct("<HBBI")


def run(program: bytes, sysno: int, audit: int, args: Sequence[int] = (), ip: int = 0) -> int:
    """The program's return value for one call."""
    words = [argument & 0xFFFFFFFFFFFFFFFF for argument in (*args, 0, 0, 0, 0, 0, 0)[:6]]
    content = struct.pack("<IIQ6Q", sysno & 0xFFFFFFFF, audit, ip, *words)
    code = list(_INSTRUCTION.iter_unpack(program))
    accumulator, position = 0, 0
    while True:
        operation, true, false, value = code[position]
        position += 1
        if operation == 0x20:
            assert value % 4 == 0
            (accumulator,) = struct.unpack_from("<I", content, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            position += value
        elif operation == 0x06:
            return int(value)
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value != 0}[operation]
            position += true if holds else false


def decides_by_number(program: bytes, sysno: int, audit: int) -> bool:
    """Whether an answer comes without a look at the arguments: only such ALLOWs are cached by the kernel."""
    seen: set[int] = set()
    content = {0: sysno, 4: audit}
    code = list(_INSTRUCTION.iter_unpack(program))
    accumulator, position = 0, 0
    while True:
        operation, true, false, value = code[position]
        position += 1
        if operation == 0x20:
            seen.add(value)
            if value not in content:
                return False
            accumulator = content[value]
        elif operation == 0x05:
            position += value
        elif operation == 0x06:
            return True
        else:
            holds = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value != 0}[operation]
            position += true if holds else false
