"""Which engine a program gets."""

from __future__ import annotations

import pytest
from mirrord_trace.supervisor.config.engine import Engine, is_debugger


@pytest.mark.parametrize("program", ["gdb", "/usr/bin/gdb", "dlv", "/root/go/bin/dlv", "strace", "lldb-17", "gdbserver"])
def test_debuggers(program: str) -> None:
    assert is_debugger(program)
    assert Engine.AUTO.is_notify([program, "./bin"])
    assert not Engine.PTRACE.is_notify([program, "./bin"])


@pytest.mark.parametrize("program", ["./bin", "sh", "/home/gdb/bin", "gdbus", ""])
def test_others(program: str) -> None:
    assert not is_debugger(program)
    assert not Engine.AUTO.is_notify([program])
    assert Engine.NOTIFY.is_notify([program])


def test_no_program() -> None:
    assert not Engine.AUTO.is_notify([])
