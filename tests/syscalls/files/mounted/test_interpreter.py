"""First lines of scripts as the kernel reads them, and argument arrays."""

from __future__ import annotations

import errno

import pytest
from mirrord_trace.syscalls.actions import Scratch, SyscallError
from mirrord_trace.syscalls.files.mounted.interpreter import ARGUMENTS_LIMIT_BYTES, Script, array, parse_script, read_array
from script import FakeTask


@pytest.mark.parametrize(
    ("head", "script"),
    [
        (b"#!/bin/sh\nx", Script(b"/bin/sh", ())),
        (b"#!/bin/sh", Script(b"/bin/sh", ())),
        (b"#! \t/bin/sh\t -e  -x \nx", Script(b"/bin/sh", (b"-e  -x",))),
        (b"#!/usr/bin/env\tpython3\n", Script(b"/usr/bin/env", (b"python3",))),
        (b"#!sh\n", Script(b"sh", ())),
        (b"#!/bin/sh\0junk\n", Script(b"/bin/sh", ())),
        (b"#!\n", None),
        (b"#! \t\n/bin/sh\n", None),
        (b"#!" + b"/" + b"a" * 300 + b"\n", None),
        (b"#!/bin/sh " + b"a" * 300 + b"\n", Script(b"/bin/sh", (b"a" * 246,))),
        (b"\x7fELF", None),
        (b"", None),
    ],
)
def test_the_first_line(head: bytes, script: Script | None) -> None:
    assert parse_script(head) == script


def pointers(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def test_an_array_is_read_to_its_end_over_pages() -> None:
    numbers = list(range(1, 1000))
    task = FakeTask({0x1FF0: pointers(*numbers, 0).ljust(0x3010, b"\xff")})
    assert read_array(task, 0x1FF0) == numbers
    assert read_array(task, 0) == []
    with pytest.raises(SyscallError) as caught:
        read_array(task, 0x9000)
    assert caught.value.errno == errno.EFAULT


def test_an_array_without_end_is_too_much() -> None:
    task = FakeTask({0x10000: bytes([1]) * (ARGUMENTS_LIMIT_BYTES + 0x2000)})
    with pytest.raises(SyscallError) as caught:
        read_array(task, 0x10000)
    assert caught.value.errno == errno.E2BIG


def test_strings_come_behind_the_array() -> None:
    assert array([b"sh", 0x7000, b""]) == Scratch(pointers(0, 0x7000, 0, 0) + b"sh\0\0", ((0, 32), (16, 35)))
    with pytest.raises(SyscallError) as caught:
        array([1] * (ARGUMENTS_LIMIT_BYTES // 8))
    assert caught.value.errno == errno.E2BIG
