"""Joins a connected stream socket to a stream: both ways, with back-pressure, half-close and reset.

What the kernel makes of the end of a connection, and what becomes of it here:

- FIN (recv gives b""): EOF. The other direction goes on, for hours if need be.
- RST: recv first gives what was received before it, then ECONNRESET once; epoll reports EPOLLERR|EPOLLHUP. It becomes
  RESET(ECONNRESET). SO_ERROR reads and clears the error: whoever reads it must act on it.
- A received RESET becomes an RST: close(2) with SO_LINGER 0. What the socket takes without blocking is written first.
- EPOLLHUP and EPOLLERR cannot be masked. While reading is paused (no credit), a socket whose both directions ended
  reports EPOLLHUP for ever: it is taken out of epoll until there is credit again.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque
from errno import ECONNRESET
from typing import Deque, Optional

from ..wire.frames import Buffer
from .ends import Host, OnEnd
from .loop import READ, WRITE

CHUNK_BYTES = 128 * 1024 - 64
"""Read at a time while bulk comes. With all headers in front a port-forward carries it in one frame of 128 KiB."""

SMALL_CHUNK_BYTES = 8 * 1024
COPY_BELOW_BYTES = 16 * 1024
"""A view shorter than this is copied if it must wait: it may hold a receive buffer many times its size alive."""

_ABORT = struct.pack("ii", 1, 0)
_MAX_BUFFERS = 64


class Bridge:
    """One socket on one stream. Owns the socket, which must be connected (not connecting)."""

    # For kinds of sockets with more than bytes to carry: what to watch for besides, and whether some of that must wait.
    _watched_too = 0
    _has_mark = False

    def __init__(self, host: Host, stream: int, sock: socket.socket, on_end: Optional[OnEnd]) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._host = host
        self._connection = host.connection
        self._stream = stream
        self._sock = sock
        self._on_end = on_end
        self._pending: Deque[Buffer] = deque()
        self._chunk_bytes = SMALL_CHUNK_BYTES  # a large buffer costs 10 µs to make: only while bulk comes
        self._paused = False
        self._hung_up = False
        self._read_ended = False
        self._eof_received = False
        self._write_ended = False
        self._closed = False
        self._update()

    def settled(self) -> bool:
        """Whether everything that the socket had to say was queued."""
        return self._read_ended or self._closed

    @property
    def delivering(self) -> bool:
        """Whether the socket has still to take the last of what came on the stream."""
        return bool(self._pending) and self._eof_received and not self._closed

    # -- from the stream ----------------------------------------------------------------------------------------------

    def on_data(self, data: memoryview) -> None:
        """To the socket, as much as it takes; the rest waits, and with it the peer's credit."""
        if self._closed:
            return
        if not self._pending:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._broken(error.errno or ECONNRESET)
                return
            self._written(sent)
            if sent == len(data):
                return
            data = data[sent:]
        self._keep(data)
        self._update()

    def on_eof(self) -> None:
        """shutdown(2) of the writing side, behind what waits."""
        self._eof_received = True
        if not (self._pending or self._has_mark):
            self._shut_down()

    def on_reset(self, errno: int) -> None:
        """RST to the socket's peer."""
        if self._closed:
            return
        if self._pending:
            with contextlib.suppress(OSError):  # it gets the reset all the same
                self._send_pending()
        self._close(errno, abort=True)

    def on_room(self) -> None:
        """Reading may go on."""
        if self._paused and not self._closed:
            self._paused = False
            self._hung_up = False
            self._update()

    def _written(self, size: int) -> None:
        self._connection.consumed(self._stream, size)

    def _keep(self, data: memoryview) -> None:
        if len(data) >= COPY_BELOW_BYTES:
            self._pending.append(data)
            return
        last = self._pending[-1] if self._pending else None
        if isinstance(last, bytearray) and len(last) < COPY_BELOW_BYTES:
            last += data
        else:
            self._pending.append(bytearray(data))

    # -- from the socket ----------------------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE and (self._pending or self._has_mark):
                self._write()
            if events & READ and not self._closed:
                if self._paused or self._read_ended:
                    self._check_broken()
                else:
                    self._read()
        except BlockingIOError:
            pass
        except OSError as error:
            self._broken(error.errno or ECONNRESET)

    def _read(self) -> None:
        window = self._connection.send_window(self._stream)
        if window == 0 or not self._host.has_room():
            self._paused = True
            if window:
                self._host.wait_for_room(self)
            self._update()
            return
        size = min(window, self._chunk_bytes)
        data = self._receive(size)
        if data:
            if len(data) == size:
                self._chunk_bytes = CHUNK_BYTES
            elif len(data) < SMALL_CHUNK_BYTES:
                self._chunk_bytes = SMALL_CHUNK_BYTES
            self._connection.send_data(self._stream, data)
        else:
            self._read_ended = True
            self._connection.send_eof(self._stream)
            self._update()
            self._finish_if_over()
        self._host.flush_soon()

    def _receive(self, size: int) -> bytes:
        return self._sock.recv(size)

    def _write(self) -> None:
        self._send_pending()
        if not (self._pending or self._has_mark):
            self._update()
            if self._eof_received:
                self._shut_down()

    def _send_pending(self) -> None:
        pending = self._pending
        sent = self._sock.sendmsg([pending[i] for i in range(min(len(pending), _MAX_BUFFERS))])
        self._written(sent)
        self._host.flush_soon()
        while pending and sent >= len(pending[0]):
            sent -= len(pending.popleft())
        if sent:
            pending[0] = memoryview(pending[0])[sent:]

    def _shut_down(self) -> None:
        if self._write_ended or self._closed:
            return
        self._write_ended = True
        with contextlib.suppress(OSError):  # ENOTCONN: reset by its peer, which reading will tell
            self._sock.shutdown(socket.SHUT_WR)
        self._finish_if_over()

    def _check_broken(self) -> None:
        # EPOLLHUP or EPOLLERR though we did not ask: an error ends it all, a mere hang-up waits for credit.
        errno = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if errno:
            self._broken(errno)
        else:
            self._hung_up = True
            self._update()

    # -- ends ---------------------------------------------------------------------------------------------------------

    def _broken(self, errno: int) -> None:
        self._connection.reset(self._stream, errno)
        self._host.flush_soon()
        self._close(errno, abort=True)

    def _finish_if_over(self) -> None:
        if self._read_ended and self._write_ended and not self._closed:
            self._close(0, abort=False)

    def _close(self, errno: int, abort: bool) -> None:
        self._closed = True
        self._pending.clear()
        self._host.loop.unwatch(self._sock.fileno())
        if abort:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        self._sock.close()
        self._host.forget(self._stream)
        if self._on_end is not None:
            self._on_end(errno)

    def _update(self) -> None:
        events = WRITE if self._pending or self._has_mark else 0
        if not (self._paused or self._read_ended):
            events |= READ
        if events == 0 and self._hung_up:
            self._host.loop.unwatch(self._sock.fileno())
        else:
            self._host.loop.watch(self._sock.fileno(), events | self._watched_too, self._ready)
