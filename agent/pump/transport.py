"""Byte streams between client and agent, as the session sees them: non-blocking, with a descriptor to wait on."""

from __future__ import annotations

import socket
from typing import Protocol, Sequence

from ..wire.frames import Buffer

IOV_MAX = 1024


class Transport(Protocol):
    """A non-blocking byte stream. Errors are OSError; BlockingIOError means "not now"."""

    def fileno(self) -> int:
        """The descriptor to wait on; the same for the transport's whole life."""
        ...

    def recv(self, size: int) -> bytes:
        """1 to `size` bytes; BlockingIOError if there are none yet, b"" at the end."""
        ...

    def send(self, data: Buffer) -> int:
        """How many bytes were taken; BlockingIOError if none can be. Empty: flush the transport's own output."""
        ...

    def pending(self) -> bool:
        """Whether bytes wait inside the transport (TLS records), of which the descriptor does not tell."""
        ...

    def wants_write(self) -> bool:
        """Whether the transport has output of its own; it is then called with `send(b"")` when writable."""
        ...

    def close(self) -> None:
        """Give the descriptor back."""
        ...


class VectorTransport(Transport, Protocol):
    """A transport that takes several buffers at once, which saves joining them."""

    def sendv(self, buffers: Sequence[Buffer]) -> int:
        """As `send`, of the concatenation of up to IOV_MAX buffers."""
        ...


class SocketTransport:
    """A connected stream socket, TCP or AF_UNIX. Owns it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self.recv = sock.recv
        self.send = sock.send
        self.sendv = sock.sendmsg

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def pending(self) -> bool:
        """Never: what the kernel holds, epoll tells."""
        return False

    def wants_write(self) -> bool:
        """Never: a socket has no output of its own."""
        return False

    def close(self) -> None:
        """close(2)."""
        self._sock.close()
