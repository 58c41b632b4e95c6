"""Copies of HTTP/2 requests for the client's program (mirror), over one connection. Its answers are dropped.

A copy holds nothing back: one that the program does not read as fast as the peer sends is given up.
"""

from __future__ import annotations

from typing import Dict, List, Optional

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from .actions import CLIENT, Action, Close, Open
from .decide import Decider
from .http2_pipe import Pipe
from .http2_side import BadHttp2, Side
from .http2_stream import Stream

_MOST_HELD_BYTES = 256 * 1024


class Http2Copies:
    """All copies of one peer's requests."""

    def __init__(self, decider: Decider) -> None:
        self._decider = decider
        self._link: Optional[Side] = None
        self._pipes: Dict[int, Pipe] = {}
        self._closing = False

    def __bool__(self) -> bool:
        return self._link is not None

    def has(self, connection: int) -> bool:
        """Whether that is the connection for copies."""
        return self._link is not None and self._link.number == connection

    def begin(self, stream: Stream, out: List[Action]) -> None:
        """Start the copy of a request, with what there is of its body."""
        link = self._link
        if link is None or link.last_stream is not None:
            if link is not None:
                out.append(Close(link.number))
                self._pipes.clear()
            link = self._link = Side(next(self._decider.numbers), CLIENT, is_client=True)
            out.append(Open(link.number, CLIENT, copy=True))
        if not link.may_open():
            return
        number = link.h2.get_next_available_stream_id()
        pipe = Pipe(link, number)
        try:
            link.h2.send_headers(number, stream.headers)
        except H2Error:
            return
        pipe.target, pipe.target_id = link, number
        stream.copy = self._pipes[number] = pipe
        for content, _ in stream.request.held:
            pipe.data(content, 0)
        if stream.request.ended:
            self.ended(stream)
        else:
            self._pump(pipe)

    def data(self, stream: Stream, content: bytes) -> None:
        """More of the body."""
        if stream.copy is not None and content:
            stream.copy.data(content, 0)
            self._pump(stream.copy)

    def ended(self, stream: Stream) -> None:
        """The request is complete."""
        if stream.copy is not None and not stream.copy.ended:
            stream.copy.ended, stream.copy.trailers = True, stream.request.trailers
            self._pump(stream.copy)

    def reset(self, stream: Stream) -> None:
        """The peer has given the request up."""
        if stream.copy is not None:
            self._drop(stream.copy)

    def received(self, connection: int, data: bytes, out: List[Action]) -> None:
        """The program's answers, and its windows."""
        link = self._link
        assert link is not None
        try:
            happened = link.receive(data)
        except BadHttp2:
            self.lost(connection)
            out.append(Close(connection))
            return
        for event in happened:
            if isinstance(event, events.DataReceived):
                Pipe(link, event.stream_id).data(b"", event.flow_controlled_length)
            elif isinstance(event, (events.StreamEnded, events.StreamReset)):
                self._pipes.pop(event.stream_id, None)
        for pipe in list(self._pipes.values()):
            self._pump(pipe)
        self._close_if_done(out)

    def lost(self, connection: int) -> None:
        """The connection is gone."""
        self._link = None
        self._pipes.clear()

    def close(self, out: List[Action], at_once: bool = False) -> None:
        """The peer is gone: answers under way may still end, unless `at_once`."""
        self._closing = True
        for pipe in list(self._pipes.values()):
            if at_once or not pipe.ended:
                self._drop(pipe)
        self._close_if_done(out)

    def flush(self, out: List[Action]) -> None:
        """Send what there is."""
        if self._link is not None:
            self._link.flush(out)

    def _close_if_done(self, out: List[Action]) -> None:
        if self._closing and self._link is not None and not self._pipes:
            self._link.flush(out)
            out.append(Close(self._link.number))
            self._link = None

    def _pump(self, pipe: Pipe) -> None:
        try:
            if self._pipes.get(pipe.target_id) is pipe:
                pipe.pump()
        except H2Error:
            self._drop(pipe)
        if pipe.held_bytes > _MOST_HELD_BYTES:
            self._drop(pipe)

    def _drop(self, pipe: Pipe) -> None:
        link = self._link
        if self._pipes.pop(pipe.target_id, None) is None or link is None:
            return
        pipe.discard()
        link.reset(pipe.target_id, ErrorCodes.CANCEL)
