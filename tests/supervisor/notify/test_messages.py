"""Messages with their names and descriptors: this very process stands for the thread."""

from __future__ import annotations

import array
import ctypes
import errno
import os
import socket
import struct

import pytest
from mirrord_trace.supervisor.notify.messages import Received, incoming, outgoing, receive, send, set_length, write_name
from mirrord_trace.syscalls.actions import Scratch, SyscallError
from notified import own_frame, own_task

_HEADER = struct.Struct("=QI4xQQQQI4x")


class _Message:
    """A struct msghdr in this process's memory."""

    def __init__(self, *pieces: bytes, name: bytes = b"", control: bytes = b"", trailer: int = 0) -> None:
        self.pieces = [ctypes.create_string_buffer(piece, len(piece)) for piece in pieces]
        vector = b"".join(struct.pack("=QQ", ctypes.addressof(piece), len(piece)) for piece in self.pieces)
        self.vector = ctypes.create_string_buffer(vector, max(len(vector), 1))
        self.name = ctypes.create_string_buffer(name, max(len(name), 1))
        self.control = ctypes.create_string_buffer(control, max(len(control), 1))
        names = (ctypes.addressof(self.name) if name else 0, len(name))
        controls = (ctypes.addressof(self.control) if control else 0, len(control))
        content = _HEADER.pack(*names, ctypes.addressof(self.vector), len(pieces), *controls, 0)
        self.header = ctypes.create_string_buffer(content + bytes(trailer), 56 + trailer)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.header)


def _rights(*fds: int) -> bytes:
    content = array.array("i", fds).tobytes()
    return (struct.pack("=Qii", 16 + len(content), socket.SOL_SOCKET, socket.SCM_RIGHTS) + content).ljust(24, b"\0")


def test_a_message_that_is_sent() -> None:
    message = _Message(b"one", b"", b"two", name=b"\x02\x00name")
    sent = outgoing(own_frame("sendmsg", 3, message.address), 0, 0)
    assert (sent.content, sent.name, sent.control) == (b"onetwo", b"\x02\x00name", b"")


def test_a_header_in_scratch_with_a_name_of_ours() -> None:
    message = _Message(b"content", name=b"theirs")
    content = message.header.raw[:8] + (4).to_bytes(4, "little") + message.header.raw[12:] + b"ours"
    sent = outgoing(own_frame("sendmsg", 3, 0, a1=Scratch(content, ((0, 56),))), 0, 0)
    assert (sent.content, sent.name) == (b"content", b"ours")


def test_too_many_pieces() -> None:
    message = _Message(*[b""] * 1025)
    with pytest.raises(SyscallError) as raised:
        outgoing(own_frame("sendmsg", 3, message.address), 0, 0)
    assert raised.value.errno == errno.EMSGSIZE


def test_descriptors_travel_both_ways() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    read, write = os.pipe()
    with one, other:
        message = _Message(b"take it", control=_rights(write))
        frame = own_frame("sendmsg", one.fileno(), message.address)
        assert send(one.fileno(), own_task(), outgoing(frame, 0, 0), 0) == 7
        os.close(write)
        arrived = _Message(bytes(4), bytes(10), control=bytes(64))
        frame = own_frame("recvmsg", other.fileno(), arrived.address)
        assert incoming(frame, other.fileno(), 0, 0, 0) == 7
        assert [piece.raw for piece in arrived.pieces] == [b"take", b" it".ljust(10, b"\0")]
        copy = int.from_bytes(arrived.control.raw[16:20], "little")
        os.write(copy, b"!")
        assert os.read(read, 1) == b"!"
        os.close(copy)
        os.close(read)
        assert send(one.fileno(), own_task(), outgoing(own_frame("sendmsg", 0, _Message(b"x").address), 0, 0), 0) == 1
        assert incoming(frame, other.fileno(), 0, 0, 0) == 1
        assert int.from_bytes(arrived.header.raw[40:48], "little") == 0


def test_names_as_they_come() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        own.sendto(b"12345", own.getsockname())
        arrived = receive(own.fileno(), 3, 0, socket.MSG_TRUNC)
        assert isinstance(arrived, Received)
        assert (arrived.length, arrived.content, len(arrived.name)) == (5, b"123", 16)
        assert receive(own.fileno(), 3, 0, 0) == -errno.EAGAIN
    room = ctypes.create_string_buffer((3).to_bytes(4, "little"), 4)
    place = ctypes.create_string_buffer(16)
    write_name(own_task(), ctypes.addressof(place), ctypes.addressof(room), arrived.name)
    assert place.raw == arrived.name[:3].ljust(16, b"\0")
    assert int.from_bytes(room.raw, "little") == 16
    room.raw = struct.pack("=i", -1)
    with pytest.raises(SyscallError):
        write_name(own_task(), ctypes.addressof(place), ctypes.addressof(room), arrived.name)


def test_the_length_of_each_message() -> None:
    messages = _Message(b"x", trailer=72)
    set_length(own_frame("sendmmsg", 3, messages.address), 1, 5)
    assert int.from_bytes(messages.header.raw[64 + 56 : 64 + 60], "little") == 5
