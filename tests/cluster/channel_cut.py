"""A TCP proxy in front of the API server that breaks connections when it is told to, and the kubeconfig that leads to it."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
import urllib.parse
from pathlib import Path
from types import TracebackType

from .kubectl import Kubectl

_ABORT = struct.pack("ii", 1, 0)
_LOOK_S = 0.1
_BLOCK = 64 << 10


class CutServer:
    """Looks like the API server, TLS and all, for it only copies bytes. A context manager."""

    def __init__(self, kubectl: Kubectl, folder: Path) -> None:
        view = json.loads(kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
        described = view["clusters"][0]["cluster"]
        server = urllib.parse.urlsplit(described["server"])
        assert server.hostname is not None
        self._server = (server.hostname, server.port or 443)
        self._listener = socket.create_server(("127.0.0.1", 0))
        described.setdefault("tls-server-name", server.hostname)
        described["server"] = f"{server.scheme}://127.0.0.1:{self._listener.getsockname()[1]}{server.path}"
        self.kubeconfig = folder / "kubeconfig-through-proxy"
        self.kubeconfig.write_text(json.dumps(view))  # JSON is YAML.
        self._lock = threading.Lock()
        self._joints: set[_Joint] = set()
        self._threads: list[threading.Thread] = []
        self._refusing = False
        self._ending = False
        self._passed = 0
        self._cut_at: list[int] = []
        self.cuts = 0

    def __enter__(self) -> CutServer:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._ending = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def refuse(self, refusing: bool) -> None:
        """Whether new connections are reset at once."""
        self._refusing = refusing

    def cut(self) -> int:
        """Reset all connections, both ways; how many there were."""
        with self._lock:
            joints = list(self._joints)
            self.cuts += len(joints)
        for joint in joints:
            joint.cut = True
        return len(joints)

    def cut_after(self, *sizes_bytes: int) -> None:
        """Reset the connection on which one of these numbers of bytes, counted from now over all, has passed."""
        with self._lock:
            self._cut_at = sorted(self._passed + size for size in sizes_bytes)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ending:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                _abort(client)
                continue
            joint = _Joint(client, socket.create_connection(self._server))
            with self._lock:
                self._joints.add(joint)
            self._start(self._copy, joint, joint.client, joint.server)
            self._start(self._copy, joint, joint.server, joint.client)

    def _copy(self, joint: _Joint, source: socket.socket, sink: socket.socket) -> None:
        try:
            while not joint.cut and (part := _receive(joint, source)):
                self._count(joint, len(part))
                if not _send(joint, sink, part):
                    break
            if not joint.cut:
                sink.shutdown(socket.SHUT_WR)
        except OSError:
            joint.cut = True
        if joint.copier_ended():
            with self._lock:
                self._joints.discard(joint)

    def _count(self, joint: _Joint, size: int) -> None:
        with self._lock:
            self._passed += size
            if self._cut_at and self._passed >= self._cut_at[0]:
                self._cut_at.pop(0)
                self.cuts += 1
                joint.cut = True


class _Joint:
    # Two connections and the two threads that copy between them. The last to leave closes, by a reset after a cut.
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.cut = False
        self._lock = threading.Lock()
        self._copiers = 2
        for sock in (client, server):
            sock.settimeout(_LOOK_S)

    def copier_ended(self) -> bool:
        with self._lock:
            self._copiers -= 1
            if self._copiers:
                return False
        for sock in (self.client, self.server):
            if self.cut:
                _abort(sock)
            else:
                sock.close()
        return True


def _receive(joint: _Joint, source: socket.socket) -> bytes:
    while not joint.cut:
        with contextlib.suppress(TimeoutError):
            return source.recv(_BLOCK)
    return b""


def _send(joint: _Joint, sink: socket.socket, part: bytes) -> bool:
    left = memoryview(part)
    while left and not joint.cut:
        with contextlib.suppress(TimeoutError):
            left = left[sink.send(left) :]
    return not left


def _abort(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
    sock.close()
