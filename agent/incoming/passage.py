"""Two sockets, joined: a connection that goes on to the pod's container, both ways, with half-close and reset.

What the peer sends may be *tapped* (mirror). A tap is told and never asked: nothing it does holds back the connection.
How the kernel reports the ends of a connection is told in pump/bridge.py.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Callable, Optional, Protocol, Union

from ..pump.loop import READ, WRITE, Loop
from .listeners import abort

_CHUNK_BYTES = 64 * 1024
_SMALL_CHUNK_BYTES = 8 * 1024


class Tap(Protocol):
    """Is told what the peer sends."""

    def data(self, data: bytes) -> None:
        """Bytes."""
        ...

    def eof(self) -> None:
        """No more bytes will come."""
        ...

    def broken(self, code: int) -> None:
        """The connection was reset, by whichever side. Nothing more comes."""
        ...


class _Side:
    # One of the two sockets. `pending`: what could not be written to it yet; nothing is read from the other meanwhile.
    __slots__ = ("chunk_bytes", "connecting", "events", "fd", "other", "pending", "read_ended", "sock", "write_ended")

    def __init__(self, sock: socket.socket, connecting: bool) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.connecting = connecting
        self.pending: Union[bytes, memoryview] = b""
        self.read_ended = False
        self.write_ended = False
        self.events = -1
        self.chunk_bytes = _SMALL_CHUNK_BYTES
        self.other = self


class Passage:
    """Joins `peer` and `pod`, non-blocking sockets of its own. `connected`: whether `pod` is, or still connects.

    `early` was read from the peer already. `on_end(passage)` when both are closed. `quiet` is set by whoever looks at the
    passage from time to time, and taken back when something moves.
    """

    __slots__ = ("_loop", "_on_end", "_peer", "_pod", "_tap", "_waiting", "closed", "quiet")

    def __init__(
        self,
        loop: Loop,
        peer: socket.socket,
        pod: socket.socket,
        connected: bool,
        on_end: "Callable[[Passage], None]",
        tap: Optional[Tap] = None,
        early: bytes = b"",
    ) -> None:
        self._loop = loop
        self._on_end = on_end
        self._tap = tap
        self.closed = False
        self.quiet = False
        self._waiting = bool(early)
        self._peer = _Side(peer, connecting=False)
        self._pod = _Side(pod, connecting=not connected)
        self._peer.other, self._pod.other = self._pod, self._peer
        if early:
            self._pod.pending = early
            if tap is not None:
                tap.data(early)
        self._update(self._peer)
        self._update(self._pod)

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything, as far as can be seen: the peer had the last answer."""
        return not (self._waiting or self._peer.pending or self._pod.pending or self._pod.connecting)

    def finish(self) -> None:
        """Close both in order."""
        if not self.closed:
            self._over()

    def abort(self, code: int = errno.ECONNRESET) -> None:
        """Reset both."""
        if self.closed:
            return
        if self._tap is not None:
            self._tap.broken(code)
        self._close()
        abort(self._peer.sock)
        abort(self._pod.sock)
        self._on_end(self)

    def _ready(self, side: _Side, events: int) -> None:
        try:
            if events & WRITE:
                self._writable(side)
            if events & READ and not self.closed:
                if side.read_ended or side.other.pending:
                    self._check_broken(side)
                else:
                    self._read(side)
        except BlockingIOError:
            pass
        except OSError as error:
            self.abort(error.errno or errno.ECONNRESET)

    def _read(self, side: _Side) -> None:
        if side.connecting:
            return
        data = side.sock.recv(side.chunk_bytes)
        self.quiet = False
        self._waiting = side is self._peer
        other = side.other
        if not data:
            self._ended(side)
            return
        side.chunk_bytes = _CHUNK_BYTES if len(data) >= _SMALL_CHUNK_BYTES else _SMALL_CHUNK_BYTES
        if self._tap is not None and side is self._peer:
            self._tap.data(data)
        if other.connecting:
            other.pending = data
        else:
            try:
                sent = other.sock.send(data)
            except BlockingIOError:
                sent = 0
            if sent == len(data):
                return
            other.pending = memoryview(data)[sent:]
        self._update(side)
        self._update(other)

    def _ended(self, side: _Side) -> None:
        side.read_ended = True
        if self._tap is not None and side is self._peer:
            self._tap.eof()
        if not side.other.pending and not side.other.connecting:
            self._shut_down(side.other)
        self._update(side)
        self._finish_if_over()

    def _writable(self, side: _Side) -> None:
        if side.connecting:
            code = side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "connect")
            side.connecting = False
        if side.pending:
            sent = side.sock.send(side.pending)
            side.pending = memoryview(side.pending)[sent:] if sent < len(side.pending) else b""
        if not side.pending:
            if side.other.read_ended:
                self._shut_down(side)
            self._update(side)
            self._update(side.other)
            self._finish_if_over()

    def _shut_down(self, side: _Side) -> None:
        if not side.write_ended:
            side.write_ended = True
            with contextlib.suppress(OSError):  # ENOTCONN: reset by its peer, which reading will tell
                side.sock.shutdown(socket.SHUT_WR)

    def _check_broken(self, side: _Side) -> None:
        code = side.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.abort(code)
        else:
            self._loop.unwatch(side.fd)  # hung up: what comes of it shows when we read or write again
            side.events = -1

    def _finish_if_over(self) -> None:
        if self._peer.write_ended and self._pod.write_ended and not self.closed:
            self._over()

    def _over(self) -> None:
        self._close()
        self._peer.sock.close()
        self._pod.sock.close()
        if self._tap is not None and not self._peer.read_ended:
            self._tap.eof()
        self._on_end(self)

    def _close(self) -> None:
        self.closed = True
        self._loop.unwatch(self._peer.fd)
        self._loop.unwatch(self._pod.fd)

    def _update(self, side: _Side) -> None:
        if self.closed:
            return
        events = WRITE if side.pending or side.connecting else 0
        paused = bool(side.other.pending)
        if not (side.read_ended or paused or side.connecting):
            events |= READ
        if events == 0 and (paused or side.write_ended):
            if side.events >= 0:
                self._loop.unwatch(side.fd)
                side.events = -1
        elif events != side.events:
            side.events = events
            self._loop.watch(side.fd, events, lambda mask: self._ready(side, mask))
