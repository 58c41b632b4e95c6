"""What a connection speaks, by its first bytes: HTTP/1 (a request line), HTTP/2 (the preface), or anything else.

The default end (the pod's container where there is a filter) is connected at once, so that a protocol in which the server
speaks first is not delayed: when the end says something before the peer has, it is not HTTP. But for one thing: an HTTP/2
server may send its SETTINGS before it has heard anything, and some do; these are kept until the peer has spoken. Other
waiting is only for a request line that has begun.
"""

from __future__ import annotations

import re
from typing import Callable, List, Optional

from .actions import PEER, Action, Close, Join, Open, Router, Send, SendEof
from .decide import Decider
from .http1 import Http1Router
from .rules import Rules

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32} [^\x00-\x20\x7f]+ HTTP/1\.[01]\r?\n")
_LINE_BEGINS = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}(?: (?:[^\x00-\x20\x7f]+(?: [HTP/1.0\r]{0,9})?)?)?")
_MOST_LINE_BYTES = 64 * 1024
_LINE_WAIT_S = 2.0
# For a peer that may be waiting for a greeting from an end that cannot be reached.
_BROKEN_WAIT_S = 2.0
# Nobody but an HTTP/2 server begins like this, whose peer does not wait for it.
_SETTINGS_WAIT_S = 30.0

UNDECIDED, RAW, HTTP1, HTTP2 = "undecided", "raw", "HTTP/1", "HTTP/2"


def detect(start: bytes) -> str:
    """UNDECIDED, RAW, HTTP1 or HTTP2."""
    if _PREFACE.startswith(start[: len(_PREFACE)]):
        return HTTP2 if len(start) >= len(_PREFACE) else UNDECIDED
    if b"\n" in start:
        return HTTP1 if _LINE.match(start) else RAW
    return UNDECIDED if len(start) <= _MOST_LINE_BYTES and _LINE_BEGINS.fullmatch(start) else RAW


def may_be_settings(start: bytes) -> bool:
    """Whether an end's first bytes can be SETTINGS of HTTP/2, or their beginning (RFC 9113, 4.1, 6.5)."""
    if start[:1] != b"\0" or start[3:9] != b"\4\0\0\0\0\0"[: max(len(start) - 3, 0)]:
        return False
    return len(start) < 3 or int.from_bytes(start[1:3], "big") % 6 == 0


class DetectingRouter:
    """Decides what the connection speaks, and from then on is a shell around the router for that."""

    def __init__(self, rules: Rules, mirror: bool, sampled: Callable[[], bool]) -> None:
        self._decider = Decider(rules, mirror, sampled)
        self._inner: Optional[Router] = None
        self._start = b""
        self._said = b""
        self._link: Optional[int] = None
        self._broken = 0
        self._over = False

    @property
    def wants_s(self) -> float:
        """Router."""
        if self._inner is not None:
            return self._inner.wants_s
        if self._over:
            return 0.0
        if self._start:
            return _LINE_WAIT_S
        if self._link is None:
            return _BROKEN_WAIT_S
        return 0.0 if not self._said else _SETTINGS_WAIT_S if len(self._said) >= 9 else _LINE_WAIT_S

    @property
    def full(self) -> bool:
        """Router."""
        return self._inner is not None and self._inner.full

    def start(self) -> List[Action]:
        """Router."""
        self._link = next(self._decider.numbers)
        return [Open(self._link, self._decider.default_end)]

    def received(self, connection: int, data: bytes) -> List[Action]:
        """Router."""
        if self._inner is not None:
            return self._inner.received(connection, data)
        if self._over:
            return []
        if connection != PEER:
            self._said += data
            return [] if may_be_settings(self._said[:9]) else self._raw()
        self._start += data
        verdict = detect(self._start)
        if verdict == UNDECIDED:
            return []
        if verdict == RAW or (verdict == HTTP1 and self._said):
            return self._raw()
        self._inner = self._router(verdict)
        return self._inner.received(PEER, self._start)

    def ended(self, connection: int) -> List[Action]:
        """Router."""
        if self._inner is not None:
            return self._inner.ended(connection)
        if self._over:
            return []
        if connection == PEER:
            return self._raw(eof=True)
        return self._close(0)

    def failed(self, connection: int, errno: int) -> List[Action]:
        """Router."""
        if self._inner is not None:
            return self._inner.failed(connection, errno)
        if self._over:
            return []
        if connection == PEER:
            self._over = True
            return [Close(self._link, errno)] if self._link is not None else []
        # A request for the other end may still come.
        self._link, self._broken = None, errno
        return []

    def timeout(self) -> List[Action]:
        """Router."""
        if self._inner is not None:
            return self._inner.timeout()
        return [] if self._over else self._raw()

    def _router(self, verdict: str) -> Router:
        if verdict == HTTP1:
            return Http1Router(self._decider, self._link)
        # h2 takes some 50 ms to import, which only those who need it wait for.
        from .http2 import Http2Router

        return Http2Router(self._decider, self._link, self._said)

    def _raw(self, eof: bool = False) -> List[Action]:
        if self._link is None:
            return self._close(self._broken)
        self._over = True
        out: List[Action] = [Send(self._link, self._start)] if self._start else []
        if self._said:
            out.append(Send(PEER, self._said))
        if eof:
            out.append(SendEof(self._link))
        return [*out, Join(PEER, self._link)]

    def _close(self, errno: int) -> List[Action]:
        self._over = True
        return [Close(PEER, errno), *([Close(self._link, errno)] if self._link is not None else [])]
