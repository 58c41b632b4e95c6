"""What all port-forward protocols have in common: whole messages of a socket below, a byte stream of the pod above."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from .websocket import Buffer

SEND_SIZE = 128 * 1024 - 8
"""Bytes in one message of ours, which is 128 KiB with SPDY's header: a chunk of the pump (see `agent.pump.bridge`) fits.

Smaller ones cost more everywhere, larger ones the container runtime's memory: it reads dozens ahead, each as a whole."""

ERROR_TEXT_LIMIT = 4096


class ForwardFailed(ConnectionError):
    """The far end could not reach the port (nobody listens yet, the pod is gone); the text is its own."""


class MessageSocket(Protocol):
    """A non-blocking socket with bounded buffers, see `websocket.WebSocket`."""

    messages: deque[Buffer]
    ended: bool

    def fileno(self) -> int:
        """The descriptor to watch, -1 after `close`."""
        ...

    def pull(self) -> None:
        """Read what is there into `messages`; BlockingIOError if nothing is."""
        ...

    def push(self, message: bytes) -> None:
        """Send a message, or queue it; BlockingIOError if too much waits already."""
        ...

    def flush(self) -> bool:
        """Send what waits as far as possible; True if nothing is left."""
        ...

    def pending(self) -> bool:
        """Whether `pull` would find something of which the descriptor does not tell."""
        ...

    def wants_write(self) -> bool:
        """Whether output waits for the descriptor."""
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class PortForwardTransport:
    """`agent.pump.transport.Transport` over a port-forward. Subclasses know what is in the messages."""

    protocol = ""
    """For people and for tests."""

    def __init__(self, socket: MessageSocket) -> None:
        self._socket = socket
        self._received: deque[bytes | memoryview] = deque()
        self._ended = False
        self._failure = ""

    def fileno(self) -> int:
        """The descriptor to watch, -1 after `close`."""
        return self._socket.fileno()

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; BlockingIOError if there are none, b"" at the end.

        ForwardFailed, with the server's text, if the far end says that the connection is broken.
        """
        self._take_messages()
        while not self._received:
            if self._ended or self._socket.ended:
                if self._failure:
                    raise ForwardFailed(self._failure)
                return b""
            self._socket.pull()
            self._take_messages()
        first = self._received[0]
        if len(first) > size:
            self._received[0] = memoryview(first)[size:]
            return bytes(first[:size])
        self._received.popleft()
        if not self._received:
            return bytes(first)  # no copy if it is bytes
        return self._join(first, size)

    def _join(self, first: bytes | memoryview, size: int) -> bytes:
        # Several messages at once: one turn of the loop above for all that one read of the socket brought.
        parts = [first]
        left = size - len(first)
        while self._received and len(self._received[0]) <= left:
            left -= len(self._received[0])
            parts.append(self._received.popleft())
        return b"".join(parts)

    def _take_messages(self) -> None:
        raise NotImplementedError

    def _frame(self, size: int) -> bytes:
        # What goes before so many bytes of ours.
        raise NotImplementedError

    def _fail(self, text: str) -> None:
        self._failure = (self._failure + text)[:ERROR_TEXT_LIMIT]
        self._ended = True

    def send(self, data: Buffer) -> int:
        """Take up to SEND_SIZE bytes for sending; BlockingIOError if too much waits already. b"" only flushes."""
        if not len(data):
            self._socket.flush()
            return 0
        return self.sendv((data,))

    def sendv(self, buffers: Sequence[Buffer]) -> int:
        """As `send`, of several buffers in one message."""
        message: list[Buffer] = [b""]
        size = 0
        for buffer in buffers:
            if size + len(buffer) >= SEND_SIZE:
                message.append(memoryview(buffer)[: SEND_SIZE - size])
                size = SEND_SIZE
                break
            message.append(buffer)
            size += len(buffer)
        message[0] = self._frame(size)
        self._socket.push(b"".join(message))
        return size

    def pending(self) -> bool:
        """True if `recv` has something for which the descriptor is not ready."""
        socket = self._socket
        return bool(self._received or socket.messages) or self._ended or socket.ended or socket.pending()

    def wants_write(self) -> bool:
        """True if bytes wait for the socket: watch it for writing, then `send(b"")`."""
        return self._socket.wants_write()

    def flush(self) -> bool:
        """Write what waits as far as the socket takes it; True if nothing is left."""
        return self._socket.flush()

    def wait_readable(self, timeout_s: float) -> bool:
        """Write what waits, and wait until the pod has sent a byte; False at the timeout. The byte stays here.

        ForwardFailed (or another OSError) if the connection ended instead.
        """
        deadline = time.monotonic() + timeout_s
        self._take_messages()
        while not self._received:
            if self._ended or self._socket.ended:
                raise ForwardFailed(self._failure or "the pod closed the connection")
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if not self._socket.pending():
                wait_for(self.fileno(), self._socket.wants_write(), left)
            self._socket.flush()
            try:
                self._socket.pull()
            except BlockingIOError:
                continue
            self._take_messages()
        return True

    def close(self) -> None:
        """End the port-forward. What the socket does not take at once is lost."""
        self._socket.close()


def wait_for(fd: int, writing: bool, timeout_s: float) -> None:
    """poll(2) one descriptor (select(2) stops at descriptor 1023)."""
    poller = select.poll()
    poller.register(fd, select.POLLIN | (select.POLLOUT if writing else 0))
    poller.poll(max(1, int(timeout_s * 1000)))
