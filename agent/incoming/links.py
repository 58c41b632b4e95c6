"""What a routed connection consists of: its peer's socket, sockets to the pod's container, streams to the client.

All alike to whoever drives them: bytes and ends come by `Driver`, and go out in order, without bound; the driver looks at
`unsent_bytes` and pauses those that feed a slow one.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from collections import deque
from typing import Deque, Optional, Protocol, Union

from ..pump.loop import READ, WRITE, Timer
from ..pump.session import Session
from .listeners import abort

CHUNK_BYTES = 64 * 1024
_MOST_BUFFERS = 64
LINGER_S = 5.0
"""After an orderly close: how long the other side may take to close as well, and be listened to."""


class Driver(Protocol):
    """Whom a link reports to, by its number. Nothing more comes of a link after `failed` or `gone`."""

    def received(self, number: int, data: bytes) -> None:
        """Bytes."""
        ...

    def ended(self, number: int) -> None:
        """No more bytes will come."""
        ...

    def failed(self, number: int, code: int) -> None:
        """It was reset, or could not be opened."""
        ...

    def drained(self, number: int) -> None:
        """Some of what was unsent has been sent."""
        ...

    def gone(self, number: int) -> None:
        """It was closed as asked."""
        ...


class Link(Protocol):
    """One of the connections."""

    unsent_bytes: int

    def send(self, data: bytes) -> None:
        """Behind what was sent before."""
        ...

    def send_eof(self) -> None:
        """No more will be sent."""
        ...

    def close(self, code: int) -> None:
        """0: after what was sent. Else a reset at once. Nothing is received any more."""
        ...

    def pause(self, paused: bool) -> None:
        """Whether to leave unread what comes."""
        ...


class SocketLink:
    """A non-blocking socket, connected or still connecting. Owns it."""

    def __init__(self, session: Session, driver: Driver, number: int, sock: socket.socket, connected: bool) -> None:
        self.unsent_bytes = 0
        self._loop = session.loop
        self._driver = driver
        self._number = number
        self._sock = sock
        self._connecting = not connected
        self._unsent: Deque[Union[bytes, memoryview]] = deque()
        self._eof_wanted = self._write_ended = self._read_ended = False
        self._paused = self._closing = self._closed = False
        self._linger: Optional[Timer] = None
        self._events = -1
        self._update()

    def send(self, data: bytes) -> None:
        """See Link."""
        if self._closed or self._eof_wanted:
            return
        rest: Union[bytes, memoryview] = data
        if not self._unsent and not self._connecting:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._fail(error)
                return
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
        self._unsent.append(rest)
        self.unsent_bytes += len(rest)
        self._update()

    def send_eof(self) -> None:
        """See Link."""
        self._eof_wanted = True
        self._advance()

    def close(self, code: int) -> None:
        """See Link."""
        if self._closed:
            return
        if code:
            self._end(reset=True)
            self._driver.gone(self._number)
            return
        self._closing = self._eof_wanted = True
        self._paused = False
        # What is closed while there is something unread is reset by the kernel, and what we sent last would be lost.
        self._linger = self._loop.call_later(LINGER_S, self._lingered)
        self._advance()

    def pause(self, paused: bool) -> None:
        """See Link."""
        self._paused = paused and not self._closing
        self._update()

    def _ready(self, events: int) -> None:
        try:
            if events & WRITE:
                self._write()
            if events & READ and not self._closed and not self._connecting:
                if self._paused or self._read_ended:
                    self._check_broken()
                else:
                    self._read()
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error)

    def _read(self) -> None:
        data = self._sock.recv(CHUNK_BYTES)
        if self._closing:
            self._read_ended = self._read_ended or not data
            self._advance()
        elif data:
            self._driver.received(self._number, data)
        else:
            self._read_ended = True
            self._update()
            self._driver.ended(self._number)

    def _write(self) -> None:
        if self._connecting:
            code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, "connect")
            self._connecting = False
        unsent = self._unsent
        if unsent:
            sent = self._sock.sendmsg([unsent[i] for i in range(min(len(unsent), _MOST_BUFFERS))])
            self.unsent_bytes -= sent
            while unsent and sent >= len(unsent[0]):
                sent -= len(unsent.popleft())
            if sent:
                unsent[0] = memoryview(unsent[0])[sent:]
            if not self._closing:
                self._driver.drained(self._number)
        self._advance()

    # What is to be done once all is sent.
    def _advance(self) -> None:
        if self._closed:
            return
        if not self._unsent and not self._connecting:
            if self._eof_wanted and not self._write_ended:
                self._write_ended = True
                with contextlib.suppress(OSError):  # ENOTCONN: reset by its peer, which reading will tell
                    self._sock.shutdown(socket.SHUT_WR)
            if self._closing and self._read_ended:
                self._end(reset=False)
                self._driver.gone(self._number)
                return
        self._update()

    def _lingered(self) -> None:
        if not self._closed:
            self._end(reset=bool(self._unsent))
            self._driver.gone(self._number)

    def _check_broken(self) -> None:
        code = self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(OSError(code, "broken"))
        else:
            self._loop.unwatch(self._sock.fileno())  # hung up: it shows again when we read or write
            self._events = -1

    def _fail(self, error: OSError) -> None:
        if self._closed:
            return
        closing = self._closing
        self._end(reset=True)
        if closing:
            self._driver.gone(self._number)
        else:
            self._driver.failed(self._number, error.errno or errno.ECONNRESET)

    def _end(self, reset: bool) -> None:
        self._closed = True
        self._unsent.clear()
        self.unsent_bytes = 0
        if self._linger is not None:
            self._linger.cancel()
        self._loop.unwatch(self._sock.fileno())
        if reset:
            abort(self._sock)
        else:
            self._sock.close()

    def _update(self) -> None:
        if self._closed:
            return
        events = WRITE if self._unsent or self._connecting else 0
        if not (self._paused or self._read_ended or self._connecting):
            events |= READ
        if events == 0 and self._paused:
            if self._events >= 0:
                self._loop.unwatch(self._sock.fileno())
                self._events = -1
        elif events != self._events:
            self._events = events
            self._loop.watch(self._sock.fileno(), events, self._ready)


class StreamLink:
    """A stream to the client. It was opened and announced already."""

    def __init__(self, session: Session, driver: Driver, number: int, stream: int) -> None:
        self.unsent_bytes = 0
        self._session = session
        self._connection = session.connection
        self._driver = driver
        self._number = number
        self._stream = stream
        self._unsent: Deque[Union[bytes, memoryview]] = deque()
        self._eof_wanted = self._write_ended = self._read_ended = False
        self._paused = self._closing = self._closed = False
        self._withheld_bytes = 0
        self._linger: Optional[Timer] = None
        session.join(stream, self)

    def send(self, data: bytes) -> None:
        """See Link."""
        if self._closed or self._eof_wanted or not data:
            return
        self._unsent.append(data)
        self.unsent_bytes += len(data)
        self._flush()

    def send_eof(self) -> None:
        """See Link."""
        self._eof_wanted = True
        self._flush()

    def close(self, code: int) -> None:
        """See Link."""
        if self._closed:
            return
        if code:
            self._end(code)
            self._driver.gone(self._number)
            return
        self._closing = self._eof_wanted = True
        self.pause(False)
        self._linger = self._session.loop.call_later(LINGER_S, self._lingered)
        self._flush()

    # What comes is bounded by the stream's window: only the credit for it is kept back.
    def pause(self, paused: bool) -> None:
        """See Link."""
        self._paused = paused
        if not paused and self._withheld_bytes:
            withheld, self._withheld_bytes = self._withheld_bytes, 0
            self._connection.consumed(self._stream, withheld)
            self._session.flush_soon()

    def _flush(self) -> None:
        if self._closed:
            return
        unsent = self._unsent
        while unsent:
            window = min(self._connection.send_window(self._stream), CHUNK_BYTES)
            if window == 0:
                return
            if not self._session.has_room():
                self._session.wait_for_room(self)
                return
            data = unsent.popleft()
            if len(data) > window:
                unsent.appendleft(memoryview(data)[window:])
                data = memoryview(data)[:window]
            self.unsent_bytes -= len(data)
            self._connection.send_data(self._stream, data)
            self._session.flush_soon()
        if self._eof_wanted and not self._write_ended:
            self._write_ended = True
            self._connection.send_eof(self._stream)
            self._session.flush_soon()
        self._finish_if_over()

    def _finish_if_over(self) -> None:
        if self._write_ended and self._read_ended and not self._closed:
            self._closed = True
            if self._linger is not None:
                self._linger.cancel()
            self._session.forget(self._stream)
            if self._closing:
                self._driver.gone(self._number)

    def _lingered(self) -> None:
        if not self._closed:
            self._end(0)
            self._driver.gone(self._number)

    def _end(self, code: int) -> None:
        self._closed = True
        self._unsent.clear()
        self.unsent_bytes = 0
        if self._linger is not None:
            self._linger.cancel()
        self._session.reset(self._stream, code)
        self._session.forget(self._stream)

    # -- from the stream ----------------------------------------------------------------------------------------------

    def on_data(self, data: memoryview) -> None:
        """Bytes of the client's program."""
        if self._paused:
            self._withheld_bytes += len(data)
        else:
            self._connection.consumed(self._stream, len(data))
        if not self._closing and not self._closed:
            self._driver.received(self._number, bytes(data))

    def on_eof(self) -> None:
        """It has said all."""
        self._read_ended = True
        if not self._closing and not self._closed:
            self._driver.ended(self._number)
        self._finish_if_over()

    def on_reset(self, code: int) -> None:
        """It, or the session, has ended the stream."""
        if self._closed:
            return
        self._closed = True
        self._unsent.clear()
        self.unsent_bytes = 0
        if self._linger is not None:
            self._linger.cancel()
        self._session.forget(self._stream)
        if self._closing:
            self._driver.gone(self._number)
        else:
            self._driver.failed(self._number, code or errno.ECONNRESET)

    def on_room(self) -> None:
        """There is credit again."""
        before = self.unsent_bytes
        self._flush()
        if self.unsent_bytes < before and not self._closing and not self._closed:
            self._driver.drained(self._number)

    def settled(self) -> bool:
        """Whether all was queued."""
        return not self._unsent
