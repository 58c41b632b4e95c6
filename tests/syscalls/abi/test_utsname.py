"""Fields of struct new_utsname."""

from __future__ import annotations

import ctypes
import os

from mirrord_trace.syscalls.abi.utsname import NODENAME_AT, pack_field


def test_fields_are_full_and_end_with_nul() -> None:
    assert pack_field(b"pod") == b"pod" + bytes(62)
    assert pack_field(b"") == bytes(65)
    assert pack_field(b"x" * 100) == b"x" * 64 + b"\0"


def test_nodename_is_where_the_kernel_puts_it() -> None:
    buffer = ctypes.create_string_buffer(390)
    assert ctypes.CDLL(None).uname(buffer) == 0
    assert buffer.raw[NODENAME_AT:][:65] == pack_field(os.fsencode(os.uname().nodename))
