"""A `Bridge` for TCP, which has more than bytes: urgent data (tcp(7), MSG_OOB).

TCP's urgent data is a mark in the stream, and the one byte before it is read apart from the others. The kernel reports
it by EPOLLPRI as soon as it is there; what comes before it in the stream may still be unread. recv(2) never goes past a
mark in one call, so the place is found by asking, after each recv(2), whether the socket is at the mark now. From there
a notice goes to the other end: how many bytes lie before the mark, and the byte. Notices may overtake bytes: the other
end writes up to that place, sends the byte as urgent, and goes on. A second mark before the first was reached replaces it,
and its byte becomes an ordinary one, as in the kernel.
"""

from __future__ import annotations

import contextlib
import fcntl
import socket
import struct
from collections import deque
from typing import Deque, Optional, Tuple

from ..wire.messages import Urgent
from .bridge import Bridge
from .ends import Host, OnEnd
from .loop import URGENT

_SIOCATMARK = 0x8905


class TcpBridge(Bridge):
    """One TCP socket on one stream; its SO_OOBINLINE must be off."""

    _watched_too = URGENT

    def __init__(self, host: Host, stream: int, sock: socket.socket, on_end: Optional[OnEnd]) -> None:
        self._byte: Optional[int] = None  # read, but the bytes before it are not all read yet
        self._marks: Deque[Tuple[int, int]] = deque()  # to be written: (place, byte)
        self._read_bytes = 0
        self._written_bytes = 0
        super().__init__(host, stream, sock, on_end)

    # -- from the stream ----------------------------------------------------------------------------------------------

    def on_urgent(self, position: int, byte: int) -> None:
        """Urgent data behind `position` bytes of the stream, which may still be to come."""
        if self._closed:
            return
        self._marks.append((position, byte))
        self._try_to_send()

    def on_data(self, data: memoryview) -> None:
        """See `End`."""
        if not self._marks or self._closed:
            super().on_data(data)
            return
        self._keep(data)
        self._try_to_send()

    def _try_to_send(self) -> None:
        try:
            self._send_pending()
        except BlockingIOError:
            pass
        except OSError as error:
            self._broken(error.errno or 0)
            return
        self._update()

    def _written(self, size: int) -> None:
        self._written_bytes += size
        super()._written(size)

    def _send_pending(self) -> None:
        while self._marks:
            distance = self._marks[0][0] - self._written_bytes
            self._has_mark = distance <= 0
            if distance <= 0:
                self._sock.send(bytes((self._marks[0][1],)), socket.MSG_OOB)
                self._marks.popleft()
                self._has_mark = False
            elif not self._send_first(distance):
                return
        if self._pending:
            super()._send_pending()

    # Of what waits, bytes before the mark alone; False if there are none.
    def _send_first(self, distance: int) -> bool:
        if not self._pending:
            return False
        first = memoryview(self._pending[0])
        sent = self._sock.send(first[:distance])
        self._written(sent)
        self._host.flush_soon()
        if sent == len(first):
            self._pending.popleft()
        else:
            self._pending[0] = first[sent:]
        return True

    # -- from the socket ----------------------------------------------------------------------------------------------

    def _ready(self, events: int) -> None:
        if events & URGENT and not self._closed:
            with contextlib.suppress(OSError, IndexError):  # taken already
                self._byte = self._sock.recv(1, socket.MSG_OOB)[0]
            self._tell_at_mark()
        super()._ready(events)

    def _receive(self, size: int) -> bytes:
        data = super()._receive(size)
        self._read_bytes += len(data)
        if self._byte is not None:
            self._tell_at_mark()
        return data

    # Called with the bytes before this place on their way, or about to be.
    def _tell_at_mark(self) -> None:
        if self._byte is None:
            return
        answer = fcntl.ioctl(self._sock.fileno(), _SIOCATMARK, bytes(4))
        if struct.unpack("=i", answer)[0]:
            self._connection.send(Urgent(self._stream, self._read_bytes, self._byte))
            self._byte = None
            self._host.flush_soon()
