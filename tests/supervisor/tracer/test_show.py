"""Lines of --trace."""

from __future__ import annotations

import io
import socket
import struct
from collections.abc import Generator
from typing import cast

import pytest
from mirrord_trace.supervisor.tracer.call import ActiveCall
from mirrord_trace.supervisor.tracer.show import Tracer
from mirrord_trace.supervisor.tracer.tracee import Tracee
from mirrord_trace.syscalls.actions import Decision, Handling, Reason, Route, SyscallError

_LOCAL = Decision(Route.LOCAL, Reason.DEFAULT_LOCAL)


class FakeTracee:
    """Memory as a mapping from addresses to bytes."""

    tid = 77

    def __init__(self, memory: dict[int, bytes]) -> None:
        self.memory = memory

    def read(self, address: int, size_bytes: int) -> bytes:
        if address not in self.memory or size_bytes < 0:
            raise SyscallError(14)
        return self.memory[address][:size_bytes]

    def read_string(self, address: int, limit: int = 4096) -> bytes:
        return self.read(address, limit)


def _line(name: str, args: tuple[int, ...], result: int, decision: Decision, memory: dict[int, bytes]) -> str:
    def nothing() -> Generator[None, None, None]:
        yield

    one, two, three, four, five, six = (*args, 0, 0, 0, 0, 0, 0)[:6]
    call = ActiveCall(0, (one, two, three, four, five, six), 0, 0, name, cast(Handling, nothing()))
    output = io.StringIO()
    Tracer(output).observe(cast(Tracee, FakeTracee(memory)), call, result, decision)
    return output.getvalue()


def test_a_path_its_flags_and_the_pods_path() -> None:
    decision = Decision(Route.REMOTE, Reason.FS_MODE, b"/pod/path")
    line = _line("openat", (0xFFFFFF9C, 0x1000, 0x80000, 0), 3, decision, {0x1000: b"/app/config"})
    assert line == '[77] openat(AT_FDCWD, "/app/config", 0x80000, 0) = 3 <remote "/pod/path": feature.fs.mode>\n'


def test_a_process_that_is_skipped() -> None:
    output = io.StringIO()
    Tracer(output).skipped(7, b"/usr/bin/git", "skip_build_tools")
    assert output.getvalue() == '[7] "/usr/bin/git" is not supervised: skip_build_tools\n'


@pytest.mark.parametrize("name", ["openat2", "faccessat2"])
def test_calls_newer_than_the_prototypes(name: str) -> None:
    assert f'{name}(AT_FDCWD, "/x", ' in _line(name, (0xFFFFFF9C, 0x1000, 0x2000, 24), -2, _LOCAL, {0x1000: b"/x"})


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (struct.pack("<H", socket.AF_INET) + struct.pack(">H4s8x", 80, bytes((10, 0, 0, 1))), "10.0.0.1:80"),
        (struct.pack("<H", socket.AF_INET6) + struct.pack(">HI16sI", 443, 0, bytes(15) + b"\1", 0), "[::1]:443"),
        (struct.pack("<H", socket.AF_UNIX) + b"/run/x\0", 'unix:"/run/x"'),
        (struct.pack("<H", socket.AF_NETLINK) + bytes(10), "family"),
    ],
)
def test_addresses(content: bytes, shown: str) -> None:
    line = _line("connect", (5, 0x1000, len(content)), -115, _LOCAL, {0x1000: content})
    assert line.startswith("[77] connect(5, ")
    assert shown in line
    assert "-1 EINPROGRESS" in line


def test_what_cannot_be_read_is_its_address() -> None:
    assert "openat(3, 0xdead, 0, 0) = -1 EFAULT" in _line("openat", (3, 0xDEAD, 0, 0), -14, _LOCAL, {}).replace("0x0", "0")
    assert "connect(5, 0xdead, -1)" in _line("connect", (5, 0xDEAD, 0xFFFFFFFF), -14, _LOCAL, {})


def test_long_and_strange_paths() -> None:
    line = _line("openat", (3, 0x1000), -36, _LOCAL, {0x1000: b"/\xff\n" + b"a" * 1000})
    assert "\\xff" in line
    assert "…" in line
    assert len(line) < 400


def test_a_call_that_a_signal_interrupted() -> None:
    line = _line("connect", (5, 0, 0), -512, _LOCAL, {})
    assert "512" not in line
    assert "a signal came first" in line


def test_a_call_without_prototype() -> None:
    assert _line("no_such_call", (1,), 0, _LOCAL, {}).startswith("[77] no_such_call(")
