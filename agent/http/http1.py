"""HTTP/1.0 and 1.1: each request of a peer's connection goes to the end it is for, as the bytes it came in.

One request at a time: the next one waits until the answer is complete, so answers are in order whoever gives them, and
what an answer changes (101, Connection: close) counts for what comes next. There is at most one connection to each end
(and those for copies). One that its end closes between requests is opened anew for the next request.

As seen by the pod's container, a connection behaves as the peer's own would: half-closes, resets and early ends are passed
on both ways. Where h11 does not understand the peer, the pod's server may: the connection becomes the pod's, raw.
"""

from __future__ import annotations

import errno
from typing import Dict, List, Optional, Tuple

from .actions import CLIENT, PEER, POD, Action, Close, Join, Open, Send, SendEof
from .answers import Answer
from .bodies import framing
from .copies import Copies
from .decide import COPY, Decider
from .exchange import Exchange, Link
from .filters import Facts
from .gateway import bad_gateway
from .heads import Refused, RequestHead, may_be_complete, request_head
from .waiting import BODY_WAIT_S, WaitingBody

_IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
_MOST_PIPELINED_BYTES = 64 * 1024
_HEAD_WAIT_S = 30.0
_IDLE_WAIT_S = 5.0
_COPIES_WAIT_S = 30.0


class Http1Router:
    """Takes over after detection; `link` is a connection to the default end that is open already."""

    def __init__(self, decider: Decider, link: Optional[int]) -> None:
        self.wants_s = 0.0
        self.full = False
        self._decider = decider
        self._copies = Copies(decider)
        self._links: Dict[str, Link] = {}
        if link is not None:
            self._links[decider.default_end] = Link(link, decider.default_end)
        self._input = b""
        self._seen = 0
        self._peer_ended = False
        self._over = False
        self._mixed = False
        self._served = 0
        self._waiting: Optional[WaitingBody] = None
        self._exchange: Optional[Exchange] = None
        self._armed: Tuple[float, int] = (0.0, 0)

    def start(self) -> List[Action]:
        """Nothing: detection has done it."""
        return []

    def received(self, connection: int, data: bytes) -> List[Action]:
        """Router."""
        out: List[Action] = []
        if connection == PEER:
            if not self._over:
                self._input = self._input + data if self._input else data
                self._work(out)
        else:
            link = self._link(connection)
            if link is None:
                return self._with_copies(self._copies.received(connection, data))
            self._answered(link, data, out)
        self._settle()
        return out

    def ended(self, connection: int) -> List[Action]:
        """Router."""
        out: List[Action] = []
        if connection == PEER:
            if not self._over:
                self._peer_ended = True
                if self._waiting is not None:
                    self._waiting.give_up()
                self._work(out)
        else:
            link = self._link(connection)
            if link is None:
                return self._with_copies(self._copies.ended(connection))
            self._drop(link, out)
            self._lost(link, 0, out)
        self._settle()
        return out

    def failed(self, connection: int, errno: int) -> List[Action]:
        """Router."""
        out: List[Action] = []
        if connection == PEER:
            if not self._over:
                self._end(out, errno, to_peer=False)
        else:
            link = self._link(connection)
            if link is None:
                return self._with_copies(self._copies.failed(connection))
            del self._links[link.end]
            self._lost(link, errno, out)
        self._settle()
        return out

    def timeout(self) -> List[Action]:
        """Router."""
        out: List[Action] = []
        if self._armed == self._wait():
            if self._over:
                self._copies.close(out, at_once=True)
            elif self._waiting is not None:
                self._waiting.give_up()
                self._work(out)
            elif self._input:
                self._refuse(out)
            else:
                self._end(out)
        self._armed = (0.0, 0)
        self._settle()
        return out

    # -- the peer -----------------------------------------------------------------------------------------------------

    def _work(self, out: List[Action]) -> None:
        while True:
            exchange = self._exchange
            if self._over:
                return
            if exchange is None:
                if not self._input or not self._begin(out):
                    break
            else:
                if self._input and not exchange.body.done:
                    self._pass_body(exchange, out)
                if not exchange.body.done or not exchange.answer.done or self._exchange is not exchange:
                    break
                self._finish(exchange, out)
        if self._peer_ended and not self._over:
            self._pass_eof(out)

    def _begin(self, out: List[Action]) -> bool:
        if self._waiting is None:
            head = self._head(out)
            if head is None:
                return False
            facts = Facts(head.method, head.target, head.headers)
            choice = self._decider.choose(facts)
            if choice is not None:
                self._forward(head, choice, False, out)
                return True
            self._waiting = WaitingBody(head, facts)
        waiting = self._waiting
        choice = waiting.look(self._input, self._decider, self._peer_ended)
        if choice is None:
            if waiting.wants_continue():
                out.append(Send(PEER, b"HTTP/1.1 100 Continue\r\n\r\n"))
            return False
        self._waiting = None
        self._forward(waiting.head, choice, waiting.continued, out)
        return True

    def _head(self, out: List[Action]) -> Optional[RequestHead]:
        if self._seen and not may_be_complete(self._input, self._seen):
            self._seen = len(self._input)
            return None
        # RFC 9112, 2.2: empty lines before a request are to be skipped; they go along with it.
        blank = len(self._input) - len(self._input.lstrip(b"\r\n")) if self._input[:1] in b"\r\n" else 0
        try:
            rest = self._input[blank:] if blank else self._input
            head = request_head(rest) if rest else None
        except Refused:
            self._refuse(out)
            return None
        self._seen = len(self._input) if head is None else 0
        if head is not None:
            head.size += blank
        return head

    def _forward(self, head: RequestHead, choice: str, continued: bool, out: List[Action]) -> None:
        end = CLIENT if choice == CLIENT else POD
        link = self._links.get(end) or self._open(end, out)
        if end != self._decider.default_end:
            self._part_from_unused(out)
        marker = self._decider.marker(choice)
        exchange = Exchange(head, link, framing(head.length), Answer(head, marker, continued), marker)
        self._exchange = exchange
        if choice == COPY:
            exchange.copy = self._copies.begin(head, out)
        self._pass_body(exchange, out, head.size)
        if link.used and not head.length and head.method in _IDEMPOTENT:
            sent = out[-1]
            exchange.retry = sent.data if isinstance(sent, Send) and exchange.copy is None else b""

    # A pod's server may have one worker, which would wait on a connection that nobody uses. It is opened anew when needed.
    def _part_from_unused(self, out: List[Action]) -> None:
        self._mixed = True
        link = self._links.get(self._decider.default_end)
        if link is not None and not link.used:
            self._drop(link, out)

    def _pass_body(self, exchange: Exchange, out: List[Action], at: int = 0) -> None:
        data = self._input
        try:
            stop = exchange.body.take(data, at)
        except Refused:
            stop = len(data)
            self._bad_body(exchange, out)
            return
        passed, self._input = (data, b"") if stop == len(data) else (data[:stop], data[stop:])
        if exchange.copy is not None:
            self._copies.send(exchange.copy, passed, exchange.body.done, out)
        if exchange.link is not None and passed:
            out.append(Send(exchange.link.number, passed))

    # It is for the server to answer what is not a body. What follows it can be no request for anybody.
    def _bad_body(self, exchange: Exchange, out: List[Action]) -> None:
        link = exchange.link
        if link is not None and link.end == self._decider.default_end and not self._mixed:
            self._join(link, out)
        else:
            self._end(out, errno.ECONNRESET)

    def _refuse(self, out: List[Action]) -> None:
        if not self._mixed:
            end = self._decider.default_end
            self._join(self._links.get(end) or self._open(end, out), out)
            return
        out.append(Send(PEER, b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"))
        self._end(out)

    def _pass_eof(self, out: List[Action]) -> None:
        exchange = self._exchange
        if exchange is None:
            if self._input:
                self._refuse(out)
            else:
                self._end(out)
        elif exchange.link is None:
            self._end(out)
        elif not self._input and not exchange.eof_sent:
            exchange.eof_sent = True
            out.append(SendEof(exchange.link.number))

    # -- the ends -----------------------------------------------------------------------------------------------------

    def _answered(self, link: Link, data: bytes, out: List[Action]) -> None:
        exchange = self._exchange
        if exchange is None or exchange.link is not link:
            self._drop(link, out)  # nobody asked: "408 Request Timeout" and the like
            return
        if exchange.answer.done:
            link.spoiled = True
            return
        answer = exchange.answer
        passed = answer.take(data)
        if passed:
            out.append(Send(PEER, passed))
        if answer.switched:
            if answer.rest:
                out.append(Send(PEER, answer.rest))
            self._join(link, out)
        elif answer.done:
            link.spoiled = bool(answer.rest)
            self._complete(exchange, out)

    def _complete(self, exchange: Exchange, out: List[Action]) -> None:
        if exchange.answer.last and not exchange.body.done:
            # The peer is still sending: closing now would reset what it has not read yet.
            out.append(SendEof(PEER))
        self._work(out)

    def _finish(self, exchange: Exchange, out: List[Action]) -> None:
        self._exchange = None
        self._served += 1
        if exchange.answer.last:
            self._end(out)
            return
        link = exchange.link
        if link is not None:
            link.used += 1
            if link.spoiled or exchange.eof_sent:
                self._drop(link, out)

    # A connection to an end is gone, and no longer among ours.
    def _lost(self, link: Link, number: int, out: List[Action]) -> None:
        exchange = self._exchange
        if exchange is None or exchange.link is not link:
            return
        answer = exchange.answer
        if answer.done or (not number and answer.ended()):
            self._end(out)
        elif answer.began:
            self._end(out, number)
        elif exchange.retry:
            # It was closed between requests while this one was under way.
            exchange.link = self._open(link.end, out)
            out.append(Send(exchange.link.number, exchange.retry))
            if exchange.eof_sent:
                out.append(SendEof(exchange.link.number))
            exchange.retry = b""
        elif link.end == CLIENT:
            self._bad_gateway(exchange, number, out)
        else:
            held = answer.give_up()
            if held:
                out.append(Send(PEER, held))
            self._end(out, number)

    def _bad_gateway(self, exchange: Exchange, number: int, out: List[Action]) -> None:
        request, answer = exchange.request, exchange.answer
        answer.done = True
        # A peer that waits for 100 may or may not send the body after this; nobody could tell.
        answer.last = not request.keep_alive or (request.expects and not exchange.body.done)
        exchange.link = None
        out.append(Send(PEER, bad_gateway(request.method, number, answer.last, exchange.marker)))
        self._complete(exchange, out)

    # -- connections --------------------------------------------------------------------------------------------------

    def _link(self, connection: int) -> Optional[Link]:
        for link in self._links.values():
            if link.number == connection:
                return link
        return None

    def _open(self, end: str, out: List[Action]) -> Link:
        link = self._links[end] = Link(next(self._decider.numbers), end)
        out.append(Open(link.number, end))
        return link

    def _drop(self, link: Link, out: List[Action]) -> None:
        del self._links[link.end]
        out.append(Close(link.number))

    def _join(self, link: Link, out: List[Action]) -> None:
        if self._input:
            out.append(Send(link.number, self._input))
        if self._peer_ended and not (self._exchange is not None and self._exchange.eof_sent):
            out.append(SendEof(link.number))
        out.append(Join(PEER, link.number))
        del self._links[link.end]
        self._finish_all(out, 0)

    def _end(self, out: List[Action], number: int = 0, to_peer: bool = True) -> None:
        if to_peer:
            out.append(Close(PEER, number))
        self._finish_all(out, number)

    def _finish_all(self, out: List[Action], number: int) -> None:
        busy = self._exchange.link if self._exchange is not None else None
        out += [Close(link.number, number if link is busy else 0) for link in self._links.values()]
        self._links.clear()
        self._copies.close(out)
        self._over = True
        self._exchange = self._waiting = None
        self._input = b""

    # -- what the driver is told --------------------------------------------------------------------------------------

    def _with_copies(self, out: List[Action]) -> List[Action]:
        self._settle()
        return out

    # How long the present state may last, and which of the states it is.
    def _wait(self) -> Tuple[float, int]:
        if self._over:
            return (_COPIES_WAIT_S if self._copies else 0.0), self._served
        if self._exchange is not None:
            return 0.0, 0
        if self._waiting is not None:
            return BODY_WAIT_S, self._served
        if self._input:
            return _HEAD_WAIT_S, self._served
        return (0.0 if self._links else _IDLE_WAIT_S), self._served

    def _settle(self) -> None:
        wait = self._wait()
        self.wants_s = wait[0]
        # The driver's clock runs from when `wants_s` became positive, which may have been for a state before this one.
        if not wait[0] or not self._armed[0]:
            self._armed = wait
        exchange = self._exchange
        self.full = exchange is not None and exchange.body.done and len(self._input) > _MOST_PIPELINED_BYTES
