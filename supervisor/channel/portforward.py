"""A byte stream to one port of a pod, through the API server: which protocol, and what the session needs of it.

Three protocols for the same thing, see `Opener`. On a real cluster, both ways at once, the machine's CPU time per byte was
11 ns with SPDY, 17 to 20 with kubectl's SPDY in a WebSocket, 21 to 25 with `v4.channel.k8s.io`, whose messages the container
runtime unmasks byte by byte.

`v4.channel.k8s.io`: every binary message starts with a channel number. One port is forwarded, so there are two: 0 carries the
bytes, 1 an error text. The server opens each by a message that holds the port (little-endian u16). There is no message for
"this direction has ended"; the protocol above has its own. In all of them a connection that the pod refuses is learnt only
from an error text, after the upgrade went well.

SPDY needs the right to `create` pods/portforward, a WebSocket that to `get`, in newer API servers both.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from .dial import Host, dial
from .forwarding import SEND_SIZE, ForwardFailed, MessageSocket, PortForwardTransport
from .rawsocket import upgrade_raw
from .spdyforward import PROTOCOL, STREAM_PROTOCOL, TUNNELLED, SpdyTransport
from .websocket import UpgradeRefused, WebSocketBroken, upgrade

__all__ = [
    "SEND_SIZE",
    "AgentPort",
    "ChannelTransport",
    "Endpoint",
    "ForwardFailed",
    "Opener",
    "PortForwardChannel",
    "PortForwardTransport",
    "open_port_forward",
]

SUBPROTOCOL = "v4.channel.k8s.io"
CONNECT_TIMEOUT_S = 15.0
_DATA = 0
_ERROR = 1


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


class ChannelTransport(PortForwardTransport):
    """`agent.pump.transport.Transport` over a `v4.channel.k8s.io` WebSocket."""

    protocol = SUBPROTOCOL

    def __init__(self, socket: MessageSocket, port: int) -> None:
        super().__init__(socket)
        self._announcement = port.to_bytes(2, "little")
        self._opened = [False, False]

    def _frame(self, size: int) -> bytes:
        return b"\x00"

    def _take_messages(self) -> None:
        messages = self._socket.messages
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
                self._fail(bytes(payload).decode("utf-8", "replace"))


class Opener:
    """Opens port-forwards to one port, and remembers what the servers in between do not take.

    First SPDY as such: it costs the API server least, which then only copies. If that upgrade is refused, a WebSocket, by
    which newer API servers take the same SPDY, older ones and container runtimes `v4.channel.k8s.io`.
    """

    def __init__(self, endpoint: Endpoint, agent: AgentPort) -> None:
        self._endpoint = endpoint
        self._agent = agent
        self._spdy_refused = False
        name = f"[{endpoint.host.name}]" if ":" in endpoint.host.name else endpoint.host.name
        self._host = f"{name}:{endpoint.host.port}"
        self._path = f"{endpoint.host.prefix}/api/v1/namespaces/{agent.namespace}/pods/{agent.pod}/portforward"

    def open(self, timeout_s: float = CONNECT_TIMEOUT_S) -> PortForwardTransport:
        """Forward the port over a new connection. Blocks until the API server has agreed.

        UpgradeRefused with the API's answer; other OSErrors if it cannot be reached. One renewal of credentials is tried.
        """
        try:
            return self._open(timeout_s)
        except UpgradeRefused as refused:
            if refused.status != 401 or not self._endpoint.renew():
                raise
            return self._open(timeout_s)

    def _open(self, timeout_s: float) -> PortForwardTransport:
        if self._spdy_refused:
            return self._over_websocket(self._dial(timeout_s))
        sock = self._dial(timeout_s)
        try:
            return self._over_spdy(sock)
        except UpgradeRefused as refused:
            if refused.status == 401:
                raise
            transport = self._over_websocket(self._dial(timeout_s))
            # A server error may pass, a refusal does not.
            self._spdy_refused = refused.status < 500
            return transport
        except ConnectionError:  # dropped without an answer
            return self._over_websocket(self._dial(timeout_s))

    def _dial(self, timeout_s: float) -> socket.socket:
        endpoint = self._endpoint
        context, proxy = endpoint.context(), endpoint.proxy
        return dial(endpoint.host, timeout_s, context=context, server_name=endpoint.server_name, proxy=proxy)

    def _over_spdy(self, sock: socket.socket) -> PortForwardTransport:
        headers = {**self._endpoint.headers(), "X-Stream-Protocol-Version": STREAM_PROTOCOL}
        try:
            return SpdyTransport(upgrade_raw(sock, "POST", self._host, self._path, headers, PROTOCOL), self._agent.port)
        except BaseException:
            sock.close()
            raise

    def _over_websocket(self, sock: socket.socket) -> PortForwardTransport:
        scheme = "wss" if self._endpoint.host.tls else "ws"
        url = f"{scheme}://{self._host}{self._path}?ports={self._agent.port}"
        try:
            websocket = upgrade(sock, url, self._endpoint.headers(), [TUNNELLED, SUBPROTOCOL])
            if websocket.subprotocol == TUNNELLED:
                return SpdyTransport(websocket, self._agent.port, TUNNELLED)
            return ChannelTransport(websocket, self._agent.port)
        except BaseException:
            sock.close()
            raise


def open_port_forward(endpoint: Endpoint, agent: AgentPort, timeout_s: float = CONNECT_TIMEOUT_S) -> PortForwardTransport:
    """One port-forward, see `Opener.open`."""
    return Opener(endpoint, agent).open(timeout_s)


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
        self._opener = Opener(endpoint, agent)
        self._hello = hello
        self._refusal = refusal
        self._last_words = last_words

    def probe(self, timeout_s: float) -> bool:
        """True if the agent's loader answers on its port; False if nobody listens yet.

        The connection is not kept: the loader drops it and waits for the next. What can never succeed raises:
        UpgradeRefused by 401 or 403.
        """
        try:
            transport = self._opener.open()
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
            return self._opener.open()
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
