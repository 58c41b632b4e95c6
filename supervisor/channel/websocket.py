"""A WebSocket client on a non-blocking socket, for a loop that must neither block nor buffer without bound.

The framing is the `websockets` library's, used without its I/O. Around it there are two bounded buffers. Incoming:
one `pull` takes at most READ_SIZE bytes from the socket, and the owner pulls only when it has used up the messages, so
a slow owner lets the socket's buffers fill and the peer wait. Outgoing: `push` refuses (BlockingIOError) while more
than WRITE_LIMIT bytes wait.

TLS hides bytes from epoll: OpenSSL decrypts whole records, so a read may leave decrypted bytes behind for which the
kernel signals nothing. `pending` says so.
"""

from __future__ import annotations

import socket
import ssl
from collections import deque
from collections.abc import Sequence

from websockets.client import ClientProtocol
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus, NegotiationError
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.typing import Subprotocol
from websockets.uri import parse_uri

READ_SIZE = 256 * 1024
WRITE_LIMIT = 256 * 1024
MESSAGE_LIMIT = 4 * 1024 * 1024
_BODY_LIMIT = 64 * 1024

WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
"""What a non-blocking socket raises for "not now", with and without TLS."""

Buffer = bytes | bytearray | memoryview


class UpgradeRefused(ConnectionError):
    """The server answered the WebSocket handshake with an HTTP response of its own."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(f"HTTP status {status}")
        self.status = status
        self.body = body[:_BODY_LIMIT]


class WebSocketBroken(ConnectionError):
    """The peer does not speak WebSocket as it should, or ended without a closing handshake."""


class WebSocket:
    """An open WebSocket: whole binary messages in, whole binary messages out, never blocking."""

    def __init__(self, sock: socket.socket, protocol: ClientProtocol) -> None:
        self._sock = sock
        self._protocol = protocol
        self._space = memoryview(bytearray(READ_SIZE))
        self._output: deque[Buffer] = deque()
        self._output_size = 0
        self._fragments: list[Buffer] = []
        self.messages: deque[Buffer] = deque()
        """Received messages that the owner has not taken yet."""
        self.ended = False
        """The peer has ended the connection; `messages` may still hold what came before."""
        sock.setblocking(False)
        self._take_events()  # Frames that came in one piece with the response.

    def fileno(self) -> int:
        """The socket's descriptor, -1 after `close`."""
        return self._sock.fileno()

    @property
    def subprotocol(self) -> str:
        """What the server chose of those offered, "" for none."""
        return self._protocol.subprotocol or ""

    def pull(self) -> None:
        """recv(2) what is there, up to READ_SIZE, into `messages`; BlockingIOError if nothing is there.

        Answers pings on the way. At the peer's end sets `ended`; WebSocketBroken if it was not an orderly one.
        """
        if self.ended:
            return
        size = self._read()
        if size:
            self._protocol.receive_data(self._space[:size])  # type: ignore[arg-type]  # appended to a bytearray
        else:
            self._protocol.receive_eof()
        self._take_events()
        self._take_output()
        self.flush()
        if self._protocol.parser_exc is not None and not self.messages:
            self.ended = True
            raise WebSocketBroken(f"the connection broke off: {self._protocol.parser_exc}")
        if self._protocol.state is not State.OPEN:
            self.ended = True

    def _read(self) -> int:
        # As much as is there, so that one turn of the owner's loop handles several TLS records.
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
            if count == 0:
                break
            size += count
        return size

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.BINARY, Opcode.CONT, Opcode.TEXT):
                continue
            if event.fin and not self._fragments:
                self.messages.append(event.data)
                continue
            self._fragments.append(event.data)
            if event.fin:
                self.messages.append(b"".join(self._fragments))
                self._fragments = []

    def push(self, message: bytes) -> None:
        """Queue one binary message and send(2) what the socket takes; BlockingIOError if too much waits already."""
        if self._output_size and not self.flush() and self._output_size >= WRITE_LIMIT:
            raise BlockingIOError("the socket is full")
        if self._protocol.state is not State.OPEN:
            raise BrokenPipeError("the WebSocket is closed")
        self._protocol.send_binary(message)
        self._take_output()
        self.flush()

    def flush(self) -> bool:
        """send(2) queued bytes as far as the socket takes them; True if none are left."""
        while self._output:
            try:
                count = self._sock.send(self._output[0])
            except WOULD_BLOCK:
                return False
            except OSError:
                if self._protocol.state is State.OPEN and not self.ended:
                    raise
                # The peer has already gone through its closing handshake; nobody will read our half of it.
                self._output.clear()
                self._output_size = 0
                return True
            self._output_size -= count
            if count == len(self._output[0]):
                self._output.popleft()
            else:
                self._output[0] = memoryview(self._output[0])[count:]
        return True

    def _take_output(self) -> None:
        for chunk in self._protocol.data_to_send():
            if chunk:
                self._output.append(chunk)
                self._output_size += len(chunk)

    def pending(self) -> bool:
        """True if `pull` would find bytes for which epoll(7) signals nothing."""
        return isinstance(self._sock, ssl.SSLSocket) and not self.ended and self._sock.pending() > 0

    def wants_write(self) -> bool:
        """True if queued output waits for the socket."""
        return bool(self._output)

    def close(self) -> None:
        """Say goodbye if the socket takes it at once, and close(2)."""
        if self._sock.fileno() < 0:
            return
        if self._protocol.state is State.OPEN and not self._output:
            self._protocol.send_close()
            self._take_output()
            try:
                self.flush()
            except OSError:
                self._output.clear()
        self._output.clear()
        self._sock.close()


def upgrade(sock: socket.socket, url: str, headers: dict[str, str], subprotocols: Sequence[str]) -> WebSocket:
    """Do the WebSocket handshake on a connected blocking socket (its timeout counts) and hand it over.

    UpgradeRefused with the HTTP status and body if the server declines; WebSocketBroken if it makes no sense.
    """
    offered = [Subprotocol(name) for name in subprotocols]
    protocol = _LenientProtocol(parse_uri(url), subprotocols=offered, max_size=MESSAGE_LIMIT)
    request = protocol.connect()
    for name, value in headers.items():
        request.headers[name] = value
    protocol.send_request(request)
    sock.sendall(b"".join(protocol.data_to_send()))
    _await_response(sock, protocol)
    if protocol.subprotocol not in offered:
        raise WebSocketBroken(f"the server chose no subprotocol of {', '.join(subprotocols)}")
    return WebSocket(sock, protocol)


class _LenientProtocol(ClientProtocol):
    # Kubernetes' "SPDY/3.1+portforward.k8s.io" is no token, as the library, like the RFC, wants a subprotocol's name to be.
    def process_subprotocol(self, headers: Headers) -> Subprotocol | None:
        chosen = headers.get_all("Sec-WebSocket-Protocol")
        known = [name for name in self.available_subprotocols or () if [name] == chosen]
        if chosen and not known:
            raise NegotiationError(f"unsupported subprotocol: {', '.join(chosen)}")
        return known[0] if known else None


def _await_response(sock: socket.socket, protocol: ClientProtocol) -> None:
    while protocol.state is State.CONNECTING and protocol.handshake_exc is None:
        received = sock.recv(READ_SIZE)
        if received:
            protocol.receive_data(received)
        else:
            protocol.receive_eof()
    failure = protocol.handshake_exc
    if isinstance(failure, InvalidStatus):
        raise UpgradeRefused(failure.response.status_code, bytes(failure.response.body or b""))
    if failure is not None:
        raise WebSocketBroken(f"the server does not speak WebSocket: {failure}") from failure
