"""Unix sockets of the pod: unix(7).

A path is resolved in the target container's file system, whose sockets need not be in any network namespace of ours. It
is opened with O_PATH and connected to through /proc/self/fd/N, so that no link leads out of the container's root. An
abstract name belongs to the network namespace, which the agent has entered.

The peer sees the agent's credentials (SO_PEERCRED), not those of any process of the container.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import time
from typing import Callable, Union

from .net import failed
from .pump.ends import End
from .pump.loop import Loop
from .pump.packets import Packets
from .pump.session import Session
from .pump.unix_bridge import UnixBridge
from .root import Root
from .wire.messages import ConnectUnix, Failed, Log, Message, UnixConnected
from .workers import Outcome, Workers

Reply = Callable[[Message], None]

_KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)
_FIRST_RETRY_S = 0.005
_LONGEST_RETRY_S = 0.1
_WARNING = 30


class OutgoingUnix:
    """Answers `ConnectUnix`. Never blocks: a path is looked up by a worker, a full backlog is tried again by a timer."""

    def __init__(self, loop: Loop, session: Session, root: Root, workers: Workers) -> None:
        self._loop = loop
        self._session = session
        self._root = root
        self._workers = workers
        self._warned = False

    def connect(self, request: ConnectUnix, reply: Reply) -> None:
        """connect(2): `UnixConnected`, or `Failed` with the errno of the pod's kernel."""
        if request.kind not in _KINDS:
            reply(Failed(errno.ESOCKTNOSUPPORT))
        elif request.path.startswith(b"\0"):
            self._begin(request, -1, reply)
        else:
            self._workers.submit(lambda: self._look_up(request, reply))

    # On a worker.
    def _look_up(self, request: ConnectUnix, reply: Reply) -> Outcome:
        try:
            fd = self._root.open_path(request.path)
        except OSError as error:
            message = failed(error)
            return lambda: reply(message)
        return lambda: self._begin(request, fd, reply)

    def _begin(self, request: ConnectUnix, fd: int, reply: Reply) -> None:
        address: Union[str, bytes] = request.path if fd < 0 else f"/proc/self/fd/{fd}"
        try:
            sock = _open(request.kind)
        except OSError as error:
            if fd >= 0:
                os.close(fd)
            reply(failed(error))
            return

        def decided(code: int) -> None:
            if fd >= 0:
                os.close(fd)
            self._finish(sock, code, request, reply)

        _Attempt(self._loop, sock, address, request.patience_ms / 1000, decided).connect()

    def _finish(self, sock: socket.socket, code: int, request: ConnectUnix, reply: Reply) -> None:
        try:
            if code:
                raise OSError(code, os.strerror(code))
            peer = sock.getpeername()
        except OSError as error:
            sock.close()
            reply(failed(error))
            return
        reply(UnixConnected(peer if isinstance(peer, bytes) else os.fsencode(peer or "")))
        kind = UnixBridge if request.kind == socket.SOCK_STREAM else Packets
        end: End = kind(self._session, request.stream, sock, None, self._descriptors_passed)
        self._session.join(request.stream, end)

    def _descriptors_passed(self) -> None:
        if not self._warned:
            self._warned = True
            text = "a server of the pod passed descriptors over a unix socket, which cannot leave the pod: connection closed"
            self._session.notify(Log(_WARNING, text))


# One connect(2), made again while the listener's backlog is full: a blocking connect(2) would wait for it.
class _Attempt:
    def __init__(
        self, loop: Loop, sock: socket.socket, address: Union[str, bytes], patience_s: float, on_end: Callable[[int], None]
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._address = address
        self._until = time.monotonic() + patience_s
        self._retry_s = _FIRST_RETRY_S
        self._on_end = on_end

    def connect(self) -> None:
        code = self._sock.connect_ex(self._address)
        if code == errno.EAGAIN and time.monotonic() < self._until:
            self._loop.call_later(self._retry_s, self.connect)
            self._retry_s = min(2 * self._retry_s, _LONGEST_RETRY_S)
        else:
            self._on_end(code)


# A datagram socket without a name cannot be answered.
def _open(kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if kind == socket.SOCK_DGRAM:
        try:
            sock.bind(b"\0mirrord-trace-" + secrets.token_hex(16).encode())
        except OSError:
            sock.close()
            raise
    return sock
