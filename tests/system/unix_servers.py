"""Servers on unix sockets of the demo pod, as threads of the test: by path in its file system, by name in its network."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from mirrord_trace.supervisor.targets.demo.pod import DemoPod


class Servers:
    """Echo servers in the pod's file system and network, until `close`. Paths are the pod's.

    `said`: what came to `log`, a datagram socket that answers nobody.
    """

    def __init__(self, pod: DemoPod) -> None:
        self._root = Path("/proc", str(pod.pid), "root")
        self._outside = Path(tempfile.mkdtemp(prefix="unix-", dir=self._root / "tmp"))
        self.folder = Path("/") / self._outside.relative_to(self._root)
        self.said: list[bytes] = []
        self.abstract = f"@{self.folder.name}"
        self._pod = pod
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._heard = threading.Condition()
        for name, kind in (("stream", socket.SOCK_STREAM), ("seqpacket", socket.SOCK_SEQPACKET)):
            self.listen(name, kind, _echo)
        self._serve(self._open(socket.SOCK_STREAM), "\0" + self.abstract[1:], _echo)
        for name in ("datagram", "log"):
            self._receive(name)

    def path(self, name: str) -> str:
        """In the pod."""
        return str(self.folder / name)

    def outside(self, name: str) -> str:
        """The same for this machine."""
        return str(self._outside / name)

    @property
    def all(self) -> list[str]:
        """The arguments of the checking program."""
        stream, seqpacket, datagram = (self.path(name) for name in ("stream", "seqpacket", "datagram"))
        return [stream, seqpacket, datagram, self.abstract, self.path("missing")]

    def listen(self, name: str, kind: int, serve: Callable[[socket.socket], None]) -> None:
        """One more server."""
        self._serve(self._open(kind), self.outside(name), serve)

    def wait(self, count: int) -> list[bytes]:
        """The first `count` messages to `log`."""
        with self._heard:
            assert self._heard.wait_for(lambda: len(self.said) >= count, 20), self.said
            return self.said[:count]

    def close(self) -> None:
        """The servers end."""
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
        for sock in self._sockets:
            sock.close()
        shutil.rmtree(self._outside)

    def _open(self, kind: int) -> socket.socket:
        return self._pod.open_socket(socket.AF_UNIX, kind, in_pod=True)

    def _serve(self, listener: socket.socket, name: str, serve: Callable[[socket.socket], None]) -> None:
        listener.bind(name)
        listener.listen()
        self._sockets.append(listener)

        def accept_all() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    self._sockets.append(connection)
                    self._start(lambda connection=connection: serve(connection))  # type: ignore[misc]

        self._start(accept_all)

    def _receive(self, name: str) -> None:
        bound = self._open(socket.SOCK_DGRAM)
        bound.bind(self.outside(name))
        self._sockets.append(bound)

        def receive_all() -> None:
            while True:
                message, sender = bound.recvfrom(65536)
                if not message and not sender:
                    return
                if name == "datagram" and sender:
                    with contextlib.suppress(OSError):
                        bound.sendto(b"answer to " + message, sender)
                else:
                    with self._heard:
                        self.said.append(message)
                        self._heard.notify()

        self._start(receive_all)

    def _start(self, run: Callable[[], None]) -> None:
        self._threads.append(threading.Thread(target=run, daemon=True))
        self._threads[-1].start()


# Zero bytes are an empty message or the end; the end comes again and again.
def _echo(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        empty = 0
        while empty < 2:
            message = connection.recv(1 << 18)
            empty = 0 if message else empty + 1
            if message or (connection.type == socket.SOCK_SEQPACKET and empty < 2):
                connection.send(message) if connection.type == socket.SOCK_SEQPACKET else connection.sendall(message)
            elif not message:
                break
        connection.shutdown(socket.SHUT_WR)
