"""The pod's interfaces, addresses and routes for the tracees' netlink sockets (syscalls/net/routes.py).

A tracee's socket is connected to the one here. Every question (RTM_GET*) goes to the agent, one at a time for each socket, and
the answer goes back as datagrams, with the sequence number and the port that the tracee expects. All other requests get
EPERM. The same question is not asked again for a moment, since getaddrinfo(3) of glibc asks for all addresses at each call.

A tracee that does not read fills its socket's buffer; then the rest waits here, and so do its further questions. When the
socket is closed the kernel refuses what is sent to it (ECONNREFUSED), and it is forgotten.
"""

from __future__ import annotations

import errno
import socket
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ...agent.pump.loop import READ, Loop, Timer
from ...agent.pump.session import Session
from ...agent.wire.messages import AskRoutes, Done, Failed, Message, RouteReplies
from ...syscalls.abi import netlink
from ...syscalls.requests import AwaitRoutes, RouteSocket

FRESH_S = 2.0
"""For so long an answer of the agent counts as current."""

MAX_SOCKETS = 1024
"""Tracee sockets: beyond, those that are closed are dropped, or else the oldest."""

DEADLINE_S = 30.0
_MOST_CACHED = 64
_LARGEST_CACHED_BYTES = 64 * 1024
_MOST_WAITING = 256  # questions of one socket
_MOST_UNKNOWN = 64
_MAX_BATCH = 64
_RETRY_S = (0.005, 0.5)
_DATAGRAM_BYTES = 64 * 1024

Reply = Callable[[Message], None]
Clock = Callable[[], float]


class Routes:
    """All of one session. `port`: the nl_pid that tracees' sockets are connected to; 0 if this machine has no netlink."""

    def __init__(self, loop: Loop, session: Session, *, clock: Clock = time.monotonic) -> None:
        self._loop = loop
        self._session = session
        self._clock = clock
        self._socket = _open()
        self.port = 0 if self._socket is None else int(self._socket.getsockname()[0])
        self._sockets: dict[int, _Tracee] = {}  # the oldest first
        self._unknown: deque[tuple[int, bytes]] = deque(maxlen=_MOST_UNKNOWN)
        self._cache: dict[bytes, tuple[float, RouteReplies]] = {}
        if self._socket is not None:
            loop.watch(self._socket.fileno(), READ, self._on_readable)

    def add(self, message: RouteSocket) -> None:
        """A tracee has made a socket, or has bound it."""
        known = self._sockets.get(message.netlink_port)
        if known is not None:
            known.known_as = message.known_as
            return
        self._make_room()
        port = message.netlink_port
        self._sockets[port] = _Tracee(port, message.known_as)
        early = [content for sender, content in self._unknown if sender == port]
        for content in early:
            self._unknown.remove((port, content))
            self._take(self._sockets[port], content)

    def wait(self, request: AwaitRoutes, reply: Reply) -> None:
        """`Done` when the tracee's socket has its answers, or as many as its buffer takes."""
        self._on_readable(READ)
        known = self._sockets.get(request.netlink_port)
        if known is None or not known.busy or known.answers:
            reply(Done())
        else:
            known.waiting.append(reply)

    def ask(self, request: AskRoutes, reply: Reply) -> None:
        """Answer from what was asked a moment ago, or ask the agent."""
        key = _anonymous(request.request)
        now = self._clock()
        cached = self._cache.get(key)
        if cached is not None and now - cached[0] < FRESH_S:
            reply(cached[1])
            return

        def on_reply(message: Message) -> None:
            if isinstance(message, RouteReplies) and sum(map(len, message.datagrams)) <= _LARGEST_CACHED_BYTES:
                if len(self._cache) >= _MOST_CACHED:
                    self._cache.clear()
                self._cache[key] = (self._clock(), message)
            reply(message)

        self._session.request(AskRoutes(key), on_reply, DEADLINE_S)

    def close(self) -> None:
        """No more questions."""
        for known in list(self._sockets.values()):
            self._forget(known)
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _on_readable(self, _: int) -> None:
        for _ in range(_MAX_BATCH):
            if self._socket is None:
                return
            try:
                content, (port, _) = self._socket.recvfrom(_DATAGRAM_BYTES)
            except OSError:
                return
            known = self._sockets.get(port)
            if known is None:
                self._unknown.append((port, content))  # its RouteSocket is under way, or it is nobody of ours
            else:
                self._take(known, content)

    def _take(self, known: _Tracee, content: bytes) -> None:
        for _, message in netlink.messages(content):
            if len(known.questions) < _MOST_WAITING:
                known.questions.append(message)
        self._next(known)

    # The next question, when all that was asked before has been answered.
    def _next(self, known: _Tracee) -> None:
        while known.questions and not known.busy and not known.answers:
            question = known.questions.popleft()
            refused = _refusal(question)
            if refused is None:
                known.busy = True
                self.ask(AskRoutes(question), self._answer_to(known, question))
            elif refused >= 0:
                self._send(known, [netlink.failure(question, refused)], question)
        if not known.busy:
            known.answered()

    def _answer_to(self, known: _Tracee, question: bytes) -> Reply:
        def answer(message: Message) -> None:
            if self._sockets.get(known.port) is not known:
                return  # closed meanwhile
            known.busy = False
            if isinstance(message, RouteReplies):
                self._send(known, message.datagrams, question)
            else:
                number = message.errno if isinstance(message, Failed) else errno.EPROTO
                self._send(known, [netlink.failure(question, number)], question)
            self._next(known)

        return answer

    def _send(self, known: _Tracee, datagrams: tuple[bytes, ...] | list[bytes], question: bytes) -> None:
        known.answers.extend(netlink.readdressed(datagram, question, known.known_as) for datagram in datagrams)
        self._flush(known)

    def _flush(self, known: _Tracee) -> None:
        while known.answers and self._socket is not None:
            try:
                self._socket.sendto(known.answers[0], (known.port, 0))
            except BlockingIOError:
                known.wait_s = min(2 * known.wait_s, _RETRY_S[1])
                known.timer = self._loop.call_later(known.wait_s, lambda: self._again(known))
                known.answered()
                return
            except OSError:
                self._forget(known)
                return
            known.answers.popleft()
            known.wait_s = _RETRY_S[0]

    def _again(self, known: _Tracee) -> None:
        known.timer = None
        self._flush(known)
        self._next(known)

    def _forget(self, known: _Tracee) -> None:
        if known.timer is not None:
            known.timer.cancel()
            known.timer = None
        known.questions.clear()
        known.answers.clear()
        known.answered()
        if self._sockets.get(known.port) is known:
            del self._sockets[known.port]

    def _make_room(self) -> None:
        if len(self._sockets) < MAX_SOCKETS:
            return
        live = _live_ports()
        for known in list(self._sockets.values()):
            if live is not None and known.port not in live:
                self._forget(known)
        while len(self._sockets) >= MAX_SOCKETS:
            self._forget(next(iter(self._sockets.values())))


# One socket of a tracee: questions not yet asked, and parts of the answer for which its buffer has no room.
class _Tracee:
    def __init__(self, port: int, known_as: int) -> None:
        self.port = port
        self.known_as = known_as
        self.questions: deque[bytes] = deque()
        self.answers: deque[bytes] = deque()
        self.waiting: list[Reply] = []
        self.busy = False
        self.wait_s = _RETRY_S[0]
        self.timer: Timer | None = None

    # Whoever waits for an answer has something to read now.
    def answered(self) -> None:
        waiting, self.waiting = self.waiting, []
        for reply in waiting:
            reply(Done())


def _open() -> socket.socket | None:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, netlink.NETLINK_USERSOCK)
    except OSError:
        return None
    sock.setblocking(False)
    sock.bind((0, 0))
    return sock


# netlink(7): 0 acknowledges, -1 answers nothing, None: a question for the pod.
def _refusal(question: bytes) -> int | None:
    header, _ = next(netlink.messages(question))
    if not header.flags & netlink.NLM_F_REQUEST or header.type < netlink.NLMSG_MIN_TYPE:
        return 0 if header.flags & netlink.NLM_F_ACK else -1
    return None if header.type & netlink.KIND_MASK == netlink.KIND_GET else errno.EPERM


# The request without what tells its askers apart.
def _anonymous(request: bytes) -> bytes:
    return request[:8] + bytes(8) + request[16:] if len(request) >= netlink.HEADER_BYTES else request


# The ports of all NETLINK_USERSOCK sockets of this machine; None if that cannot be told.
def _live_ports() -> set[int] | None:
    try:
        rows = [line.split() for line in Path("/proc/net/netlink").read_text(encoding="ascii").splitlines()[1:]]
    except OSError:
        return None
    return {int(row[2]) for row in rows if row[1] == str(netlink.NETLINK_USERSOCK)}
