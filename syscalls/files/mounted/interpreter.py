"""How the kernel starts what is no program by itself: "#!" lines, and argument arrays made anew."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple

from ...actions import Scratch, SyscallError
from ...task import Task

_LINE_BYTES = 256
"""BINPRM_BUF_SIZE: what the kernel looks at of a file."""

_PAGE = 4096
_WORD = 8
ARGUMENTS_LIMIT_BYTES = 2 << 20
"""Pointers and new strings together; the kernel takes no more than a quarter of an 8 MiB stack by default."""


class Script(NamedTuple):
    """A "#!" line: the interpreter, and at most one argument."""

    interpreter: bytes
    arguments: tuple[bytes, ...]


def parse_script(head: bytes) -> Script | None:
    """load_script() of fs/binfmt_script.c; None: it is no script, or the kernel says ENOEXEC."""
    if not head.startswith(b"#!"):
        return None
    line, newline, _ = head[2:_LINE_BYTES].partition(b"\n")
    line = line.strip(b" \t")
    parts = line.replace(b"\t", b" ").partition(b" ")
    interpreter = parts[0].partition(b"\0")[0]
    cut_off = not newline and len(head) >= _LINE_BYTES and not parts[1]
    if not interpreter or cut_off:
        return None
    argument = line[len(parts[0]) :].lstrip(b" \t").partition(b"\0")[0]
    return Script(interpreter, (argument,) if argument else ())


def read_array(task: Task, address: int) -> list[int]:
    """The pointers of a NULL-terminated array (argv). EFAULT; E2BIG if there are too many."""
    pointers: list[int] = []
    while address:
        size_bytes = _PAGE - address % _PAGE
        content = task.read(address, max(size_bytes - size_bytes % _WORD, _WORD))
        for position in range(0, len(content), _WORD):
            pointer = int.from_bytes(content[position : position + _WORD], "little")
            if not pointer:
                return pointers
            pointers.append(pointer)
        if len(pointers) * _WORD > ARGUMENTS_LIMIT_BYTES:
            raise SyscallError(errno.E2BIG)
        address += len(content)
    return pointers


def array(strings: Sequence[bytes | int]) -> Scratch:
    """An argv of these: bytes are put behind the array, numbers are pointers of the tracee's. E2BIG if it is too much."""
    content = bytearray((len(strings) + 1) * _WORD)
    places: list[tuple[int, int]] = []
    for position, string in enumerate(strings):
        at = position * _WORD
        if isinstance(string, int):
            content[at : at + _WORD] = string.to_bytes(_WORD, "little")
        else:
            places.append((at, len(content)))
            content += string + b"\0"
    if len(content) > ARGUMENTS_LIMIT_BYTES:
        raise SyscallError(errno.E2BIG)
    return Scratch(bytes(content), tuple(places))
