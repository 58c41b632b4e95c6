"""The answer to one HTTP/1 request, as it comes from an end: what of it may be passed on, and when it is over."""

from __future__ import annotations

from typing import List, Optional, Tuple

from .bodies import Framing, Length, UntilEof, framing
from .heads import Refused, RequestHead, may_be_complete, response_head

_BODILESS = frozenset((204, 304))


class Answer:
    """Give what comes to `take`, and pass on what it returns.

    `switched`: the rest of the connection is another protocol's (101, or CONNECT).
    `last`: no other request may follow on the peer's connection. `rest`: what came after the end, or after the switch.

    What h11 does not take for an answer is passed on as it is, up to EOF: the peer may know better.
    """

    __slots__ = ("_body", "_held", "_marker", "_method", "_swallow_100", "done", "last", "rest", "switched")

    def __init__(self, request: RequestHead, marker: bytes = b"", swallow_100: bool = False) -> None:
        self.done = self.switched = False
        self.last = not request.keep_alive
        self.rest = b""
        self._method = request.method
        self._marker = marker
        self._swallow_100 = swallow_100
        self._held = b""
        self._body: Optional[Framing] = None

    def take(self, data: bytes) -> bytes:
        """Bytes from the end -> bytes for the peer. A head is held until it is complete, a body never."""
        if self._body is None:
            return self._heads(self._held + data if self._held else data)
        return data[: self._pass(data, 0)]

    @property
    def began(self) -> bool:
        """Whether more than interim answers (1xx) was passed on."""
        return self._body is not None

    def ended(self) -> bool:
        """EOF from the end: whether the answer is complete by that."""
        if isinstance(self._body, UntilEof):
            self.done = True
        return self.done

    def give_up(self) -> bytes:
        """What came and was not passed on."""
        held, self._held = self._held, b""
        return held

    def _heads(self, buffer: bytes) -> bytes:
        if self._held and not may_be_complete(buffer, len(self._held)):
            self._held = buffer
            return b""
        pieces: List[bytes] = []
        start = 0
        while start < len(buffer):
            try:
                head = response_head(buffer[start:] if start else buffer)
            except Refused:
                self._body, self.last = UntilEof(), True
                pieces.append(buffer[start:])
                start = len(buffer)
                break
            if head is None:
                break
            end = start + head.size
            self.switched = head.status == 101 or (self._method == b"CONNECT" and 200 <= head.status < 300)
            if self.switched or head.status >= 200:
                self.last = self.last or not head.keep_alive
                self._body = self._framing(head.status, head.length)
                pieces += self._last_head(buffer, start, end)
                start = len(buffer)
                break
            if head.status != 100 or not self._swallow_100:
                pieces.append(buffer[start:end])
            start = end
        self._held = buffer[start:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # The final head, and what belongs to the answer of what came with it.
    def _last_head(self, buffer: bytes, start: int, end: int) -> Tuple[bytes, ...]:
        if self.switched:
            self.rest = buffer[end:]
            return (buffer[start:end],)
        stop = self._pass(buffer, end)
        if self._marker:
            return (self._marked(buffer[start:end]), buffer[end:stop])
        return (buffer if not start and stop == len(buffer) else buffer[start:stop],)

    def _framing(self, status: int, length: int) -> Framing:
        if self._method == b"HEAD" or status in _BODILESS:
            return Length(0)
        body = framing(length)
        self.last = self.last or isinstance(body, UntilEof)
        return body

    # Up to where `data` belongs to the answer.
    def _pass(self, data: bytes, at: int) -> int:
        body = self._body
        assert body is not None
        if self.done:
            self.rest += data[at:]
            return at
        try:
            stop = body.take(data, at)
        except Refused:
            self._body, self.last = UntilEof(), True
            return len(data)
        self.done = body.done
        if stop < len(data):
            self.rest = data[stop:]
        return stop

    # With the marker as the last line of the head, ended as the others are.
    def _marked(self, head: bytes) -> bytes:
        for blank in (b"\r\n\r\n", b"\n\r\n", b"\n\n"):
            if head.endswith(blank):
                end = blank[-2:] if blank[-2:] == b"\r\n" else b"\n"
                return head[: -len(end)] + b"mirrord-agent: " + self._marker + end + end
        return head
