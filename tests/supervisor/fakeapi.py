"""A Kubernetes API server made of a dictionary: objects, rights, watches, and port-forwards that do what a test says."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import queue
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from fakespdy import SpdyPeer
from websockets.frames import Frame
from websockets.protocol import State
from websockets.server import ServerProtocol

TUNNELLED = "SPDY/3.1+portforward.k8s.io"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
NODE = "node-1"


class ForwardPeer:
    """The server's side of one port-forward WebSocket, in a thread of its own."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self.sock = sock
        self.port = port
        self.protocol = ServerProtocol(state=State.OPEN, max_size=None)
        self.closed = False
        self._received: list[bytes] = []

    def announce(self) -> None:
        """Open both channels of the port."""
        for channel in (0, 1):
            self.send(channel, struct.pack("<H", self.port))

    def send(self, channel: int, payload: bytes) -> None:
        """One message."""
        self.protocol.send_binary(bytes([channel]) + payload)
        self.sock.sendall(b"".join(self.protocol.data_to_send()))

    def send_split(self, channel: int, payload: bytes) -> None:
        """One message, byte by byte."""
        self.protocol.send_binary(bytes([channel]) + payload)
        for byte in b"".join(self.protocol.data_to_send()):
            self.sock.sendall(bytes([byte]))

    def receive(self) -> bytes:
        """The next message with its channel byte; b"" at the end."""
        while not self._received:
            received = self.sock.recv(65536)
            if not received:
                return b""
            self.protocol.receive_data(received)
            self._received += [
                bytes(event.data) for event in self.protocol.events_received() if isinstance(event, Frame) and event.data
            ]
            if self.protocol.state is not State.OPEN:
                return b""
        return self._received.pop(0)

    def end(self) -> None:
        """The closing handshake."""
        self.protocol.send_close()
        self.sock.sendall(b"".join(self.protocol.data_to_send()))

    def reset(self) -> None:
        """Drop the connection with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()
        self.closed = True


class WebSocketStream:
    """The socket of a SpdyPeer: its bytes are in binary messages."""

    def __init__(self, sock: socket.socket) -> None:
        self._peer = ForwardPeer(sock, 0)
        self._left = b""

    def sendall(self, data: bytes) -> None:
        """As one message."""
        self._peer.protocol.send_binary(data)
        self._peer.sock.sendall(b"".join(self._peer.protocol.data_to_send()))

    def recv(self, size: int) -> bytes:
        """Of the next message."""
        self._left = self._left or self._peer.receive()
        part, self._left = self._left[:size], self._left[size:]
        return part

    def setsockopt(self, *option: object) -> None:
        """Of the socket below."""
        self._peer.sock.setsockopt(*option)  # type: ignore[arg-type]

    def close(self) -> None:
        """The socket below."""
        self._peer.sock.close()


def refuse(peer: ForwardPeer) -> None:
    """What containerd does when nobody listens on the port."""
    peer.announce()
    peer.send(1, b"failed to connect to localhost: connection refused")
    peer.end()


def echo(peer: ForwardPeer) -> None:
    """Send back every message."""
    peer.announce()
    while message := peer.receive():
        peer.send(0, message[1:])


def greet(peer: ForwardPeer) -> None:
    """What the agent's loader does: wait for a client's nonce, answer, wait for its proof."""
    peer.announce()
    if peer.receive():
        peer.send(0, b"MTBOOT1\n" + bytes(64))
    while peer.receive():
        pass


@dataclass
class FakeApi:
    """What the server holds and how it behaves; changed by tests as they like."""

    pods: dict[str, dict[str, dict[str, Any]]] = field(default_factory=lambda: {"default": {}})
    answers: dict[tuple[str, str], tuple[int, object]] = field(default_factory=dict)
    """(method, path without query) -> what to answer instead."""
    denied: set[tuple[str, str]] = field(default_factory=set)
    """(verb, resource[/subresource]) that access reviews deny."""
    forwards: list[Callable[[ForwardPeer], None]] = field(default_factory=list)
    """What each port-forward does, in turn; the last one goes on for ever."""
    created: Callable[[dict[str, Any]], None] = lambda pod: None
    """Called with a new or patched pod before it is answered: sets its status."""
    token: str = "secret"
    subprotocol: str | None = "v4.channel.k8s.io"
    """Of a port-forward WebSocket: what the server chooses."""
    spdy: bool = False
    """Whether the server takes an upgrade to SPDY."""
    requests: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[object] = field(default_factory=list)
    watchers: list[queue.Queue[bytes]] = field(default_factory=list)
    host: str = ""
    forward_count: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add_pod(self, pod: dict[str, Any], namespace: str = "default") -> None:
        """Put an object there."""
        pod["metadata"].setdefault("namespace", namespace)
        pod["metadata"]["resourceVersion"] = "1"
        self.pods.setdefault(namespace, {})[pod["metadata"]["name"]] = pod

    def change(self, pod: dict[str, Any], kind: str = "MODIFIED") -> None:
        """Tell all watches of a new state of a pod."""
        pod["metadata"]["resourceVersion"] = str(int(pod["metadata"]["resourceVersion"]) + 1)
        line = json.dumps({"type": kind, "object": pod}).encode() + b"\n"
        with self.lock:
            for watcher in self.watchers:
                watcher.put(line)

    def kubeconfig(self, folder: Path, **user: object) -> Path:
        """A kubeconfig for this server."""
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig(self.host, user or {"token": self.token})))
        return path


def kubeconfig(server: str, user: dict[str, object], namespace: str | None = None) -> dict[str, object]:
    """The content of a kubeconfig with one context, "fake"."""
    context: dict[str, object] = {"cluster": "fake", "user": "me"}
    if namespace:
        context["namespace"] = namespace
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "fake",
        "clusters": [{"name": "fake", "cluster": {"server": server}}],
        "contexts": [{"name": "fake", "context": context}],
        "users": [{"name": "me", "user": user}],
    }


def status_object(status: int, reason: str, message: str) -> dict[str, object]:
    """A failure as the API server words it."""
    return {"kind": "Status", "status": "Failure", "code": status, "reason": reason, "message": message}


def running_pod(name: str, *containers: str, **metadata: object) -> dict[str, Any]:
    """A pod whose containers all run."""
    names = containers or ("app",)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **metadata},
        "spec": {"nodeName": NODE, "containers": [{"name": each, "image": "app:1"} for each in names]},
        "status": {
            "phase": "Running",
            "containerStatuses": [
                {
                    "name": each,
                    "state": {"running": {}},
                    "containerID": f"containerd://{hashlib.sha256(each.encode()).hexdigest()}",
                }
                for each in names
            ],
        },
    }


def selected(pod: dict[str, Any], query: dict[str, list[str]]) -> bool:
    """Label and field selectors, as far as they are used: KEY=VALUE and KEY!=VALUE."""
    labels = pod["metadata"].get("labels") or {}
    fields = {"status.phase": (pod.get("status") or {}).get("phase", "Pending"), "metadata.name": pod["metadata"]["name"]}
    for selector, values in (("labelSelector", labels), ("fieldSelector", fields)):
        for term in ",".join(query.get(selector, [])).split(","):
            key, _, value = term.partition("=")
            if term and (values.get(key.rstrip("!")) == value) == key.endswith("!"):
                return False
    return True


def serve(api: FakeApi, context: ssl.SSLContext | None = None) -> ThreadingHTTPServer:
    """Start it on a free port of loopback, with TLS if so wished; shutdown() and server_close() end it."""

    class Handler(_Handler):
        fake = api

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    api.host = f"http{'s' if context else ''}://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    fake: FakeApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._handle("GET")

    def do_POST(self) -> None:
        self._handle("POST")

    def do_PATCH(self) -> None:
        self._handle("PATCH")

    def do_DELETE(self) -> None:
        self._handle("DELETE")

    def _handle(self, method: str) -> None:
        parts = urlsplit(self.path)
        query = parse_qs(parts.query)
        size = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(size)) if size else None
        with self.fake.lock:
            self.fake.requests.append((method, self.path))
            self.fake.bodies.append(body)
        if self.headers.get("Authorization") != f"Bearer {self.fake.token}":
            self._answer(401, status_object(401, "Unauthorized", "Unauthorized"))
        elif (method, parts.path) in self.fake.answers:
            self._answer(*self.fake.answers[method, parts.path])
        elif parts.path.endswith("/portforward"):
            if method == "POST":
                self._forward_by_spdy()
            else:
                self._forward(int(query["ports"][0]))
        elif parts.path == "/version":
            self._answer(200, {"gitVersion": "v1.99.0"})
        elif parts.path.endswith("/selfsubjectaccessreviews"):
            self._review(body)
        else:
            self._objects(method, parts.path.strip("/").split("/"), query, body)

    def _review(self, body: dict[str, Any]) -> None:
        wanted = body["spec"]["resourceAttributes"]
        resource = wanted["resource"] + (f"/{wanted['subresource']}" if "subresource" in wanted else "")
        self._answer(201, {"status": {"allowed": (wanted["verb"], resource) not in self.fake.denied}})

    def _objects(self, method: str, path: list[str], query: dict[str, list[str]], body: dict[str, Any]) -> None:
        # api v1 namespaces NAMESPACE [pods [NAME [SUBRESOURCE]]]
        pods = self.fake.pods.get(path[3], {}) if len(path) > 3 else {}
        name = path[5] if len(path) > 5 else ""
        if len(path) == 4:
            self._answer(200, {"metadata": {"name": path[3], "labels": {}}})
        elif path[4] == "events":
            self._answer(200, {"items": []})
        elif query.get("watch"):
            self._watch()
        elif method == "POST":
            body["metadata"].setdefault("namespace", path[3])
            self.fake.created(body)
            self.fake.add_pod(body, path[3])
            self._answer(201, body)
        elif not name:
            self._answer(200, {"items": [pod for pod in pods.values() if selected(pod, query)]})
        elif name not in pods:
            self._answer(404, status_object(404, "NotFound", f'pods "{name}" not found'))
        elif method == "DELETE":
            self._answer(200, pods.pop(name))
        elif method == "PATCH":
            pods[name]["spec"].setdefault("ephemeralContainers", []).extend(body["spec"]["ephemeralContainers"])
            self.fake.created(pods[name])
            self._answer(200, pods[name])
        else:
            self._answer(200, pods[name])

    def _watch(self) -> None:
        events: queue.Queue[bytes] = queue.Queue()
        with self.fake.lock:
            self.fake.watchers.append(events)  # Before the answer: who has it will not miss a change.
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while line := events.get():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True

    def _forward(self, port: int) -> None:
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode())
        if self.fake.subprotocol:
            self.send_header("Sec-WebSocket-Protocol", self.fake.subprotocol)
        self.end_headers()
        tunnelled = self.fake.subprotocol == TUNNELLED
        self._run_forward(SpdyPeer(WebSocketStream(self.connection)) if tunnelled else ForwardPeer(self.connection, port))

    def _forward_by_spdy(self) -> None:
        if not self.fake.spdy:
            self._answer(400, status_object(400, "BadRequest", "Upgrade request required"))
            return
        assert self.headers["Upgrade"] == "SPDY/3.1"
        assert self.headers["X-Stream-Protocol-Version"] == "portforward.k8s.io"
        self.send_response(101)
        self.send_header("Connection", "Upgrade")
        self.send_header("Upgrade", "SPDY/3.1")
        self.end_headers()
        self._run_forward(SpdyPeer(self.connection))

    def _run_forward(self, peer: ForwardPeer | SpdyPeer) -> None:
        self.close_connection = True
        with self.fake.lock:
            number = min(self.fake.forward_count, len(self.fake.forwards) - 1)
            self.fake.forward_count += 1
        with contextlib.suppress(OSError):  # The client went first.
            self.fake.forwards[number](peer)

    def _answer(self, status: int, body: object) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True
