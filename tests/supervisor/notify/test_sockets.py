"""Calls on sockets that are made on a thread's behalf: this very process stands for the thread."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket
import struct

from mirrord_trace.supervisor.notify.sockets import SocketCall
from mirrord_trace.syscalls.actions import Scratch
from notified import NUMBERS, own_frame


def _name(of: socket.socket) -> bytes:
    host, port = of.getsockname()
    return struct.pack("=H", socket.AF_INET) + port.to_bytes(2, "big") + socket.inet_aton(host) + bytes(8)


def _made(name: str, *args: int, **replaced: int | Scratch) -> SocketCall:
    return SocketCall(own_frame(name, *args, **replaced), name, NUMBERS)


def _listener() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener


def test_a_connection_is_accepted_without_waiting() -> None:
    with _listener() as listener, socket.socket() as client:
        name, room = ctypes.create_string_buffer(16), ctypes.create_string_buffer((16).to_bytes(4, "little"), 4)
        accepting = _made("accept4", listener.fileno(), ctypes.addressof(name), ctypes.addressof(room), 0)
        assert accepting.attempt() is None
        assert (accepting.events, accepting.deadline_s) == (select.POLLIN, None)
        content = _name(listener)
        connecting = _made("connect", client.fileno(), 0, 0, a1=Scratch(content), a2=len(content))
        while (result := connecting.attempt()) is None:
            select.select([], [client], [])
        assert result == 0
        number = accepting.attempt()
        assert number is not None
        assert number >= 0
        assert name.raw == _name(client)
        os.close(number)
        accepting.close()
        connecting.close()
        assert listener.getblocking()


def test_who_does_not_want_to_wait() -> None:
    with _listener() as listener:
        listener.setblocking(False)
        accepting = _made("accept", listener.fileno())
        assert accepting.attempt() == -errno.EAGAIN
        assert not accepting.is_patient
        accepting.close()


def test_the_time_limit_of_a_socket() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("=qq", 0, 1))
        memory = ctypes.create_string_buffer(10)
        receiving = _made("recvfrom", own.fileno(), ctypes.addressof(memory), 10, 0)
        assert receiving.attempt() is None
        while not receiving.is_late:
            pass
        assert receiving.late() == -errno.EAGAIN
        assert receiving.has_timeout
        content = _name(own)
        sending = _made("sendto", own.fileno(), ctypes.addressof(memory), 4, 0, a4=Scratch(content), a5=len(content))
        memory.raw = b"datagram\0\0"
        assert sending.attempt() == 4
        memory.raw = bytes(10)
        assert receiving.attempt() == 4
        assert memory.value == b"data"
        assert _made("connect", own.fileno(), 0, 0, a1=Scratch(content), a2=16).late() == -errno.EALREADY


def test_binding_and_asking() -> None:
    with socket.socket() as own:
        content = struct.pack("=H", socket.AF_INET) + bytes(2) + socket.inet_aton("127.0.0.1") + bytes(8)
        assert _made("bind", own.fileno(), 0, 0, a1=Scratch(content), a2=len(content)).attempt() == 0
        assert _made("listen", own.fileno(), 5).attempt() == 0
        value, room = ctypes.create_string_buffer(4), ctypes.create_string_buffer((4).to_bytes(4, "little"), 4)
        places = ctypes.addressof(value), ctypes.addressof(room)
        assert _made("getsockopt", own.fileno(), socket.SOL_SOCKET, socket.SO_ACCEPTCONN, *places).attempt() == 0
        assert value.raw[0] == 1
        assert _made("bind", own.fileno(), 8, 16).attempt() == -errno.EFAULT
        assert _made("bind", own.fileno(), 8, 1000).attempt() == -errno.EINVAL


def test_a_socket_is_made_for_the_thread() -> None:
    number = _made("socket", socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0).attempt()
    assert number is not None
    with socket.socket(fileno=number) as own:
        assert own.type == socket.SOCK_DGRAM
    assert _made("socket", 999, 1, 0).attempt() == -errno.EAFNOSUPPORT


def test_many_messages_at_once() -> None:
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        piece = ctypes.create_string_buffer(b"ab", 2)
        vector = ctypes.create_string_buffer(struct.pack("=QQ", ctypes.addressof(piece), 2), 16)
        header = struct.pack("=QI4xQQQQI4xI4x", 0, 0, ctypes.addressof(vector), 1, 0, 0, 0, 0)
        headers = ctypes.create_string_buffer(header * 2, len(header) * 2)
        where = ctypes.addressof(headers)
        assert _made("sendmmsg", one.fileno(), where, 2, 0).attempt() == 2
        assert headers.raw[56] == 2
        assert _made("recvmmsg", other.fileno(), where, 2, 0, 0).attempt() == 2
        assert _made("recvmmsg", other.fileno(), where, 2, socket.MSG_DONTWAIT, 0).attempt() == -errno.EAGAIN
        assert _made("sendmsg", one.fileno(), where, 0).attempt() == 2
        assert _made("recvmsg", other.fileno(), where, 0).attempt() == 2
