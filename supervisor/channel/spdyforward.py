"""A byte stream to one port of a pod by SPDY streams: the protocol `portforward.k8s.io`, kubectl's own.

Two streams are opened, in the same words as kubectl's: "error", on which we send nothing, and "data". The server ends the
data stream when the pod closes the connection. If that broke, or could not be made, it first writes a text to the error
stream, then resets both.

The far end has no message "that is all" for the connection below: when it goes, what is still queued in the container
runtime may be lost, the session's last words among it. So `close` ends our stream and waits a moment for the end of the
pod's, which is there when the agent has heard us.
"""

from __future__ import annotations

import contextlib
import time

from . import spdy
from .forwarding import MessageSocket, PortForwardTransport, wait_for

PROTOCOL = "SPDY/3.1"
STREAM_PROTOCOL = "portforward.k8s.io"
TUNNELLED = f"{PROTOCOL}+{STREAM_PROTOCOL}"
"""WebSocket subprotocol of the same bytes in binary messages."""

LINGER_S = 2.0


class SpdyTransport(PortForwardTransport):
    """`agent.pump.transport.Transport` over the two SPDY streams. `protocol`: SPDY/3.1 as such, or TUNNELLED."""

    def __init__(self, socket: MessageSocket, port: int, protocol: str = PROTOCOL) -> None:
        super().__init__(socket)
        self.protocol = protocol
        self._spdy = spdy.Spdy()
        headers = {"streamtype": "error", "port": str(port), "requestid": "0"}
        self._errors, opening = self._spdy.open_stream(headers)
        nothing = spdy.data_header(self._errors, 0, ended=True)
        self._data, second = self._spdy.open_stream({**headers, "streamtype": "data"})
        socket.push(opening + nothing + second)

    def _frame(self, size: int) -> bytes:
        return spdy.data_header(self._data, size)

    def _take_messages(self) -> None:
        messages = self._socket.messages
        parts: list[memoryview] = []
        while messages:
            for event in self._spdy.receive(memoryview(messages.popleft())):
                if type(event) is spdy.StreamData and event.stream == self._data:
                    parts.append(event.data)
                else:
                    self._take(event)
        if parts:
            self._received.append(b"".join(parts))
        if self._socket.ended and not self._ended:
            self._fail("the connection broke off")

    def _take(self, event: spdy.Event) -> None:
        if type(event) is spdy.StreamData:
            if event.stream == self._errors:
                self._fail(bytes(event.data).decode("utf-8", "replace"))
        elif type(event) is spdy.StreamEnd:
            self._ended = self._ended or event.stream == self._data
        elif type(event) is spdy.StreamReset:
            if not self._ended and event.stream in (self._errors, self._data):
                self._fail(f"the port-forward was reset (status {event.status})")
        elif type(event) is spdy.Answer:
            with contextlib.suppress(BlockingIOError):  # So much waits to be sent that nobody needs a sign of life.
                self._socket.push(event.frame)
        elif not self._ended:
            self._fail("the server closes the connection")

    def close(self) -> None:
        """End our direction, wait for the pod to end its own, for LINGER_S at most, and close(2)."""
        try:
            if self.fileno() >= 0 and not self._ended and not self._socket.ended and self._socket.flush():
                self._socket.push(spdy.data_header(self._data, 0, ended=True))
                self._await_end(time.monotonic() + LINGER_S)
        except OSError:
            pass  # closed in any case
        self._socket.close()

    def _await_end(self, deadline: float) -> None:
        while not self._ended and (left := deadline - time.monotonic()) > 0:
            self._socket.flush()
            try:
                self._socket.pull()
            except BlockingIOError:
                wait_for(self.fileno(), self._socket.wants_write(), left)
            self._take_messages()
            self._received.clear()
