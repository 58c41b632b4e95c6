"""HTTP/2: each stream of a peer's connection goes to the end it is for, over one connection to each end.

Heads are decoded and encoded again, everything else about them is kept: order, case, cookies in pieces, what must never be
indexed. DATA is passed on without waiting for more, trailers and resets both ways. Settings, windows and PING are between us
and each side. An end that announces its shutdown (GOAWAY) finishes what it has, and is connected anew for what comes next.
"""

from __future__ import annotations

import errno
from typing import Any, Dict, List, Optional, Tuple

from h2 import events
from h2.errors import ErrorCodes
from h2.exceptions import H2Error

from .actions import CLIENT, PEER, POD, Action, Close, Open
from .decide import COPY, Decider
from .filters import MOST_BODY_BYTES
from .gateway import bad_gateway_text
from .http2_copies import Http2Copies
from .http2_pipe import Pipe
from .http2_side import BadHttp2, Side, gives_room
from .http2_stream import Stream
from .waiting import BODY_WAIT_S

_MOST_SAID_BYTES = 64 * 1024
_IDLE_WAIT_S = 5.0
_COPIES_WAIT_S = 30.0


class Http2Router:
    """Takes over after detection; `link` is a connection to the default end, not yet spoken to, and `said` what it said."""

    full = False

    def __init__(self, decider: Decider, link: Optional[int], said: bytes = b"") -> None:
        self.wants_s = 0.0
        self._decider = decider
        self._spare, self._spare_said = link, said
        self._peer = Side(PEER, "peer", is_client=False)
        self._links: Dict[int, Side] = {}
        self._current: Dict[str, Side] = {}
        self._streams: Dict[int, Stream] = {}
        self._by_link: Dict[Tuple[int, int], Stream] = {}
        self._undecided: Dict[int, Stream] = {}
        self._queued: List[Stream] = []
        self._copies = Http2Copies(decider)
        self._serial = 0
        self._armed: Tuple[float, int] = (0.0, 0)
        self._over = False

    def start(self) -> List[Action]:
        """Nothing: detection has done it."""
        return []

    def received(self, connection: int, data: bytes) -> List[Action]:
        """Router."""
        out: List[Action] = []
        if self._copies.has(connection):
            self._copies.received(connection, data, out)
        elif connection == PEER:
            if not self._over:
                self._from_peer(data, out)
        elif connection in self._links:
            self._from_link(self._links[connection], data, out)
        elif connection == self._spare:
            self._spare_said = (self._spare_said + data)[:_MOST_SAID_BYTES]  # SETTINGS, or whatever it is
        self._settle(out)
        return out

    def ended(self, connection: int) -> List[Action]:
        """Router. An HTTP/2 side that has said its last word does not listen either."""
        out: List[Action] = []
        if self._copies.has(connection):
            self._copies.lost(connection)
            out.append(Close(connection))
        elif connection == PEER:
            if not self._over:
                out.append(Close(PEER))
                self._finish_all(out, 0)
        elif connection in self._links or connection == self._spare:
            out.append(Close(connection))
            self._lost(connection, 0)
        self._settle(out)
        return out

    def failed(self, connection: int, errno: int) -> List[Action]:
        """Router."""
        out: List[Action] = []
        if self._copies.has(connection):
            self._copies.lost(connection)
        elif connection == PEER:
            if not self._over:
                self._finish_all(out, errno)
        else:
            self._lost(connection, errno)
        self._settle(out)
        return out

    def timeout(self) -> List[Action]:
        """Router."""
        out: List[Action] = []
        if self._over:
            self._copies.close(out, at_once=True)
        elif self._armed[0] == BODY_WAIT_S:
            for stream in list(self._undecided.values()):
                if stream.serial <= self._armed[1]:
                    self._choose(stream, out, give_up=True)
        elif self._armed[0] and not self._streams and not self._links:
            out.append(Close(PEER))
            self._finish_all(out, 0)
        self._armed = (0.0, 0)
        self._settle(out)
        return out

    # -- from the peer ------------------------------------------------------------------------------------------------

    def _from_peer(self, data: bytes, out: List[Action]) -> None:
        try:
            happened = self._peer.receive(data)
        except BadHttp2:
            self._peer.flush(out)
            out.append(Close(PEER))
            self._finish_all(out, errno.ECONNRESET)
            return
        for event in happened:
            if isinstance(event, events.RequestReceived):
                self._serial += 1
                stream = Stream(self._peer, event.stream_id, event.headers, self._serial)
                self._streams[event.stream_id] = stream
                stream.request.ended = event.stream_ended is not None
                self._choose(stream, out)
            elif gives_room(event):
                self._pump_blocked(self._peer)
            else:
                known = self._streams.get(getattr(event, "stream_id", 0))
                if known is not None:
                    self._request_event(known, event, out)
                elif isinstance(event, events.DataReceived):
                    Pipe(self._peer, event.stream_id).data(b"", event.flow_controlled_length)

    def _request_event(self, stream: Stream, event: Any, out: List[Action]) -> None:
        request = stream.request
        if isinstance(event, events.DataReceived):
            self._copies.data(stream, event.data)
            request.ended = event.stream_ended is not None
            request.data(b"", event.flow_controlled_length - len(event.data))
            request.data(event.data, len(event.data))
        elif isinstance(event, events.TrailersReceived):
            request.trailers, request.ended = event.headers, True
        elif isinstance(event, events.StreamReset):
            stream.reset_link(event.error_code)
            self._forget(stream)
            self._copies.reset(stream)
            return
        elif not isinstance(event, events.StreamEnded):
            return
        if request.ended:
            self._copies.ended(stream)
        if stream.choice is None:
            self._choose(stream, out)
        elif request.discarding:
            request.done = request.ended
            self._tidy(stream)
        else:
            self._pump(request, stream)

    def _choose(self, stream: Stream, out: List[Action], give_up: bool = False) -> None:
        request = stream.request
        if request.ended and request.held_bytes <= MOST_BODY_BYTES:
            stream.facts.body = b"".join(content for content, _ in request.held)
        choice = self._decider.choose(stream.facts)
        if choice is None and (give_up or request.held_bytes > MOST_BODY_BYTES):
            choice = self._decider.choose_without_body(stream.facts)
        if choice is None:
            self._undecided[stream.number] = stream
            return
        self._undecided.pop(stream.number, None)
        stream.choice = choice
        if choice == COPY:
            self._copies.begin(stream, out)
        self._queued.append(stream)

    # -- from an end --------------------------------------------------------------------------------------------------

    def _from_link(self, link: Side, data: bytes, out: List[Action]) -> None:
        try:
            happened = link.receive(data)
        except BadHttp2:
            out.append(Close(link.number))
            self._lost(link.number, errno.EPROTO)
            return
        for event in happened:
            if gives_room(event):
                self._pump_blocked(link)
                self._peer.offer_connect(link)
                continue
            stream = self._by_link.get((link.number, getattr(event, "stream_id", 0)))
            if stream is not None:
                self._answer_event(stream, event)
            elif isinstance(event, events.DataReceived):
                Pipe(link, event.stream_id).data(b"", event.flow_controlled_length)
        if link.last_stream is not None:
            self._shut(link, link.last_stream)

    def _answer_event(self, stream: Stream, event: Any) -> None:
        answer = stream.answer
        assert answer is not None
        if isinstance(event, events.InformationalResponseReceived):
            self._to_peer(stream, event.headers)
        elif isinstance(event, events.ResponseReceived):
            stream.answered = True
            marker = self._decider.marker(stream.choice or POD)
            headers = [*event.headers, (b"mirrord-agent", marker)] if marker else event.headers
            answer.ended = answer.done = event.stream_ended is not None
            self._to_peer(stream, headers, answer.ended)
        elif isinstance(event, events.DataReceived):
            answer.ended = event.stream_ended is not None
            answer.data(b"", event.flow_controlled_length - len(event.data))
            answer.data(event.data, len(event.data))
            self._pump(answer, stream)
        elif isinstance(event, events.TrailersReceived):
            answer.trailers, answer.ended = event.headers, True
            self._pump(answer, stream)
        elif isinstance(event, events.StreamEnded):
            answer.ended = True
            self._pump(answer, stream)
        elif isinstance(event, events.StreamReset):
            stream.link = None
            if answer.ended and not answer.done:
                stream.request.discard()  # RFC 9113, 8.1: the answer is complete, the rest of the request not wanted
            else:
                self._reset_peer(stream, event.error_code)
        self._tidy(stream)

    def _to_peer(self, stream: Stream, headers: List[Any], ended: bool = False) -> None:
        try:
            self._peer.h2.send_headers(stream.number, headers, end_stream=ended)
        except H2Error:
            stream.reset_link(ErrorCodes.INTERNAL_ERROR)
            self._reset_peer(stream, ErrorCodes.INTERNAL_ERROR)

    # -- connections to the ends --------------------------------------------------------------------------------------

    def _start_queued(self, out: List[Action]) -> None:
        waiting = []
        for stream in self._queued:
            if stream.number not in self._streams or stream.choice is None:
                continue
            end = CLIENT if stream.choice == CLIENT else POD
            link = self._current.get(end) or self._open(end, out)
            if link.may_open():
                self._start(stream, link)
            else:
                waiting.append(stream)
        self._queued = waiting

    def _start(self, stream: Stream, link: Side) -> None:
        number = link.h2.get_next_available_stream_id()
        request = stream.request
        bodiless = request.ended and not request.held and request.trailers is None
        try:
            link.h2.send_headers(number, stream.headers, end_stream=bodiless)
        except H2Error:
            self._reset_peer(stream, ErrorCodes.PROTOCOL_ERROR)
            return
        link.used += 1
        stream.link = link
        stream.answer = Pipe(link, number)
        stream.answer.target, stream.answer.target_id = self._peer, stream.number
        request.target, request.target_id, request.done = link, number, bodiless
        self._by_link[link.number, number] = stream
        self._pump(request, stream)

    def _open(self, end: str, out: List[Action]) -> Side:
        said = b""
        if end == self._decider.default_end and self._spare is not None:
            number, said, self._spare = self._spare, self._spare_said, None
        else:
            number = next(self._decider.numbers)
            out.append(Open(number, end))
            if self._spare is not None:
                # As in http1.py: a server with one worker must not wait on a connection that nobody uses.
                out.append(Close(self._spare))
                self._spare = None
        link = Side(number, end, is_client=True)
        self._links[number] = self._current[end] = link
        self._from_link(link, said, out)
        return link if self._current.get(end) is link else self._open(end, out)

    # It takes no new streams; those above `last` it has not looked at, and the peer may send them again.
    def _shut(self, link: Side, last: int) -> None:
        if self._current.get(link.end) is link:
            del self._current[link.end]
        for (number, stream_id), stream in list(self._by_link.items()):
            if number == link.number and stream_id > last:
                self._reset_peer(stream, ErrorCodes.REFUSED_STREAM)

    def _lost(self, connection: int, number: int) -> None:
        if connection == self._spare:
            self._spare = None
        link = self._links.pop(connection, None)
        if link is None:
            return
        if self._current.get(link.end) is link:
            del self._current[link.end]
        for stream in [stream for (where, _), stream in self._by_link.items() if where == connection]:
            stream.link = None
            if link.end == CLIENT and not stream.answered:
                self._bad_gateway(stream, number)
            else:
                self._reset_peer(stream, ErrorCodes.INTERNAL_ERROR)

    def _bad_gateway(self, stream: Stream, number: int) -> None:
        text = bad_gateway_text(number)
        headers = [(b":status", b"502"), (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(text))]
        marker = self._decider.marker(CLIENT)
        try:
            self._peer.h2.send_headers(stream.number, [*headers, (b"mirrord-agent", marker)] if marker else headers)
        except H2Error:
            self._forget(stream)
            return
        answer = stream.answer
        assert answer is not None
        stream.answered = answer.ended = True
        answer.held.append((text, 0))
        stream.request.discard()
        self._pump(answer, stream)

    # -- streams ------------------------------------------------------------------------------------------------------

    def _pump_blocked(self, side: Side) -> None:
        for pipe in list(side.blocked):
            key = (pipe.source.number, pipe.source_id)
            stream = self._streams.get(pipe.source_id) if pipe.source is self._peer else self._by_link.get(key)
            if stream is None:
                side.blocked.discard(pipe)
            else:
                self._pump(pipe, stream)

    def _pump(self, pipe: Pipe, stream: Stream) -> None:
        try:
            pipe.pump()
        except H2Error:
            stream.reset_link(ErrorCodes.CANCEL)
            self._reset_peer(stream, ErrorCodes.INTERNAL_ERROR)
            return
        self._tidy(stream)

    def _tidy(self, stream: Stream) -> None:
        if stream.finished:
            self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self._streams.pop(stream.number, None)
        self._undecided.pop(stream.number, None)
        stream.request.discard()
        if stream.answer is not None:
            stream.answer.discard()
            self._by_link.pop((stream.answer.source.number, stream.answer.source_id), None)

    def _reset_peer(self, stream: Stream, code: int) -> None:
        self._peer.reset(stream.number, code)
        self._forget(stream)

    # -- what the driver is told --------------------------------------------------------------------------------------

    def _finish_all(self, out: List[Action], number: int) -> None:
        self._over = True
        if self._spare is not None:
            out.append(Close(self._spare))
        out += [Close(link, number) for link in self._links]
        self._links.clear()
        self._streams.clear()
        self._undecided.clear()
        self._by_link.clear()
        self._copies.close(out)

    def _settle(self, out: List[Action]) -> None:
        if not self._over:
            self._start_queued(out)
            for link in list(self._links.values()):
                link.flush(out)
                if self._current.get(link.end) is not link and not any(n == link.number for n, _ in self._by_link):
                    out.append(Close(link.number))
                    del self._links[link.number]
            self._peer.flush(out)
        self._copies.flush(out)
        self._set_wait()

    def _set_wait(self) -> None:
        wait = (0.0 if self._links or self._streams else _IDLE_WAIT_S), 0
        if self._over:
            wait = (_COPIES_WAIT_S if self._copies else 0.0), 0
        elif self._undecided:
            wait = BODY_WAIT_S, self._serial
        self.wants_s = wait[0]
        if not wait[0] or not self._armed[0]:
            self._armed = wait
