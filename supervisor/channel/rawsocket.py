"""A TLS or TCP socket for a loop that must neither block nor buffer without bound, and HTTP's way to get one.

The same shape as `websocket.WebSocket`, so that SPDY can go over either: `pull` puts what was read into `messages`, `push`
takes one piece of output. After `Upgrade:` the connection has no more of HTTP in it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections import deque
from collections.abc import Mapping

from .websocket import READ_SIZE, WOULD_BLOCK, WRITE_LIMIT, Buffer, UpgradeRefused

_TLS_RECORD_BYTES = 16 * 1024
_BODY_LIMIT = 64 * 1024


class RawSocket:
    """Owns a connected socket. A piece in `messages` is valid until the next `pull`."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._is_tls = isinstance(sock, ssl.SSLSocket)
        self._space = memoryview(bytearray(READ_SIZE))
        self._output: deque[memoryview] = deque()
        self._output_size = 0
        self.messages: deque[Buffer] = deque()
        """What was read and not yet taken: at most one piece."""
        self.ended = False
        """The peer has closed the connection."""

    def fileno(self) -> int:
        """The socket's descriptor, -1 after `close`."""
        return self._sock.fileno()

    def pull(self) -> None:
        """recv(2) what is there, up to READ_SIZE; BlockingIOError if nothing is. Sets `ended` at the end."""
        if self.ended:
            return
        size = 0
        while size < READ_SIZE:
            try:
                count = self._sock.recv_into(self._space[size:])
            except WOULD_BLOCK:
                if size == 0:
                    raise BlockingIOError("nothing to read") from None
                break
            except OSError:
                if size == 0:
                    raise
                break  # What came before the reset still counts; the next read finds the end.
            size += count
            if count == 0:
                self.ended = size == 0
                break
            if not self._is_tls or (count < _TLS_RECORD_BYTES and not self.pending()):
                break  # Probably all there is: another look would cost a system call, and epoll tells.
        if size:
            self.messages.append(self._space[:size])

    def push(self, message: bytes) -> None:
        """Queue a piece and send(2) what the socket takes; BlockingIOError if too much waits already."""
        if self._output_size and not self.flush() and self._output_size >= WRITE_LIMIT:
            raise BlockingIOError("the socket is full")
        if self.ended:
            raise BrokenPipeError("the peer has closed the connection")
        self._output.append(memoryview(message))
        self._output_size += len(message)
        self.flush()

    def flush(self) -> bool:
        """send(2) queued bytes as far as the socket takes them; True if none are left."""
        if self._output_size <= _TLS_RECORD_BYTES or self._sock.family == socket.AF_UNIX:
            return self._flush()
        # OpenSSL sends one record at a time. Corked, they go in full segments, and wake the peer less often.
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
        try:
            return self._flush()
        finally:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)

    def _flush(self) -> bool:
        output = self._output
        while output:
            try:
                count = self._sock.send(output[0])
            except WOULD_BLOCK:
                return False
            self._output_size -= count
            if count == len(output[0]):
                output.popleft()
            else:
                output[0] = output[0][count:]
        return True

    def pending(self) -> bool:
        """True if `pull` would find bytes for which epoll(7) signals nothing."""
        return isinstance(self._sock, ssl.SSLSocket) and not self.ended and self._sock.pending() > 0

    def wants_write(self) -> bool:
        """True if queued output waits for the socket."""
        return bool(self._output)

    def close(self) -> None:
        """close(2)."""
        self._output.clear()
        self._sock.close()


def upgrade_raw(
    sock: socket.socket, method: str, host: str, path: str, headers: Mapping[str, str], protocol: str
) -> RawSocket:
    """Ask for an upgrade to `protocol` on a connected blocking socket (its timeout counts), and hand it over.

    UpgradeRefused with the HTTP status and body if the server declines; ConnectionError if it speaks no HTTP.
    """
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: Upgrade", f"Upgrade: {protocol}", "Content-Length: 0"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
    response = http.client.HTTPResponse(_Unbuffered(sock), method=method)  # type: ignore[arg-type]  # all it needs is makefile
    try:
        response.begin()
        if response.status != http.client.SWITCHING_PROTOCOLS:
            raise UpgradeRefused(response.status, _body(response))
    except http.client.HTTPException as error:
        raise ConnectionError(f"the server does not speak HTTP: {error!r}") from error
    return RawSocket(sock)


class _Unbuffered:
    # What a buffer read ahead would be lost for the upgraded connection.
    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def makefile(self, mode: str) -> socket.SocketIO:
        return self._sock.makefile("rb", buffering=0)


def _body(response: http.client.HTTPResponse) -> bytes:
    parts: list[bytes] = []
    try:
        while part := response.read(_BODY_LIMIT):
            parts.append(part)
            if sum(map(len, parts)) >= _BODY_LIMIT:
                break
    except (OSError, http.client.HTTPException):
        pass  # the status says most of it
    return b"".join(parts)
