"""Calls on sockets, made on a thread's behalf through a duplicate of its socket, without ever waiting.

A duplicate (pidfd_getfd(2)) is the same open socket. A call that would wait is made again when the socket is ready, unless
the socket or the call is non-blocking; its time-out (SO_RCVTIMEO, SO_SNDTIMEO) is kept here. Results, and descriptors that
come with them, are put where the kernel would have put them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator

from ...syscalls.abi.flags import to_int32
from ...syscalls.abi.msghdr import MMSGHDR_BYTES
from ...syscalls.actions import SyscallError
from .calls import Frame
from .messages import LARGEST, MSG_DONTWAIT, Outgoing, incoming, outgoing, receive, send, set_length, write_name
from .workers import call

_SOCK_NONBLOCK = 0x800
_SOCK_CLOEXEC = 0x80000
_MSG_NOSIGNAL = 0x4000
_MSG_FASTOPEN = 0x20000000
_MSG_WAITFORONE = 0x10000
_IN_PROGRESS = (-errno.EINPROGRESS, -errno.EALREADY)
_TIMEVAL = struct.Struct("=qq")
_SYS_TGKILL = 234 if os.uname().machine == "x86_64" else 131

NAMES = frozenset(
    {
        "socket", "connect", "bind", "listen", "getsockopt", "accept", "accept4", "sendto", "sendmsg", "sendmmsg",
        "recvfrom", "recvmsg", "recvmmsg",
    }
)  # fmt: skip
"""The calls that can be made so."""

Attempt = Callable[[], "int | None"]
"""The result (-errno), or None: it would have to wait."""


class SocketCall:
    """One such call. `attempt` may be called again when `events` (poll(2)) have come, until `deadline_s` at the latest."""

    def __init__(self, frame: Frame, name: str, numbers: dict[str, int]) -> None:
        self.name = name
        self.fd = -1
        self.events = select.POLLIN
        self.deadline_s: float | None = None
        self.has_timeout = False
        self._frame = frame
        self._numbers = numbers
        self._calls: dict[str, Attempt] = {
            "socket": self._socket, "connect": self._connect, "bind": self._bind, "listen": self._listen,
            "getsockopt": self._getsockopt, "accept": self._accept, "accept4": self._accept,
            "sendto": self._sendto, "sendmsg": self._sendmsg, "sendmmsg": self._sendmmsg,
            "recvfrom": self._recvfrom, "recvmsg": self._recvmsg, "recvmmsg": self._recvmmsg,
        }  # fmt: skip
        self._has_begun = False
        self._sent = 0
        if name != "socket":
            self.fd = frame.task.duplicate(to_int32(frame.args[0]))

    @property
    def is_patient(self) -> bool:
        """Whether the thread's own call would wait."""
        if self.name in ("recvfrom", "sendto", "recvmmsg", "sendmmsg") and self._frame.args[3] & MSG_DONTWAIT:
            return False
        if self.name in ("recvmsg", "sendmsg") and self._frame.args[2] & MSG_DONTWAIT:
            return False
        return not fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_NONBLOCK

    def attempt(self) -> int | None:
        """The result, or None if it is to be waited for."""
        try:
            result = self._calls[self.name]()
        except SyscallError as error:
            return -error.errno
        except OSError as error:
            return -(error.errno or errno.EIO)
        if result is None:
            self._set_deadline()
        return result

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline_s is not None and time.monotonic() >= self.deadline_s

    def late(self) -> int:
        """The result when the deadline has passed."""
        if self.name == "connect":
            return -errno.EINPROGRESS if self._has_begun else -errno.EALREADY
        return -errno.EAGAIN

    def close(self) -> None:
        """Give the duplicate back."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _set_deadline(self) -> None:
        if self.deadline_s is not None or self.has_timeout:
            return
        option = socket.SO_RCVTIMEO if self.events == select.POLLIN else socket.SO_SNDTIMEO
        with self._socket_object() as own:
            seconds, micros = _TIMEVAL.unpack(own.getsockopt(socket.SOL_SOCKET, option, _TIMEVAL.size))
        if seconds or micros:
            self.has_timeout = True
            self.deadline_s = time.monotonic() + seconds + micros / 1e6

    def _socket_object(self) -> socket.socket:
        return socket.socket(fileno=os.dup(self.fd))

    # -- making and naming ----------------------------------------------------------------------------------------------

    def _call(self, name: str, *arguments: int | bytes) -> int:
        return call(self._numbers[name], *arguments)

    def _socket(self) -> int:
        args = self._frame.args
        fd = self._call("socket", *(to_int32(value) for value in args[:3]))
        return fd if fd < 0 else self._frame.give(fd, close_on_exec=bool(args[1] & _SOCK_CLOEXEC))

    def _name(self, position: int) -> bytes:
        size = to_int32(self._frame.args[position + 1])
        if not 0 <= size <= 128:
            raise SyscallError(errno.EINVAL)
        return self._frame.content(position, size) if size else b""

    def _bind(self) -> int:
        name = self._name(1)
        return self._call("bind", self.fd, name, len(name))

    def _listen(self) -> int:
        return self._call("listen", self.fd, to_int32(self._frame.args[1]))

    def _getsockopt(self) -> int:
        frame = self._frame
        room = to_int32(int.from_bytes(frame.content(4, 4), "little"))
        if room < 0:
            return -errno.EINVAL
        with self._socket_object() as own:
            value = own.getsockopt(to_int32(frame.args[1]), to_int32(frame.args[2]), min(max(room, 1), 1024))
        frame.task.write(frame.args[3], value[:room])
        frame.task.write(frame.args[4], min(room, len(value)).to_bytes(4, "little"))
        return 0

    # A connect that has begun is gone on with, as the thread's own call would: the name does not count any more.
    def _connect(self) -> int | None:
        self.events = select.POLLOUT
        name = self._name(1)
        with self._without_waiting() as patient:
            result = self._call("connect", self.fd, name, len(name))
        self._has_begun = self._has_begun or result == -errno.EINPROGRESS
        return None if result in _IN_PROGRESS and patient else result

    @contextlib.contextmanager
    def _without_waiting(self) -> Iterator[bool]:
        flags = fcntl.fcntl(self.fd, fcntl.F_GETFL)
        patient = not flags & os.O_NONBLOCK
        if patient:
            fcntl.fcntl(self.fd, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        try:
            yield patient
        finally:
            if patient:
                fcntl.fcntl(self.fd, fcntl.F_SETFL, flags)

    def _accept(self) -> int | None:
        frame = self._frame
        flags = frame.args[3] if self.name == "accept4" else 0
        with self._without_waiting() as patient:
            result = self._accept_now(to_int32(flags))
        if isinstance(result, int):
            return None if result == -errno.EAGAIN and patient else result
        fd, name = result
        number = frame.give(fd, close_on_exec=bool(flags & _SOCK_CLOEXEC))
        if number >= 0 and not frame.is_null(1):
            write_name(frame.task, frame.args[1], frame.args[2], name)
        return number

    def _accept_now(self, flags: int) -> int | tuple[int, bytes]:
        name, size = ctypes.create_string_buffer(128), ctypes.create_string_buffer((128).to_bytes(4, "little"), 4)
        fd = call(self._numbers["accept4"], self.fd, name, size, flags)
        if fd < 0:
            return fd
        return fd, name.raw[: int.from_bytes(size.raw, "little")]

    # -- sending --------------------------------------------------------------------------------------------------------

    def _sendto(self) -> int | None:
        frame, self.events = self._frame, select.POLLOUT
        size = frame.args[2]
        content = frame.content(1, min(size, LARGEST)) if size else b""
        name = b"" if frame.is_null(4) or self._has_begun else self._name(4)
        return self._send(Outgoing(content, name, b""), frame.args[3])

    def _send(self, message: Outgoing, flags: int) -> int | None:
        if self._has_begun:
            flags &= ~_MSG_FASTOPEN
            message = message._replace(name=b"")
        if self._sent:
            message = Outgoing(message.content[self._sent :], message.name, b"")
        task = self._frame.task
        result = send(self.fd, task, message, flags)
        if result == -errno.EPIPE and not flags & _MSG_NOSIGNAL:
            call(_SYS_TGKILL, task.tgid, task.tid, int(signal.SIGPIPE))
        if result == -errno.EINPROGRESS and flags & _MSG_FASTOPEN and self.is_patient:
            self._has_begun = True
            return None
        if result in (-errno.EAGAIN, -errno.EWOULDBLOCK) and self.is_patient:
            return None
        if result < 0:
            return self._sent or result
        self._sent += result
        return None if result < len(message.content) and self.is_patient else self._sent

    def _sendmsg(self) -> int | None:
        self.events = select.POLLOUT
        return self._send(outgoing(self._frame, 0, 0), self._frame.args[2])

    def _sendmmsg(self) -> int | None:
        frame, self.events = self._frame, select.POLLOUT
        count = frame.args[2] & 0xFFFFFFFF
        for index in range(count):
            self._sent = 0
            result = self._send(outgoing(frame, index, MMSGHDR_BYTES), frame.args[3])
            if result is None:
                return index or None
            if result < 0:
                return index or result
            if 1 not in frame.scratch:
                set_length(frame, index, result)
        return count

    # -- receiving ------------------------------------------------------------------------------------------------------

    def _recvfrom(self) -> int | None:
        frame = self._frame
        size = min(frame.args[2], LARGEST)
        received = receive(self.fd, size, 0, frame.args[3])
        if isinstance(received, int):
            return self._again(received)
        frame.task.write(frame.args[1], received.content)
        if not frame.is_null(4):
            write_name(frame.task, frame.args[4], frame.args[5], received.name)
        return received.length

    def _again(self, result: int) -> int | None:
        return None if result == -errno.EAGAIN and self.is_patient else result

    def _recvmsg(self) -> int | None:
        return self._again(incoming(self._frame, self.fd, 0, 0, self._frame.args[2]))

    def _recvmmsg(self) -> int | None:
        frame = self._frame
        count = frame.args[2] & 0xFFFFFFFF
        for index in range(count):
            result = incoming(frame, self.fd, index, MMSGHDR_BYTES, frame.args[3] & ~_MSG_WAITFORONE)
            if result < 0:
                return index or self._again(result)
            set_length(frame, index, result)
        return count
