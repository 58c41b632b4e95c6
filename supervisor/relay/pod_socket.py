"""A datagram socket in the pod, behind a stream of the session."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable

from ...agent.pump.session import Session
from ...agent.wire.errors import LocalProtocolError
from ...agent.wire.messages import Address, Done, Failed, Message, OpenPing, UdpOpened

OPEN_DEADLINE_S = 30.0
_REOPEN_AFTER_S = 1.0
_MAX_WAITING = 1024  # datagrams while it is being opened, and their bytes
_MAX_WAITING_BYTES = 256 * 1024

Clock = Callable[[], float]


class PodSocket:
    """`opening(stream)` makes the request that opens it. Datagrams (framed) wait for it to be open.

    `local` is its address in the pod, None until it is open.
    """

    def __init__(
        self,
        session: Session,
        opening: Callable[[int], Message],
        on_datagram: Callable[[bytes], None],
        on_open: Callable[[], None],
        clock: Clock = time.monotonic,
    ) -> None:
        self.local: Address | None = None
        self.used_at = clock()
        self.stream = 0
        self._session = session
        self._on_datagram = on_datagram
        self._on_open = on_open
        self._clock = clock
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._over_at: float | None = None
        self._closed = False
        try:
            self.stream = session.new_stream()
        except LocalProtocolError:  # as many as the protocol has
            self._over_at = clock()
            return
        session.request(opening(self.stream), self._on_reply, OPEN_DEADLINE_S)

    def send(self, datagram: bytes) -> None:
        """Send it when that can be done; what is too much is dropped."""
        self.used_at = self._clock()
        if self._over_at is not None:
            return
        if self.local is not None:
            self._session.send_datagram(self.stream, datagram)
        elif len(self._waiting) < _MAX_WAITING and self._waiting_bytes + len(datagram) <= _MAX_WAITING_BYTES:
            self._waiting.append(datagram)
            self._waiting_bytes += len(datagram)

    def is_over(self) -> bool:
        """Failed or ended by the pod some time ago: worth another try."""
        return self._over_at is not None and self._clock() - self._over_at >= _REOPEN_AFTER_S

    def close(self) -> None:
        """Give the socket in the pod back."""
        if self.local is not None and self._over_at is None:
            self._session.reset(self.stream, 0)
        self._closed = True
        self._waiting.clear()

    def _on_reply(self, message: Message) -> None:
        waiting = list(self._waiting)
        self._waiting.clear()
        if self._closed or not isinstance(message, UdpOpened):
            self._session.reset(self.stream, 0)
            self._over_at = self._clock()
            return
        self.local = message.local
        self._session.datagrams(self.stream, self._take, self._on_end)
        self._on_open()
        for datagram in waiting:
            self._session.send_datagram(self.stream, datagram)

    def _take(self, datagram: bytes) -> None:
        self.used_at = self._clock()
        if not self._closed:
            self._on_datagram(datagram)

    def _on_end(self, _: int) -> None:
        self._over_at = self._clock()


def probe(session: Session, version: int, reply: Callable[[Message], None]) -> None:
    """Whether the pod allows ICMP echo sockets: `Done`, or `Failed` with the errno of opening one."""
    try:
        stream = session.new_stream()
    except LocalProtocolError:
        reply(Failed(errno.ENOBUFS))
        return

    def on_reply(message: Message) -> None:
        session.reset(stream, 0)
        reply(Done() if isinstance(message, UdpOpened) else message)

    session.request(OpenPing(stream, version), on_reply, OPEN_DEADLINE_S)
