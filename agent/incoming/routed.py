"""A connection that a router (agent/http) decides about: this does for it what it says.

            ┌── SocketLink ── the pod's container (or the next layer)
    peer ── router
            └── StreamLink ── the client's program

A connection over which nothing is to be sent yet is opened a moment later: most peers have said by then what they want, and
neither the client nor the layers behind us see a connection without a word. For a protocol in which the server
speaks first that moment is all the delay.

Back-pressure goes by who feeds whom: as long as much waits to be sent on one connection, nothing is read from those whose
bytes made it so. A copy (mirror) feeds nothing and holds back nobody: too slow, it is dropped.
"""

from __future__ import annotations

import errno
import traceback
from collections import deque
from typing import Callable, Deque, Dict, List, Optional, Set, Tuple

from ..http.actions import PEER, Action, Close, Join, Open, Router, Send, SendEof
from ..pump.loop import Loop, Timer
from .links import Link

MOST_UNSENT_BYTES = 256 * 1024
MOST_COPY_BYTES = 1 << 20
POSTPONED_S = 0.02

OpenLink = Callable[["RoutedConnection", Open], Link]
"""Start connecting to an end. OSError: it cannot be opened."""


class RoutedConnection:
    """Drives `router`. `begin` with the peer's link, once. `on_end(self)` when all connections are gone.

    `on_dropped()` is called when a copy was too slow. `quiet` is set by whoever looks at the connection from time to time,
    and taken back when something moves.
    """

    def __init__(
        self,
        loop: Loop,
        router: Router,
        open_link: OpenLink,
        on_end: "Callable[[RoutedConnection], None]",
        on_dropped: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._router = router
        self._open_link = open_link
        self._on_end = on_end
        self._on_dropped = on_dropped
        self._links: Dict[int, Link] = {}
        self._copies: Set[int] = set()
        self._postponed: Dict[int, Tuple[Open, Timer]] = {}
        self._joined: Dict[int, int] = {}
        self._ended_joined: Set[int] = set()
        # Slow connection -> those that feed it, which are paused.
        self._slow: Dict[int, Set[int]] = {}
        self._paused: Set[int] = set()
        # What happened and is still to be told. Never recursive: what an action leads to comes behind the other actions.
        self._news: Deque[Callable[[], None]] = deque()
        self._working = False
        self._timer: Optional[Timer] = None
        self._over = False
        self._waiting = False
        self.quiet = False

    @property
    def idle(self) -> bool:
        """Whether nobody waits for anything, as far as can be seen: the peer had the last answer."""
        return not self._waiting and not any(link.unsent_bytes for link in self._links.values())

    def finish(self) -> None:
        """Close everything in order, without a word to the router."""
        self._end(0)

    def begin(self, link: Link) -> None:
        """The peer's connection."""
        self._links[PEER] = link
        self._tell(lambda: self._act(self._router.start(), PEER))

    def abort(self, code: int = errno.ECONNRESET) -> None:
        """Reset everything, without a word to the router."""
        self._end(code)

    def _end(self, code: int) -> None:
        if self._over:
            return
        self._over = True
        for link in list(self._links.values()):
            link.close(code)
        self._stop_timers()
        self._on_end(self)

    def _stop_timers(self) -> None:
        for _, timer in self._postponed.values():
            timer.cancel()
        if self._timer is not None:
            self._timer.cancel()

    # -- Driver -------------------------------------------------------------------------------------------------------

    def received(self, number: int, data: bytes) -> None:
        """See links.Driver."""
        self.quiet = False
        self._waiting = number == PEER
        self._tell(lambda: self._received(number, data))

    def ended(self, number: int) -> None:
        """See links.Driver."""
        self._tell(lambda: self._ended(number))

    def failed(self, number: int, code: int) -> None:
        """See links.Driver."""
        self._tell(lambda: self._failed(number, code))

    def drained(self, number: int) -> None:
        """See links.Driver."""
        link = self._links.get(number)
        if number in self._slow and link is not None and link.unsent_bytes <= MOST_UNSENT_BYTES // 2:
            del self._slow[number]
            self._pause()

    def gone(self, number: int) -> None:
        """See links.Driver."""
        self._tell(lambda: self._gone(number))

    # -- one after the other ------------------------------------------------------------------------------------------

    def _tell(self, news: Callable[[], None]) -> None:
        if self._over:
            return
        self._news.append(news)
        if self._working:
            return
        self._working = True
        try:
            while self._news and not self._over:
                self._news.popleft()()
            if not self._over:
                self._after()
        except Exception:  # a bug of the router costs one connection
            traceback.print_exc()
            self.abort()
        finally:
            self._working = False

    def _after(self) -> None:
        if not self._links:
            self._over = True
            self._stop_timers()
            self._on_end(self)
            return
        self._pause()
        wanted_s = self._router.wants_s
        if wanted_s > 0 and self._timer is None:
            self._timer = self._loop.call_later(wanted_s, self._timed_out)
        elif wanted_s <= 0 and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _timed_out(self) -> None:
        self._timer = None
        self._tell(lambda: self._act(self._router.timeout(), PEER))

    def _received(self, number: int, data: bytes) -> None:
        other = self._joined.get(number)
        if other is not None:
            self._send(other, data, number)
        elif number in self._links:
            self._act(self._router.received(number, data), number)

    def _ended(self, number: int) -> None:
        other = self._joined.get(number)
        if other is None:
            if number in self._links:
                self._act(self._router.ended(number), number)
            return
        self._send_eof(other)
        self._ended_joined.add(number)
        if other in self._ended_joined:
            self._close(number, 0)
            self._close(other, 0)

    def _failed(self, number: int, code: int) -> None:
        other = self._joined.get(number)
        known = self._forget(number)
        if other is not None:
            self._close(other, code)
        elif known:
            self._act(self._router.failed(number, code), number)

    def _gone(self, number: int) -> None:
        self._forget(number)

    def _forget(self, number: int) -> bool:
        known = self._links.pop(number, None) is not None
        self._copies.discard(number)
        self._slow.pop(number, None)
        return known

    # -- what the router says -----------------------------------------------------------------------------------------

    def _act(self, actions: List[Action], source: int) -> None:
        for action in actions:
            if type(action) is Send:
                self._send(action.connection, action.data, source)
            elif type(action) is Open:
                self._open(action)
            elif type(action) is SendEof:
                self._send_eof(action.connection)
            elif type(action) is Close:
                self._close(action.connection, action.errno)
            elif type(action) is Join:
                self._joined[action.a], self._joined[action.b] = action.b, action.a
                self._open_postponed(action.a)
                self._open_postponed(action.b)

    def _open(self, action: Open) -> None:
        number = action.connection
        if number not in self._postponed:
            timer = self._loop.call_later(POSTPONED_S, lambda: self._tell(lambda: self._open_postponed(number)))
            self._postponed[number] = (action, timer)
            return
        if action.copy:
            self._copies.add(number)
        try:
            self._links[number] = self._open_link(self, action)
        except OSError as error:
            code = error.errno or errno.EIO
            self._news.append(lambda: self._could_not_open(number, code))

    def _open_postponed(self, number: int) -> None:
        if number in self._postponed:
            action, timer = self._postponed[number]
            timer.cancel()
            self._open(action)
            del self._postponed[number]

    def _could_not_open(self, number: int, code: int) -> None:
        other = self._joined.get(number)
        self._copies.discard(number)
        if other is not None:
            self._close(other, code)
        else:
            self._act(self._router.failed(number, code), number)

    def _send(self, number: int, data: bytes, source: int) -> None:
        self._open_postponed(number)
        link = self._links.get(number)
        if link is None:
            return
        link.send(data)
        if number in self._copies:
            if link.unsent_bytes > MOST_COPY_BYTES:
                self._drop_copy(number)
        elif link.unsent_bytes > MOST_UNSENT_BYTES and source != number:
            self._slow.setdefault(number, set()).add(source)

    def _send_eof(self, number: int) -> None:
        self._open_postponed(number)
        link = self._links.get(number)
        if link is not None:
            link.send_eof()

    def _close(self, number: int, code: int) -> None:
        postponed = self._postponed.pop(number, None)
        if postponed is not None:
            postponed[1].cancel()
        link = self._links.get(number)
        if link is not None:
            self._slow.pop(number, None)
            link.close(code)

    def _drop_copy(self, number: int) -> None:
        self._on_dropped()
        self._close(number, errno.ENOBUFS)
        self._news.append(lambda: self._act(self._router.failed(number, errno.ENOBUFS), number))

    # Pause who must be paused, and nobody else.
    def _pause(self) -> None:
        wanted = set().union(*self._slow.values()) if self._slow else set()
        if self._router.full and PEER not in self._joined:
            wanted.add(PEER)
        if wanted == self._paused:
            return
        for number in wanted ^ self._paused:
            link = self._links.get(number)
            if link is not None:
                link.pause(number in wanted)
        self._paused = wanted
