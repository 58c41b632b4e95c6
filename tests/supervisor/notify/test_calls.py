"""The arguments of a call that is made on a thread's behalf."""

from __future__ import annotations

import ctypes
import os

import pytest
from mirrord_trace.syscalls.actions import Scratch, SyscallError
from notified import FakeListener, own_frame


def test_registers_memory_and_what_takes_their_place() -> None:
    memory = ctypes.create_string_buffer(b"here\0")
    frame = own_frame("getxattr", ctypes.addressof(memory), 0, 3, a1=Scratch(b"there\0rest"), a2=5)
    assert frame.args[2] == 5
    assert (frame.string(0), frame.string(1)) == (b"here", b"there")
    assert (frame.content(0, 2), frame.content(1, 7)) == (b"he", b"there\0r")
    assert [frame.is_null(position) for position in (0, 1, 3)] == [False, False, True]
    with pytest.raises(SyscallError):
        frame.content(3, 1)


def test_a_descriptor_is_given_and_closed() -> None:
    frame = own_frame("openat")
    fd = os.open(os.devnull, os.O_RDONLY)
    number = frame.give(fd, close_on_exec=True)
    assert isinstance(frame.listener, FakeListener)
    assert frame.listener.given == [number]
    with pytest.raises(OSError):
        os.fstat(fd)
    os.close(number)
