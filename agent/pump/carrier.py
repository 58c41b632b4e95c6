"""Carries a connection's bytes over whichever transport there is: reading, writing, the backlog, signs of life."""

from __future__ import annotations

import functools
import time
from collections import deque
from typing import Callable, Deque, List, Optional, Sequence

from ..wire.connection import Connection
from ..wire.errors import LocalProtocolError, RemoteProtocolError
from ..wire.events import Event
from ..wire.frames import Buffer
from .ends import End
from .loop import READ, WRITE, Loop, Timer
from .transport import IOV_MAX, Transport

RECV_BYTES = 256 * 1024
SMALL_RECV_BYTES = 8 * 1024
READS_PER_TURN = 4
BACKLOG_BYTES = 1024 * 1024
RESUME_BACKLOG_BYTES = 512 * 1024
TICK_S = 5.0
JOIN_BYTES = 64 * 1024


class Carrier:
    """The transport side of a session.

    `on_event` gets what the peer did; RemoteProtocolError from it costs the transport. `on_lost(error)`: the transport
    is closed and the connection told. `on_flushed`: called after each attempt to write.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        on_event: Callable[[Event], None],
        on_lost: Callable[[Optional[Exception]], None],
        on_flushed: Callable[[], None],
    ) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self._loop = loop
        self._connection = connection
        self._on_event = on_event
        self._on_lost = on_lost
        self._on_flushed = on_flushed
        self._transport: Optional[Transport] = None
        self._send: Callable[[Sequence[Buffer]], int] = _no_transport
        self._watched = 0
        self._recv_bytes = SMALL_RECV_BYTES  # a large buffer costs 10 µs to make: only while bulk comes
        self._leftover = b""
        self._outbox: List[Buffer] = []
        self._outbox_bytes = 0
        self._flush_due = False
        self._tick_timer: Optional[Timer] = None
        self._waiting_for_room: Deque[End] = deque()

    @property
    def attached(self) -> bool:
        """Whether there is a transport."""
        return self._transport is not None

    @property
    def flushed(self) -> bool:
        """Whether the transport took everything that was queued."""
        return not self._outbox and self._connection.backlog == 0

    def attach(self, transport: Transport, leftover: bytes = b"", peer_received: int = 0) -> None:
        """Begin or go on over `transport`, fresh from the handshake (whose result has the other arguments). Owns it.

        A transport still attached is closed without `on_lost`. RemoteProtocolError if the peer's count is impossible.
        """
        self.detach()
        self._connection.resume(peer_received)
        self._transport = transport
        self._send = getattr(transport, "sendv", None) or functools.partial(_send_joined, transport)
        self._watch()
        self._tick()
        self._leftover = leftover
        if leftover or transport.pending():
            self._loop.call_soon(self._read)
        self.flush_soon()

    def detach(self) -> None:
        """Close the transport, if there is one."""
        transport, self._transport = self._transport, None
        if transport is None:
            return
        self._loop.unwatch(transport.fileno())
        transport.close()
        self._watched = 0
        self._leftover = b""
        self._outbox = []
        self._outbox_bytes = 0
        self._connection.disconnected()
        if self._tick_timer is not None:
            self._tick_timer.cancel()

    def _lose(self, error: Optional[Exception]) -> None:
        if self._transport is None:
            return
        self.detach()
        self._on_lost(error)

    def _tick(self) -> None:
        if self._transport is None:
            return
        if not self._connection.tick(time.monotonic()):
            self._lose(TimeoutError("nothing was heard from the peer for a minute"))
            return
        self._tick_timer = self._loop.call_later(TICK_S, self._tick)
        self.flush_soon()

    # -- out ----------------------------------------------------------------------------------------------------------

    def flush_soon(self) -> None:
        """What was queued goes to the transport before the loop next waits."""
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def has_room(self) -> bool:
        """Whether bulk may be queued."""
        return self._connection.backlog + self._outbox_bytes < BACKLOG_BYTES

    def wait_for_room(self, end: End) -> None:
        """Call the end's `on_room` when the backlog has shrunk."""
        self._waiting_for_room.append(end)

    def _flush(self) -> None:
        self._flush_due = False
        if self._transport is not None:
            try:
                self._write(self._transport)
            except BlockingIOError:
                pass
            except OSError as error:
                self._lose(error)
            self._watch()
            self._offer_room()
        self._on_flushed()

    def _write(self, transport: Transport) -> None:
        while True:
            if not self._outbox:
                self._outbox = self._connection.take()
                self._outbox_bytes = sum(map(len, self._outbox))
                if not self._outbox:
                    break
            self._sent(self._send(self._outbox[:IOV_MAX]))
        if transport.wants_write():
            transport.send(b"")

    def _offer_room(self) -> None:
        waiting = self._waiting_for_room
        if waiting and self._connection.backlog + self._outbox_bytes <= RESUME_BACKLOG_BYTES:
            for _ in range(len(waiting)):
                waiting.popleft().on_room()

    def _sent(self, count: int) -> None:
        self.bytes_sent += count
        self._outbox_bytes -= count
        if self._outbox_bytes == 0:
            self._outbox = []
            return
        done = 0
        for buffer in self._outbox:
            if count < len(buffer):
                break
            count -= len(buffer)
            done += 1
        del self._outbox[:done]
        if count:
            self._outbox[0] = memoryview(self._outbox[0])[count:]

    def _watch(self) -> None:
        transport = self._transport
        if transport is None:
            return
        events = READ | WRITE if self._outbox or transport.wants_write() else READ
        if events != self._watched:
            self._watched = events
            self._loop.watch(transport.fileno(), events, self._ready)

    # -- in -----------------------------------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & READ:
            self._read()
        if events & WRITE:
            self.flush_soon()

    def _read(self) -> None:
        leftover, self._leftover = self._leftover, b""
        if leftover:
            self._take_in(leftover)
        transport = self._transport
        if transport is None:
            return
        for _ in range(READS_PER_TURN):
            size = self._recv_bytes
            try:
                data = transport.recv(size)
            except BlockingIOError:
                break
            except OSError as error:
                self._lose(error)
                return
            if not data:
                self._lose(None)
                return
            self._take_in(data)
            if self._transport is not transport:
                return
            if len(data) == size:
                self._recv_bytes = RECV_BYTES
            elif not transport.pending():
                if len(data) < SMALL_RECV_BYTES:
                    self._recv_bytes = SMALL_RECV_BYTES
                break
        if transport.pending():
            self._loop.call_soon(self._read)
        self.flush_soon()

    def _take_in(self, data: bytes) -> None:
        # Every event of what was received is acted on, even if one of them costs the transport: the peer will be told
        # that we have it. RemoteProtocolError may also come from a callback that looked into a payload.
        self.bytes_received += len(data)
        try:
            for event in self._connection.receive(data):
                self._on_event(event)
        except RemoteProtocolError as error:
            self._lose(error)


def _no_transport(buffers: Sequence[Buffer]) -> int:
    raise LocalProtocolError("sending without a transport")


def _send_joined(transport: Transport, buffers: Sequence[Buffer]) -> int:
    # For transports that take one buffer at a time: large ones as they are, runs of small ones in one piece.
    first = buffers[0]
    if len(buffers) == 1 or len(first) >= JOIN_BYTES:
        return transport.send(first)
    size = count = 0
    while count < len(buffers) and size < JOIN_BYTES:
        size += len(buffers[count])
        count += 1
    return transport.send(b"".join(buffers[:count]))
