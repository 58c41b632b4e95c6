"""connect(2) of the tracee's own TCP socket, settled by the pod's verdict and without blocking anybody.

The tracee's connect runs in the kernel, towards a full listener: a listening socket whose accept queue holds its one
connection, which nobody ever accepts. The kernel drops every further SYN to such a listener silently, so the tracee's
socket stays in SYN_SENT, natively: non-blocking, interruptible, watched by epoll, with its own timeouts.

When the pod's verdict is known, a socket of ours, bound to the listener's own port (SO_REUSEADDR and SO_REUSEPORT on
both), connects to the tracee's socket. Two SYNs that cross are a simultaneous open (RFC 9293, 3.5): both sockets become
connected, to each other. The bytes then go between our socket and the stream. For a failure our socket connects the
same way and is closed with SO_LINGER 0: the RST ends the tracee's connect with ECONNRESET. So that nobody sees the
tracee's socket connected in between, our last ACK of the handshake is held back: TCP_DEFER_ACCEPT on a connecting
socket does that for 200 ms. The tracee's socket is still in SYN_RECV when the RST comes. (Our SYN alone cannot fail it,
and an RST from SYN_SENT is never sent.)

The tracer tells `StartConnect` just before the tracee's connect runs. A verdict that is faster than that meets a bound
socket that is not connecting: its kernel refuses us, and we try again for a short while. Beyond that the socket has
been closed: nobody wants the connection any more.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from ...agent.pump.loop import WRITE, Loop
from ...agent.pump.session import Session
from ...agent.wire.errors import LocalProtocolError
from ...agent.wire.frames import MAX_REQUESTS
from ...agent.wire.messages import Address, Connected, ConnectTcp, Failed, Message
from ...syscalls.requests import StartConnect, Verdict
from .loopback import family_of, loopback_of, sockaddr

CONNECT_DEADLINE_S = 200.0
"""More than the pod's kernel takes to give up on a silent peer: its verdict is the one that counts."""

SETTLE_FOR_S = 2.0
"""How long the tracee's socket may take to begin its connect after the pod's verdict."""

MAX_UNDER_WAY = MAX_REQUESTS // 2
"""Connects that the agent has in hand at once: peers that never answer must not use up the session's requests."""

_FIRST_RETRY_S = 0.0005
_LONGEST_RETRY_S = 0.05
_RESET_AT_CLOSE = struct.pack("ii", 1, 0)


class FullListener:
    """A listener on loopback to which every connect stays pending, and the source of sockets that settle those."""

    def __init__(self, family: socket.AddressFamily) -> None:
        """OSError if this machine has no such family."""
        self.family = family
        self._socket = _reusable_socket(family)
        self._filler = socket.socket(family, socket.SOCK_STREAM)
        try:
            self._socket.bind((loopback_of(family), 0))
            self._socket.listen(0)
            self._filler.connect(self._socket.getsockname())
        except OSError:
            self.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def settling_socket(self, for_reset: bool) -> socket.socket:
        """A non-blocking socket with the listener's own address, not yet connected; `for_reset`: closing it resets."""
        sock = _reusable_socket(self.family)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if for_reset:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            sock.bind((loopback_of(self.family), self.port))
        except OSError:
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Connects that are still pending see a reset at their next SYN."""
        self._socket.close()
        self._filler.close()


def open_listeners() -> dict[int, FullListener]:
    """A full listener for each internet address family that this machine has."""
    listeners: dict[int, FullListener] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            listeners[family] = FullListener(family)
        except OSError:
            continue
    return listeners


class Connects:
    """All connects of one session."""

    def __init__(
        self,
        loop: Loop,
        session: Session,
        listeners: dict[int, FullListener],
        tell: Callable[[Message], None],
    ) -> None:
        self._loop = loop
        self._session = session
        self._listeners = listeners
        self._tell = tell
        self._waiting: deque[StartConnect] = deque()
        self._under_way = 0

    def start(self, request: StartConnect) -> None:
        """Ask the agent to connect; the rest follows from its reply."""
        self._waiting.append(request)
        self._ask_next()

    def _ask_next(self) -> None:
        while self._waiting and self._under_way < MAX_UNDER_WAY:
            self._ask(self._waiting.popleft())

    def _ask(self, request: StartConnect) -> None:
        try:
            stream = self._session.new_stream()
        except LocalProtocolError:  # as many as the protocol has
            self._fail(request, errno.ENOBUFS)
            return
        self._under_way += 1

        def on_reply(reply: Message) -> None:
            self._under_way -= 1
            self._take(request, stream, reply)
            self._ask_next()

        self._session.request(ConnectTcp(stream, request.peer), on_reply, CONNECT_DEADLINE_S)

    def _take(self, request: StartConnect, stream: int, reply: Message) -> None:
        if isinstance(reply, Connected):
            self._tell(Verdict(request.key, 0, reply.local, reply.peer))
            self._settle(request.local, stream)
        else:
            self._session.reset(stream, 0)
            self._fail(request, (reply.errno if isinstance(reply, Failed) else 0) or errno.EPROTO)

    def _fail(self, request: StartConnect, number: int) -> None:
        self._tell(Verdict(request.key, number, _nowhere(request.peer), request.peer))
        self._settle(request.local, None)

    # `stream` None: the pod's connect failed.
    def _settle(self, tracee: Address, stream: int | None) -> None:
        listener = self._listeners.get(family_of(tracee))
        if listener is None:
            self._finish(None, stream)
            return

        for_reset = stream is None
        _Settling(self._loop, listener, sockaddr(tracee), for_reset, lambda sock: self._finish(sock, stream)).attempt()

    def _finish(self, sock: socket.socket | None, stream: int | None) -> None:
        if sock is not None and stream is not None:
            self._session.bridge(stream, sock)
        elif sock is not None:
            sock.close()
        elif stream is not None:
            self._session.reset(stream, errno.ECONNRESET)


# One simultaneous open with the tracee's socket, tried until it succeeds or the socket is taken to be gone.
class _Settling:
    def __init__(
        self,
        loop: Loop,
        listener: FullListener,
        tracee: tuple[str, int],
        for_reset: bool,
        on_done: Callable[[socket.socket | None], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._tracee = tracee
        self._for_reset = for_reset
        self._on_done = on_done
        self._socket: socket.socket | None = None
        self._retry_s = _FIRST_RETRY_S
        self._give_up = time.monotonic() + SETTLE_FOR_S

    def attempt(self) -> None:
        try:
            sock = self._listener.settling_socket(self._for_reset)
        except OSError:  # out of descriptors, for one
            self._retry()
            return
        self._socket = sock
        number = sock.connect_ex(self._tracee)
        if number == errno.EINPROGRESS:
            self._loop.watch(sock.fileno(), WRITE, self._on_ready)
        else:
            self._take(number)

    def _on_ready(self, _: int) -> None:
        assert self._socket is not None
        self._loop.unwatch(self._socket.fileno())
        self._take(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _take(self, number: int) -> None:
        sock, self._socket = self._socket, None
        assert sock is not None
        if number == 0:
            self._on_done(sock)
        else:
            sock.close()
            self._retry()

    def _retry(self) -> None:
        if time.monotonic() >= self._give_up:
            self._on_done(None)
            return
        self._loop.call_later(self._retry_s, self.attempt)
        self._retry_s = min(2 * self._retry_s, _LONGEST_RETRY_S)


def _reusable_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return sock


def _nowhere(like: Address) -> Address:
    return Address(bytes(len(like.ip)), 0)
