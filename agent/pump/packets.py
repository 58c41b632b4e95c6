"""Joins a unix datagram or seqpacket socket to a stream: every message arrives whole, or not at all.

Unlike UDP these sockets lose nothing: who sends too fast is made to wait. So a message is read only when there is credit
for all of it, and credit goes back only when the other socket has taken it.

A read of 0 bytes is an empty message or the end of a seqpacket connection. SO_PASSCRED tells them apart: with it the
kernel adds the sender's credentials to every message, and to the end nothing.

A datagram socket that nobody has connected (the one that stands for a peer towards a program) answers whoever sent to
it last. epoll(7) calls it writable at all times, so while its addressee's queue is full it tries again by a timer.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections import deque
from errno import EAGAIN, ECONNRESET, EMSGSIZE, ENOBUFS, EOPNOTSUPP, EPROTO
from typing import Callable, Deque, List, Optional, Tuple, Union

from .ends import Host, OnEnd
from .loop import READ, WRITE

MAX_MESSAGE_BYTES = 512 * 1024
"""More than the kernel's default limit (net.core.wmem_max) lets an ordinary user send."""

PART_BYTES = 128 * 1024

_LAST, _MORE = b"\0", b"\1"
_MESSAGES_AT_A_TIME = 16
_RETRY_S = 0.01
_CREDENTIALS_BYTES = socket.CMSG_SPACE(struct.calcsize("3i"))

Name = Union[str, bytes, None]


class Packets:
    """One SOCK_SEQPACKET or SOCK_DGRAM socket of AF_UNIX on one stream. Owns the socket.

    `on_end(errno)` when the socket is closed: 0 after an orderly end. `on_descriptors`: some were passed to us (and
    closed by the kernel); the stream is reset.
    """

    def __init__(
        self, host: Host, stream: int, sock: socket.socket, on_end: Optional[OnEnd], on_descriptors: Callable[[], None]
    ) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MAX_MESSAGE_BYTES)
        self._host = host
        self._connection = host.connection
        self._stream = stream
        self._sock = sock
        self._on_end = on_end
        self._on_descriptors = on_descriptors
        self._has_end = sock.type == socket.SOCK_SEQPACKET
        if self._has_end:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._is_connected = self._has_end or _has_peer(sock)
        self._sender: Name = None
        self._parts: List[bytes] = []
        self._parts_bytes = 0
        self._pending: Deque[Tuple[bytes, int]] = deque()  # messages, and the credit that each holds
        self._retry_planned = False
        self._paused = False
        self._hung_up = False
        self._read_ended = False
        self._eof_received = False
        self._write_ended = False
        self._ending = False
        self._closed = False
        self._update()

    def settled(self) -> bool:
        """Whether everything that the socket had to say was queued. Nobody waits for datagrams still to come."""
        return self._read_ended or self._closed or not (self._has_end or self._ending)

    def end_after_reading(self) -> None:
        """Nobody sends to this datagram socket any more: pass on what it holds, then end the stream."""
        self._ending = True
        self._ready(READ)

    # -- from the stream ----------------------------------------------------------------------------------------------

    def on_data(self, data: memoryview) -> None:
        """A message or a part of one; a whole one goes to the socket, or waits with the peer's credit."""
        if self._closed:
            return
        self._parts.append(bytes(data[1:]))
        self._parts_bytes += len(data)
        if self._parts_bytes > MAX_MESSAGE_BYTES + MAX_MESSAGE_BYTES // PART_BYTES + 1:
            self._broken(EPROTO)
        elif data[:1] == _LAST:
            self._pending.append((b"".join(self._parts), self._parts_bytes))
            self._parts, self._parts_bytes = [], 0
            if len(self._pending) == 1:
                self._write()

    def on_eof(self) -> None:
        """The end of the messages from there, behind those that wait."""
        self._eof_received = True
        if not self._pending:
            self._shut_down()

    def on_reset(self, errno: int) -> None:
        """The socket is closed. What it takes without blocking is written first."""
        if not self._closed:
            with contextlib.suppress(OSError):
                self._send_pending()
            self._close(errno)

    def on_room(self) -> None:
        """Reading may go on."""
        if self._paused and not self._closed:
            self._paused = False
            self._hung_up = False
            self._update()
            if self._ending:
                self._ready(READ)

    # -- from the socket ----------------------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE and self._pending:
                self._write()
            if events & READ and not self._closed:
                if self._paused or self._read_ended:
                    self._check_broken()
                else:
                    self._read()
        except BlockingIOError:
            if self._ending and not self._read_ended:
                self._end_reading()
        except OSError as error:
            self._broken(error.errno or ECONNRESET)

    def _read(self) -> None:
        for _ in range(_MESSAGES_AT_A_TIME):
            size = self._sock.recvmsg_into([bytearray(1)], 0, socket.MSG_PEEK | socket.MSG_TRUNC)[0]
            if not self._has_room_for(size):
                return
            message = self._receive(size)
            if message is None:
                self._end_reading()
                return
            self._send_on(message)
        if self._ending:
            self._host.loop.call_soon(lambda: None if self._closed else self._ready(READ))

    def _has_room_for(self, size: int) -> bool:
        window = self._connection.send_window(self._stream)
        fits = min(size, MAX_MESSAGE_BYTES) + size // PART_BYTES + 1 <= window
        if fits and self._host.has_room():
            return True
        self._paused = True
        if fits:
            self._host.wait_for_room(self)
        self._update()
        return False

    def _receive(self, size: int) -> Optional[bytes]:
        room = _CREDENTIALS_BYTES if self._has_end else 0
        content, control, flags, sender = self._sock.recvmsg(min(max(size, 1), MAX_MESSAGE_BYTES), room)
        if flags & socket.MSG_CTRUNC:
            self._on_descriptors()
            raise OSError(EOPNOTSUPP, os.strerror(EOPNOTSUPP))
        if flags & socket.MSG_TRUNC:
            raise OSError(EMSGSIZE, os.strerror(EMSGSIZE))
        if self._has_end and not content and not control:
            return None
        self._sender = sender
        return content

    def _send_on(self, message: bytes) -> None:
        view = memoryview(message)
        while len(view) > PART_BYTES:
            self._connection.send_data(self._stream, b"".join((_MORE, view[:PART_BYTES])))
            view = view[PART_BYTES:]
        self._connection.send_data(self._stream, b"".join((_LAST, view)))
        self._host.flush_soon()

    def _end_reading(self) -> None:
        self._read_ended = True
        self._connection.send_eof(self._stream)
        self._host.flush_soon()
        self._update()
        self._finish_if_over()

    def _check_broken(self) -> None:
        # EPOLLHUP or EPOLLERR though we did not ask: an error ends it all, a mere hang-up waits for credit.
        errno = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if errno:
            self._broken(errno)
        else:
            self._hung_up = True
            self._update()

    # -- to the socket ------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            self._send_pending()
        except BlockingIOError:
            if not self._is_connected:
                self._plan_retry()
        except OSError as error:
            self._broken(error.errno or ECONNRESET)
            return
        self._update()
        if not self._pending and self._eof_received:
            self._shut_down()

    def _send_pending(self) -> None:
        while self._pending:
            message, credit = self._pending[0]
            self._send(message)
            self._pending.popleft()
            self._connection.consumed(self._stream, credit)
            self._host.flush_soon()

    def _send(self, message: bytes) -> None:
        try:
            if self._is_connected:
                self._sock.send(message)
            elif self._sender:
                self._sock.sendto(message, self._sender)
        except OSError as error:
            # An answer to one who is gone, or a datagram that is too long here, is lost; anything else is an end.
            lost = error.errno in (EMSGSIZE, ENOBUFS) if self._is_connected else error.errno != EAGAIN
            if self._has_end or not lost:
                raise

    def _plan_retry(self) -> None:
        if not self._retry_planned:
            self._retry_planned = True
            self._host.loop.call_later(_RETRY_S, self._retry)

    def _retry(self) -> None:
        self._retry_planned = False
        if not self._closed and self._pending:
            self._write()

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _shut_down(self) -> None:
        if self._write_ended or self._closed:
            return
        self._write_ended = True
        if self._has_end:
            with contextlib.suppress(OSError):  # ENOTCONN: closed by its peer, which reading will tell
                self._sock.shutdown(socket.SHUT_WR)
        elif not self._read_ended:
            self._read_ended = True
            self._connection.send_eof(self._stream)
            self._host.flush_soon()
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._read_ended and self._write_ended and not self._closed:
            self._close(0)

    def _broken(self, errno: int) -> None:
        if not self._closed:
            self._connection.reset(self._stream, errno)
            self._host.flush_soon()
            self._close(errno)

    def _close(self, errno: int) -> None:
        self._closed = True
        self._pending.clear()
        self._parts = []
        self._host.loop.unwatch(self._sock.fileno())
        self._sock.close()
        self._host.forget(self._stream)
        if self._on_end is not None:
            self._on_end(errno)

    def _update(self) -> None:
        if self._closed:
            return
        events = WRITE if self._pending and self._is_connected else 0
        if not (self._paused or self._read_ended):
            events |= READ
        if events == 0 and (self._hung_up or not self._is_connected):
            self._host.loop.unwatch(self._sock.fileno())
        else:
            self._host.loop.watch(self._sock.fileno(), events, self._ready)


def _has_peer(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
