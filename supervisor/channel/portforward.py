"""A byte stream to one port of a pod, through the API server: the `v4.channel.k8s.io` port-forward protocol.

Every binary message starts with a channel number. One port is forwarded, so there are two: 0 carries the bytes, 1 an
error text. The server opens each by a message that holds the port (little-endian u16). There is no message for "this
direction has ended"; the protocol above has its own. A connection that the pod refuses is learnt only from a text on
channel 1, after the WebSocket was opened in good order.

The server copies in pieces of 32 KiB. Messages of 64 KiB from us were fastest: smaller ones cost us more, larger ones
make the far end (which collects a message whole, in a growing buffer) slower.
Two credentials are checked by newer API servers: `get` and `create` on pods/portforward.
"""

from __future__ import annotations

import select
import ssl
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from .dial import Host, dial
from .websocket import Buffer, UpgradeRefused, WebSocket, WebSocketBroken, upgrade

SUBPROTOCOL = "v4.channel.k8s.io"
SEND_SIZE = 64 * 1024
CONNECT_TIMEOUT_S = 15.0
_DATA = 0
_ERROR = 1
_ERROR_TEXT_LIMIT = 4096


class ForwardFailed(ConnectionError):
    """The far end could not reach the port (nobody listens yet, the pod is gone); the text is its own."""


class Endpoint(Protocol):
    """What is needed of a cluster to open a connection through its API server."""

    host: Host
    proxy: str | None
    server_name: str | None

    def context(self) -> ssl.SSLContext | None:
        """The TLS context, None for a plain http:// server."""
        ...

    def headers(self) -> dict[str, str]:
        """Request headers with fresh credentials."""
        ...

    def renew(self) -> bool:
        """Read the credentials again after a 401; False if that cannot help."""
        ...


@dataclass(frozen=True)
class AgentPort:
    """A port on the loopback of a pod."""

    namespace: str
    pod: str
    port: int


class PortForwardTransport:
    """`agent.pump.transport.Transport` over a port-forward WebSocket."""

    def __init__(self, websocket: WebSocket, port: int) -> None:
        self._websocket = websocket
        self._announcement = port.to_bytes(2, "little")
        self._opened = [False, False]
        self._received: deque[memoryview] = deque()
        self._failure = ""

    def fileno(self) -> int:
        """The descriptor to watch, -1 after `close`."""
        return self._websocket.fileno()

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; BlockingIOError if there are none, b"" at the end.

        ForwardFailed, with the server's text, if the far end says that the connection is broken.
        """
        self._take_messages()
        while not self._received:
            if self._websocket.ended:
                if self._failure:
                    raise ForwardFailed(self._failure)
                return b""
            self._websocket.pull()
            self._take_messages()
        first = self._received[0]
        if len(first) > size:
            self._received[0] = first[size:]
            return bytes(first[:size])
        self._received.popleft()
        if not self._received:
            return bytes(first)
        return self._join(first, size)

    def _join(self, first: memoryview, size: int) -> bytes:
        # Several messages at once: one turn of the loop above for all that one read of the socket brought.
        parts = [first]
        left = size - len(first)
        while self._received and len(self._received[0]) <= left:
            left -= len(self._received[0])
            parts.append(self._received.popleft())
        return b"".join(parts)

    def _take_messages(self) -> None:
        messages = self._websocket.messages
        while messages:
            message = memoryview(messages.popleft())
            if len(message) == 0:
                continue
            channel, payload = message[0], message[1:]
            if channel not in (_DATA, _ERROR):
                raise WebSocketBroken(f"a message on unknown channel {channel}")
            if not self._opened[channel]:
                if payload != self._announcement:
                    raise WebSocketBroken("the port-forward did not start with the port's number")
                self._opened[channel] = True
            elif channel == _DATA:
                if len(payload):
                    self._received.append(payload)
            else:
                self._failure = (self._failure + bytes(payload).decode("utf-8", "replace"))[:_ERROR_TEXT_LIMIT]
                self._websocket.ended = True

    def send(self, data: Buffer) -> int:
        """Take up to SEND_SIZE bytes for sending; BlockingIOError if too much waits already. b"" only flushes."""
        if not len(data):
            self._websocket.flush()
            return 0
        return self.sendv((data,))

    def sendv(self, buffers: Sequence[Buffer]) -> int:
        """As `send`, of several buffers in one message."""
        message: list[Buffer] = [b"\x00"]
        size = 0
        for buffer in buffers:
            if size + len(buffer) >= SEND_SIZE:
                message.append(memoryview(buffer)[: SEND_SIZE - size])
                size = SEND_SIZE
                break
            message.append(buffer)
            size += len(buffer)
        self._websocket.push(b"".join(message))
        return size

    def pending(self) -> bool:
        """True if `recv` has something for which the descriptor is not ready."""
        websocket = self._websocket
        return bool(self._received or websocket.messages) or websocket.ended or websocket.pending()

    def wants_write(self) -> bool:
        """True if bytes wait for the socket: watch it for writing, then `send(b"")`."""
        return self._websocket.wants_write()

    def flush(self) -> bool:
        """Write what waits as far as the socket takes it; True if nothing is left."""
        return self._websocket.flush()

    def wait_readable(self, timeout_s: float) -> bool:
        """Write what waits, and wait until the pod has sent a byte; False at the timeout. The byte stays here.

        ForwardFailed (or another OSError) if the connection ended instead.
        """
        deadline = time.monotonic() + timeout_s
        self._take_messages()
        while not self._received:
            if self._websocket.ended:
                raise ForwardFailed(self._failure or "the pod closed the connection")
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if not self._websocket.pending():
                wait_for(self.fileno(), self._websocket.wants_write(), left)
            self._websocket.flush()
            try:
                self._websocket.pull()
            except BlockingIOError:
                continue
            self._take_messages()
        return True

    def close(self) -> None:
        """End the port-forward. What the socket does not take at once is lost."""
        self._websocket.close()


def wait_for(fd: int, writing: bool, timeout_s: float) -> None:
    """poll(2) one descriptor (select(2) stops at descriptor 1023)."""
    poller = select.poll()
    poller.register(fd, select.POLLIN | (select.POLLOUT if writing else 0))
    poller.poll(max(1, int(timeout_s * 1000)))


def open_port_forward(endpoint: Endpoint, agent: AgentPort, timeout_s: float = CONNECT_TIMEOUT_S) -> PortForwardTransport:
    """Forward a port of a pod over a new connection. Blocks until the API server has agreed.

    UpgradeRefused with the API's answer; other OSErrors if it cannot be reached. One renewal of credentials is tried.
    """
    pods = f"{endpoint.host.prefix}/api/v1/namespaces/{agent.namespace}/pods"
    path = f"{pods}/{agent.pod}/portforward?ports={agent.port}"
    name = f"[{endpoint.host.name}]" if ":" in endpoint.host.name else endpoint.host.name
    url = f"{'wss' if endpoint.host.tls else 'ws'}://{name}:{endpoint.host.port}{path}"
    try:
        websocket = _open(endpoint, url, timeout_s)
    except UpgradeRefused as refused:
        if refused.status != 401 or not endpoint.renew():
            raise
        websocket = _open(endpoint, url, timeout_s)
    return PortForwardTransport(websocket, agent.port)


def _open(endpoint: Endpoint, url: str, timeout_s: float) -> WebSocket:
    sock = dial(
        endpoint.host,
        timeout_s,
        context=endpoint.context(),
        server_name=endpoint.server_name,
        proxy=endpoint.proxy,
    )
    try:
        return upgrade(sock, url, endpoint.headers(), [SUBPROTOCOL])
    except BaseException:
        sock.close()
        raise


class PortForwardChannel:
    """`Channel` to the agent's port: each `open` makes a new port-forward, so a broken session can be resumed.

    `hello` is what a client says first, and the agent's loader answers; `probe` needs no more of the protocol above.
    `refusal` turns what can never succeed into the user's line; `last_words` asks what became of the agent.
    """

    resumable = True

    def __init__(
        self,
        endpoint: Endpoint,
        agent: AgentPort,
        hello: bytes,
        refusal: Callable[[OSError], Exception],
        last_words: Callable[[], str],
    ) -> None:
        self._endpoint = endpoint
        self._agent = agent
        self._hello = hello
        self._refusal = refusal
        self._last_words = last_words

    def probe(self, timeout_s: float) -> bool:
        """True if the agent's loader answers on its port; False if nobody listens yet.

        The connection is not kept: the loader drops it and waits for the next. What can never succeed raises:
        UpgradeRefused by 401 or 403.
        """
        try:
            transport = open_port_forward(self._endpoint, self._agent)
        except UpgradeRefused as refused:
            if refused.status in (401, 403):
                raise
            return False
        try:
            transport.send(self._hello)
            return transport.wait_readable(timeout_s)
        except OSError:
            return False
        finally:
            transport.close()

    def open(self) -> PortForwardTransport:
        """A connection to the agent, non-blocking from here on. OSError: try again later; UsageError: never."""
        try:
            return open_port_forward(self._endpoint, self._agent)
        except UpgradeRefused as refused:
            if refused.status >= 500 or refused.status == 429:
                raise
            raise self._refusal(refused) from refused
        except ssl.SSLCertVerificationError as error:
            raise self._refusal(error) from error

    def last_words(self) -> str:
        """What the cluster says of the agent's end, "" if it lives or nobody knows. Blocks for a request."""
        return self._last_words()

    def close(self) -> None:
        """Nothing to give back: the transports belong to who opened them."""
