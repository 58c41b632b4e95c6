"""What is carried out at once, since none of it can wait: `GiveFile`, and uname(2)."""

from __future__ import annotations

import ctypes
import errno
import os

from ...syscalls.abi.utsname import FIELD_BYTES
from ...syscalls.actions import GiveFile, Given, SyscallError
from .calls import Frame, NotifiedCall
from .listener import Listener
from .workers import call as make

_UTSNAME_BYTES = 6 * FIELD_BYTES


def give(listener: Listener, call: NotifiedCall, action: GiveFile) -> Given:
    """`GiveFile`: the thread gets an open file description of its own, opened anew by us; our descriptor is closed.

    A readable one in place of one of O_PATH, which the kernel does not let us give away.
    """
    try:
        fd = os.open(f"/proc/self/fd/{action.fd}", action.flags & ~(os.O_CREAT | os.O_PATH) | os.O_CLOEXEC)
    except OSError as error:
        return Given(-(error.errno or errno.EIO), (0, 0))
    finally:
        os.close(action.fd)
    try:
        status = os.fstat(fd)
        call.result = listener.give(call.id, fd, close_on_exec=bool(action.flags & os.O_CLOEXEC))
    finally:
        os.close(fd)
    return Given(call.result, (status.st_dev, status.st_ino))


def uname(frame: Frame, number: int) -> int:
    """uname(2) on the thread's behalf: this machine's names."""
    buffer = ctypes.create_string_buffer(_UTSNAME_BYTES)
    result = make(number, buffer)
    try:
        frame.task.write(frame.args[0], buffer.raw)
    except SyscallError as fault:
        return -fault.errno
    return result
