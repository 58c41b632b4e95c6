"""The kernel's side of seccomp_unotify(2): one descriptor by which all calls of a filter are told, and answered.

A filtered thread waits in the kernel until its notification is answered. Unlike in a ptrace stop it stays an ordinary
thread meanwhile: a debugger may trace it. With SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (Linux 5.19) it takes no signal
but SIGKILL once the notification has been received, so a call that has begun here is never begun twice.

Every answer may come too late, since the thread may have been killed: ENOENT, a normal outcome.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from typing import NamedTuple

from ...syscalls.context import Args

_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_ADD_DESCRIPTOR = struct.Struct("=QIIII")
_ID = struct.Struct("=Q")

_RECV = 0xC0502100
_SEND = 0xC0182101
_ID_VALID = 0x40082102
_ADDFD = 0x40182103
_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = 1

NOTIFICATION_BYTES = _NOTIFICATION.size
"""sizeof(struct seccomp_notif)."""

_ZEROS = bytes(NOTIFICATION_BYTES)


class Notification(NamedTuple):
    """A call that waits to be answered."""

    id: int
    tid: int
    sysno: int
    audit: int
    ip: int
    args: Args


def decode(content: bytes | bytearray) -> Notification:
    """A struct seccomp_notif."""
    id, tid, _, sysno, audit, ip, *args = _NOTIFICATION.unpack(content)
    return Notification(id, tid, sysno & 0xFFFFFFFF, audit, ip, (args[0], args[1], args[2], args[3], args[4], args[5]))


class Listener:
    """One filter's descriptor; owned from here on. Only one thread may receive; any may answer."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        with contextlib.suppress(OSError):  # Linux 6.6: who answers hands the CPU on as well
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)

    def receive(self) -> Notification | None:
        """The next notification, once poll(2) says that there is one; None if its thread has gone or takes a signal."""
        buffer = bytearray(_ZEROS)
        try:
            fcntl.ioctl(self.fd, _RECV, buffer)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINTR):
                return None
            raise
        return decode(buffer)

    def go_on(self, id: int) -> bool:
        """Have the kernel run the call as it is. False: nobody waits any more."""
        return self._send(_RESPONSE.pack(id, 0, 0, _CONTINUE))

    def answer(self, id: int, result: int) -> bool:
        """Skip the call; its result is this (an errno, or one of the kernel's restart codes, if negative and small)."""
        value, error = (0, result) if -4096 < result < 0 else (result, 0)
        if value >> 63 > 0:
            value -= 1 << 64
        return self._send(_RESPONSE.pack(id, value, error, 0))

    def _send(self, response: bytes) -> bool:
        try:
            fcntl.ioctl(self.fd, _SEND, response)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.EINPROGRESS):
                return False
            raise
        return True

    def give(self, id: int, fd: int, *, close_on_exec: bool) -> int:
        """Open our `fd` in the waiting thread as well (the same open file description). Its number there, or -errno."""
        flags = os.O_CLOEXEC if close_on_exec else 0
        try:
            return int(fcntl.ioctl(self.fd, _ADDFD, bytearray(_ADD_DESCRIPTOR.pack(id, 0, fd, 0, flags))))
        except OSError as error:
            return -(error.errno or errno.EIO)

    def is_valid(self, id: int) -> bool:
        """Whether the thread still waits: what has been read of its memory before this was its own."""
        try:
            fcntl.ioctl(self.fd, _ID_VALID, _ID.pack(id))
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give the descriptor up. Whoever makes a filtered call from now on gets ENOSYS."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
