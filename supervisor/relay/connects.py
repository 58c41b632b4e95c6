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

import contextlib
import errno
import socket
import struct
import time
from collections import deque
from collections.abc import Callable

from ...agent.pump.loop import WRITE, Loop, Timer
from ...agent.pump.session import Session
from ...agent.wire.errors import LocalProtocolError
from ...agent.wire.frames import MAX_REQUESTS, WINDOW_BYTES
from ...agent.wire.messages import Address, Connected, ConnectTcp, Failed, GiveUpConnect, Message
from ...syscalls.requests import EndConnect, StartConnect, Verdict
from .loopback import family_of, loopback_of, packed, sockaddr
from .tcpstate import Presence, TcpStates

CONNECT_DEADLINE_S = 200.0
"""More than the pod's kernel takes to give up on a silent peer: its verdict is the one that counts."""

SETTLE_FOR_S = 2.0
"""How long the tracee's socket may take to begin its connect after the pod's verdict."""

FIRST_CHECK_S = 0.25
"""How long a connect may take before its socket is looked after."""

LONGEST_CHECK_S = 2.0
"""The longest time between two looks at a socket."""

MAX_UNDER_WAY = MAX_REQUESTS // 2
"""Connects that the agent has in hand at once: peers that never answer must not use up the session's requests."""

_FIRST_RETRY_S = 0.0005
_LONGEST_RETRY_S = 0.05
_TCP_CLOSE = 7
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
        self.address = packed(self._socket.getsockname()[:2])
        self.port = self.address.port

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


# One connect, from the tracer's word until the tracee's socket is settled.
class _Attempt:
    __slots__ = ("asked_at", "check_at", "request", "settling", "stream", "was_there")

    def __init__(self, request: StartConnect) -> None:
        self.request = request
        self.stream: int | None = None  # of the question to the agent, once asked
        self.settling: _Settling | None = None
        self.asked_at = time.monotonic()
        self.check_at = self.asked_at + FIRST_CHECK_S
        self.was_there = False


class Connects:
    """All connects of one session."""

    def __init__(
        self,
        loop: Loop,
        session: Session,
        listeners: dict[int, FullListener],
        tell: Callable[[Message], None],
        join: Callable[[Address, int, socket.socket], None] | None = None,
    ) -> None:
        """`join(peer, stream, socket)`: what to do with both ends of a connection, if not to bridge them."""
        self._loop = loop
        self._session = session
        self._join = join or (lambda _, stream, sock: session.bridge(stream, sock))
        self._listeners = listeners
        self._tell = tell
        self._states = TcpStates()
        self._attempts: dict[int, _Attempt] = {}
        self._waiting: deque[_Attempt] = deque()
        self._under_way = 0
        self._timer: Timer | None = None
        self._is_closing = False

    def start(self, request: StartConnect) -> None:
        """Ask the agent to connect; the rest follows from its reply."""
        attempt = self._attempts[request.key] = _Attempt(request)
        self._waiting.append(attempt)
        self._ask_next()
        if self._timer is None:
            self._timer = self._loop.call_later(FIRST_CHECK_S, self._check_all)

    def end(self, request: EndConnect) -> None:
        """Nobody wants this connection any more: the agent gives it up, and the tracee's socket is left alone."""
        attempt = self._attempts.pop(request.key, None)
        if attempt is not None:
            self._give_up(attempt)

    def close(self) -> None:
        """The program has ended: what is not settled is not wanted any more, unless it may have spoken its last words."""
        self._is_closing = True
        self._waiting.clear()
        for key, attempt in list(self._attempts.items()):
            if attempt.settling is None or not attempt.settling.may_be_connected:
                del self._attempts[key]
                self._give_up(attempt)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._close_states()

    def _close_states(self) -> None:
        if self._is_closing and not self._attempts:
            self._states.close()

    @property
    def pending(self) -> int:
        """How many are not settled yet."""
        return len(self._attempts)

    # -- the agent ------------------------------------------------------------------------------------------------------

    def _ask_next(self) -> None:
        while self._waiting and self._under_way < MAX_UNDER_WAY:
            attempt = self._waiting.popleft()
            if self._is_wanted(attempt):
                self._ask(attempt)

    def _is_wanted(self, attempt: _Attempt) -> bool:
        return self._attempts.get(attempt.request.key) is attempt

    def _ask(self, attempt: _Attempt) -> None:
        request = attempt.request
        try:
            stream = self._session.new_stream()
        except LocalProtocolError:  # as many as the protocol has
            self._fail(attempt, errno.ENOBUFS)
            return
        attempt.stream = stream
        self._under_way += 1

        def on_reply(reply: Message) -> None:
            self._under_way -= 1
            self._take(attempt, stream, reply)
            self._ask_next()

        question = ConnectTcp(stream, request.peer, request.source, request.is_port_firm, request.options)
        self._session.request(question, on_reply, CONNECT_DEADLINE_S)

    def _take(self, attempt: _Attempt, stream: int, reply: Message) -> None:
        request = attempt.request
        if not self._is_wanted(attempt):
            return  # given up meanwhile, the stream with it
        if isinstance(reply, Connected):
            self._tell(Verdict(request.key, 0, reply.local, reply.peer))
            self._settle(attempt, is_connected=True)
            return
        number = (reply.errno if isinstance(reply, Failed) else 0) or errno.EPROTO
        if number == errno.ETIMEDOUT:
            self._session.notify(GiveUpConnect(stream))  # it may have been our own deadline
        self._session.reset(stream, 0)
        self._fail(attempt, number)

    def _fail(self, attempt: _Attempt, number: int) -> None:
        request = attempt.request
        self._tell(Verdict(request.key, number, _nowhere(request.peer), request.peer))
        self._settle(attempt, is_connected=False)

    # -- the tracee's socket --------------------------------------------------------------------------------------------

    def _settle(self, attempt: _Attempt, is_connected: bool) -> None:
        listener = self._listeners.get(family_of(attempt.request.local))
        if listener is None:
            self._finish(attempt, None, is_connected)
            return

        def on_done(sock: socket.socket | None) -> None:
            self._finish(attempt, sock, is_connected)

        def presence() -> Presence:
            return self._presence(attempt)

        attempt.settling = _Settling(self._loop, listener, attempt.request.local, not is_connected, presence, on_done)
        attempt.settling.attempt()

    def _presence(self, attempt: _Attempt) -> Presence:
        request = attempt.request
        listener = self._listeners.get(family_of(request.local))
        if listener is None:
            return Presence.UNKNOWN
        return self._states.presence(packed(sockaddr(request.local)), listener.address, request.cookie)

    def _finish(self, attempt: _Attempt, sock: socket.socket | None, is_connected: bool) -> None:
        del self._attempts[attempt.request.key]
        settling, attempt.settling = attempt.settling, None
        if sock is not None and is_connected and attempt.stream is not None:
            self._join(attempt.request.peer, attempt.stream, sock)
        elif sock is not None:
            sock.close()
        elif is_connected and attempt.stream is not None:
            if settling is not None and settling.last_words:
                self._session.connection.send_data(attempt.stream, settling.last_words)
            self._session.reset(attempt.stream, errno.ECONNRESET)
        self._close_states()

    def _give_up(self, attempt: _Attempt) -> None:
        settling, attempt.settling = attempt.settling, None
        if settling is not None:
            settling.stop()
        if attempt.stream is not None:
            if settling is None:
                self._session.notify(GiveUpConnect(attempt.stream))
            self._session.reset(attempt.stream, 0)

    # close(2) does not stop. Sockets that wait for long are looked at now and then: the attempt of one that is gone is
    # given up in the pod, too. One that was never there may still be about to begin.
    def _check_all(self) -> None:
        self._timer = None
        now = time.monotonic()
        for attempt in [attempt for attempt in self._attempts.values() if attempt.check_at <= now]:
            age_s = now - attempt.asked_at
            attempt.check_at = now + min(age_s, LONGEST_CHECK_S)
            presence = self._presence(attempt)
            if presence is Presence.THERE:
                attempt.was_there = True
            elif presence is Presence.ABSENT and (attempt.was_there or age_s > SETTLE_FOR_S):
                del self._attempts[attempt.request.key]
                self._give_up(attempt)
        if self._attempts:
            self._timer = self._loop.call_later(FIRST_CHECK_S, self._check_all)


# One simultaneous open with the tracee's socket, tried until it succeeds or the socket is taken to be gone.
class _Settling:
    def __init__(
        self,
        loop: Loop,
        listener: FullListener,
        tracee: Address,
        for_reset: bool,
        presence: Callable[[], Presence],
        on_done: Callable[[socket.socket | None], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._tracee = sockaddr(tracee)
        self._for_reset = for_reset
        self._presence = presence
        self._on_done = on_done
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._retry_s = _FIRST_RETRY_S
        self._was_there = False
        self._give_up = time.monotonic() + SETTLE_FOR_S
        self.last_words = b""  # of a tracee that has connected, spoken and reset it before we looked

    def attempt(self) -> None:
        self._timer = None
        presence = self._presence()
        if presence is Presence.ABSENT:
            self._retry()
            return
        self._was_there = presence is Presence.THERE
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

    @property
    def may_be_connected(self) -> bool:
        """Whether the tracee's socket may be connected by now, and have been written to and closed."""
        return self._socket is not None and not self._for_reset

    def stop(self) -> None:
        """Leave the tracee's socket alone; `on_done` is not called any more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _on_ready(self, _: int) -> None:
        assert self._socket is not None
        self._loop.unwatch(self._socket.fileno())
        self._take(self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _take(self, number: int) -> None:
        sock, self._socket = self._socket, None
        assert sock is not None
        if number not in (0, errno.ECONNRESET):
            sock.close()
            self._retry()
        elif self._for_reset:
            self._on_done(sock)
        elif number or _is_closed(sock):
            with sock, contextlib.suppress(OSError):
                self.last_words = sock.recv(WINDOW_BYTES)
            self._on_done(None)
        elif self._presence() is Presence.ABSENT and not _is_closed(sock):
            # The port belongs to another socket, one that listens. It is not for that one.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
            sock.close()
            self._on_done(None)
        else:
            self._on_done(sock)

    def _retry(self) -> None:
        gone = self._was_there and self._presence() is Presence.ABSENT
        if gone or time.monotonic() >= self._give_up:
            self._on_done(None)
            return
        self._timer = self._loop.call_later(self._retry_s, self.attempt)
        self._retry_s = min(2 * self._retry_s, _LONGEST_RETRY_S)


def _is_closed(sock: socket.socket) -> bool:
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _TCP_CLOSE


def _reusable_socket(family: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return sock


def _nowhere(like: Address) -> Address:
    return Address(bytes(len(like.ip)), 0)
