"""Ends of streams without a socket: a file's content going out, content coming in, datagrams."""

from __future__ import annotations

import os
import threading
from errno import EIO, EOPNOTSUPP
from typing import Callable, Union

from .ends import Host, OnEnd

READ_BYTES = 128 * 1024


class Consumer:
    """Takes a whole stream that goes one way. Our direction is ended at once."""

    def __init__(self, host: Host, stream: int, on_data: Callable[[memoryview], None], on_end: OnEnd) -> None:
        self._host = host
        self._stream = stream
        self._on_data = on_data
        self._on_end = on_end
        host.connection.send_eof(stream)
        host.flush_soon()

    def on_data(self, data: memoryview) -> None:
        """Passed on; the peer gets its credit back when the callback returns."""
        size = len(data)
        self._on_data(data)
        self._host.connection.consumed(self._stream, size)

    def on_eof(self) -> None:
        """All there."""
        self._host.forget(self._stream)
        self._on_end(0)

    def on_reset(self, errno: int) -> None:
        """It will not be complete."""
        self._host.forget(self._stream)
        self._on_end(errno)

    def on_room(self) -> None:
        """Nothing is sent from here."""

    def settled(self) -> bool:
        """Nothing is sent from here."""
        return True


class Producer:
    """Sends what `fd` holds from its offset on, then EOF; a read error becomes RESET. Owns `fd`.

    Reading a file can block on a slow disk, which no O_NONBLOCK changes. preadv2(2) with RWF_NOWAIT reads only what is
    in the page cache; if it declines (EAGAIN), or the file system does not know it (EOPNOTSUPP), a thread reads.
    """

    def __init__(self, host: Host, stream: int, fd: int) -> None:
        self._host = host
        self._stream = stream
        self._fd = fd
        self._nowait = True
        self._reading = False
        self._over = False

    def begin(self) -> None:
        """Start reading."""
        self._continue()

    def settled(self) -> bool:
        """A closing session does not wait for files."""
        return True

    def on_data(self, data: memoryview) -> None:
        """Nothing is expected; what comes is dropped."""
        self._host.connection.consumed(self._stream, len(data))

    def on_eof(self) -> None:
        """The receiver never sends; its end comes at the start."""

    def on_reset(self, errno: int) -> None:
        """Nobody wants the rest."""
        if not self._over:
            self._finish()

    def on_room(self) -> None:
        """Reading may go on."""
        self._continue()

    def _continue(self) -> None:
        while not self._over and not self._reading:
            window = self._host.connection.send_window(self._stream)
            if window == 0:
                return
            if not self._host.has_room():
                self._host.wait_for_room(self)
                return
            buffer = bytearray(min(window, READ_BYTES))
            try:
                self._have(buffer, os.preadv(self._fd, [buffer], -1, os.RWF_NOWAIT) if self._nowait else None)
            except OSError as error:
                if error.errno != EOPNOTSUPP and not isinstance(error, BlockingIOError):
                    self._fail(error)
                    return
                self._nowait = self._nowait and error.errno != EOPNOTSUPP
                self._have(buffer, None)

    def _have(self, buffer: bytearray, size: Union[int, OSError, None]) -> None:
        # What a read brought; None: it must be done where it may block.
        if size is None:
            self._reading = True
            threading.Thread(target=self._read_slowly, args=(buffer,), daemon=True).start()
        elif isinstance(size, OSError):
            self._fail(size)
        elif size:
            self._host.connection.send_data(self._stream, memoryview(buffer)[:size])
            self._host.flush_soon()
        else:
            self._host.connection.send_eof(self._stream)
            self._host.flush_soon()
            self._finish()

    def _read_slowly(self, buffer: bytearray) -> None:
        outcome: Union[int, OSError]
        try:
            outcome = os.readv(self._fd, [buffer])
        except OSError as error:
            outcome = error
        self._host.loop.call_threadsafe(lambda: self._read_done(buffer, outcome))

    def _read_done(self, buffer: bytearray, outcome: Union[int, OSError]) -> None:
        self._reading = False
        if self._over:
            os.close(self._fd)  # it was reset meanwhile; the thread still had the fd
            return
        self._have(buffer, outcome)
        self._continue()

    def _fail(self, error: OSError) -> None:
        self._host.connection.reset(self._stream, error.errno or EIO)
        self._host.flush_soon()
        self._finish()

    def _finish(self) -> None:
        self._over = True
        if not self._reading:
            os.close(self._fd)
        self._host.forget(self._stream)


class Datagrams:
    """Each DATA frame is a datagram. What comes is passed on at once; what cannot be sent is dropped."""

    def __init__(self, host: Host, stream: int, on_datagram: Callable[[bytes], None], on_end: OnEnd) -> None:
        self._host = host
        self._stream = stream
        self._on_datagram = on_datagram
        self._on_end = on_end

    def send(self, payload: bytes) -> bool:
        """Queue one datagram; False: dropped, for want of credit or room."""
        connection = self._host.connection
        if not payload or not self._host.has_room() or len(payload) > connection.send_window(self._stream):
            return False
        connection.send_data(self._stream, payload)
        self._host.flush_soon()
        return True

    def on_data(self, data: memoryview) -> None:
        """One datagram."""
        self._host.connection.consumed(self._stream, len(data))
        self._on_datagram(bytes(data))

    def on_eof(self) -> None:
        """The peer's socket is closed, so ours has nobody to talk to."""
        self._host.connection.send_eof(self._stream)
        self._host.flush_soon()
        self._host.forget(self._stream)
        self._on_end(0)

    def on_reset(self, errno: int) -> None:
        """The peer's socket failed, or nobody wants it any more."""
        self._host.forget(self._stream)
        self._on_end(errno)

    def on_room(self) -> None:
        """What had no room was dropped."""

    def settled(self) -> bool:
        """Nobody waits for datagrams."""
        return True
