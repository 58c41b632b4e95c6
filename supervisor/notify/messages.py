"""struct msghdr on a thread's behalf: sendmsg(2), recvmsg(2) and their like, with descriptors that travel along.

Nothing here waits: MSG_DONTWAIT is added to every call.
"""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import struct
from typing import NamedTuple

from ...syscalls.abi import msghdr
from ...syscalls.abi.flags import to_int32
from ...syscalls.actions import SyscallError
from ..tracer.tracee import Tracee
from .calls import Frame
from .workers import call

MSG_DONTWAIT = 0x40
_MSG_NOSIGNAL = 0x4000
_MSG_CMSG_CLOEXEC = 0x40000000

LARGEST = 4 << 20
"""As much as one call moves; streams may always move less."""

_MOST_PIECES = 1024
_MOST_CONTROL = 1 << 16
_MOST_NAME = 128
_PIECE = struct.Struct("=QQ")
_CONTROL = struct.Struct("=Qii")
_CONTROL_LENGTH_AT = 40
_HEADER = struct.Struct("=QI4xQQQQI4x")
_SYS_SENDMSG, _SYS_RECVMSG = {"x86_64": (46, 47)}.get(os.uname().machine, (211, 212))


class Outgoing(NamedTuple):
    """A message to be sent. `control`: as in memory, with descriptors of the thread's."""

    content: bytes
    name: bytes
    control: bytes


def outgoing(frame: Frame, index: int, stride: int) -> Outgoing:
    """The message number `index` of those at argument 1 of a call; `stride`: the size of each header there."""
    scratch = frame.scratch.get(1)
    start = index * stride
    if scratch is None:
        content = frame.task.read(frame.args[1] + start, msghdr.MSGHDR_BYTES)
    else:
        content = scratch.content[start : start + msghdr.MSGHDR_BYTES]
    header = msghdr.decode(content)
    size = min(header.name_length, _MOST_NAME)
    target = dict(scratch.pointers).get(start + msghdr.NAME_OFFSET) if scratch is not None else None
    if target is not None and scratch is not None:
        name = scratch.content[target : target + size]
    else:
        name = frame.task.read(header.name, size) if header.name and size else b""
    length = min(header.control_length, _MOST_CONTROL)
    control = frame.task.read(header.control, length) if header.control and length else b""
    return Outgoing(_gathered(frame.task, header), name, control)


def _pieces(task: Tracee, header: msghdr.MessageHeader) -> list[tuple[int, int]]:
    if header.iovec_count > _MOST_PIECES:
        raise SyscallError(errno.EMSGSIZE)
    content = task.read(header.iovec, msghdr.IOVEC_BYTES * header.iovec_count) if header.iovec_count else b""
    return [(address, length) for address, length in _PIECE.iter_unpack(content)]


def _gathered(task: Tracee, header: msghdr.MessageHeader) -> bytes:
    content = b""
    for address, length in _pieces(task, header):
        size = min(length, LARGEST - len(content))
        content += task.read(address, size) if size else b""
    return content


def send(fd: int, task: Tracee, message: Outgoing, flags: int) -> int:
    """sendmsg(2) by our duplicate: the result or -errno. SIGPIPE is for the caller to send."""
    message_flags = to_int32(flags | MSG_DONTWAIT | _MSG_NOSIGNAL)
    owned: list[int] = []
    try:
        control = _encoded(_decoded(task, message.control, owned))
        return _message_call(_SYS_SENDMSG, fd, message.content, message.name, control, message_flags)[0]
    except OSError as error:
        return -(error.errno or errno.EIO)
    finally:
        for copy in owned:
            os.close(copy)


_Ancillary = list[tuple[int, int, bytes]]


class _Places(NamedTuple):
    # Memory of ours for one message, and its header.
    header: ctypes.Array[ctypes.c_char]
    content: ctypes.Array[ctypes.c_char]
    name: ctypes.Array[ctypes.c_char]
    control: ctypes.Array[ctypes.c_char]


def _message_call(sysno: int, fd: int, content: bytes, name: bytes, control: bytes, flags: int) -> tuple[int, _Places]:
    # sendmsg(2) or recvmsg(2) by the number: names are sockaddrs as they are, for which Python has no form.
    parts = [ctypes.create_string_buffer(part, max(len(part), 1)) for part in (content, name, control)]
    at = [ctypes.addressof(part) for part in parts]
    vector = ctypes.create_string_buffer(_PIECE.pack(at[0], len(content)), _PIECE.size)
    header = ctypes.create_string_buffer(
        _HEADER.pack(
            at[1] if name else 0, len(name), ctypes.addressof(vector), 1, at[2] if control else 0, len(control), 0
        ),
        _HEADER.size,
    )
    return call(sysno, fd, header, flags), _Places(header, *parts)


def _decoded(task: Tracee, control: bytes, owned: list[int]) -> _Ancillary:
    found = []
    at = 0
    while at + _CONTROL.size <= len(control):
        length, level, kind = _CONTROL.unpack_from(control, at)
        if length < _CONTROL.size:
            raise SyscallError(errno.EINVAL)
        content = control[at + _CONTROL.size : at + length]
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            numbers = array.array("i", content[: len(content) // 4 * 4])
            owned.extend(task.duplicate(number) for number in numbers)
            content = array.array("i", owned[-len(numbers) :] if numbers else []).tobytes()
        found.append((level, kind, content))
        at += -(-length // 8) * 8
    return found


def _encoded(ancillary: _Ancillary) -> bytes:
    pieces = [
        (_CONTROL.pack(_CONTROL.size + len(content), level, kind) + content).ljust(
            -(-(_CONTROL.size + len(content)) // 8) * 8, b"\0"
        )
        for level, kind, content in ancillary
    ]
    return b"".join(pieces)


class Received(NamedTuple):
    """What recvmsg(2) has brought. `length`: its result, with MSG_TRUNC more than there is of `content`."""

    length: int
    content: bytes
    name: bytes
    control: bytes
    flags: int


def receive(fd: int, size: int, control_room: int, flags: int) -> Received | int:
    """recvmsg(2) by our duplicate, or -errno."""
    room = bytes(min(control_room, _MOST_CONTROL))
    result, places = _message_call(_SYS_RECVMSG, fd, bytes(size), bytes(_MOST_NAME), room, to_int32(flags | MSG_DONTWAIT))
    if result < 0:
        return result
    header = msghdr.decode(places.header.raw)
    return Received(
        result,
        places.content.raw[: min(result, size)],
        places.name.raw[: header.name_length],
        places.control.raw[: header.control_length] if room else b"",
        header.flags,
    )


def incoming(frame: Frame, fd: int, index: int, stride: int, flags: int) -> int:
    """Receive into the message header number `index` at argument 1: the result or -errno."""
    task, address = frame.task, frame.args[1] + index * stride
    header = msghdr.decode(task.read(address, msghdr.MSGHDR_BYTES))
    pieces = _pieces(task, header)
    size = min(sum(length for _, length in pieces), LARGEST)
    received = receive(fd, size, header.control_length if header.control else 0, flags)
    if isinstance(received, int):
        return received
    rest = received.content
    for place, length in pieces:
        if rest:
            task.write(place, rest[:length])
        rest = rest[length:]
    name_length = header.name_length
    if header.name:
        task.write(header.name, received.name[: header.name_length])
        name_length = len(received.name)
    task.write(address + msghdr.NAME_LENGTH_OFFSET, name_length.to_bytes(4, "little"))
    control = _handed_on(frame, received.control, bool(flags & _MSG_CMSG_CLOEXEC))
    if control:
        task.write(header.control, control)
    task.write(address + _CONTROL_LENGTH_AT, len(control).to_bytes(8, "little") + received.flags.to_bytes(4, "little"))
    return received.length


# Descriptors that have come to us are the thread's.
def _handed_on(frame: Frame, control: bytes, close_on_exec: bool) -> bytes:
    changed = bytearray(control)
    at = 0
    while at + _CONTROL.size <= len(control):
        length, level, kind = _CONTROL.unpack_from(control, at)
        if length < _CONTROL.size:
            break
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            for place in range(at + _CONTROL.size, at + length - 3, 4):
                number = frame.give(int.from_bytes(control[place : place + 4], "little"), close_on_exec=close_on_exec)
                changed[place : place + 4] = struct.pack("=i", number)
        at += -(-length // 8) * 8
    return bytes(changed)


def write_name(task: Tracee, address: int, length_at: int, name: bytes) -> None:
    """Put a socket's name where a call wants it, and its length, as the kernel does."""
    room = to_int32(int.from_bytes(task.read(length_at, 4), "little"))
    if room < 0:
        raise SyscallError(errno.EINVAL)
    if name[:room]:
        task.write(address, name[:room])
    task.write(length_at, len(name).to_bytes(4, "little"))


def set_length(frame: Frame, index: int, length: int) -> None:
    """msg_len of a struct mmsghdr at argument 1."""
    task = frame.task
    task.write(frame.args[1] + index * msghdr.MMSGHDR_BYTES + msghdr.MSG_LEN_OFFSET, length.to_bytes(4, "little"))
