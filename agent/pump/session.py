"""A `Connection` brought to life on a loop: requests with deadlines, streams joined to sockets, files and datagrams.

A session outlives its transports. When one breaks, `on_lost` is told, everything queues within its bounds, and the
next `attach` goes on where it stopped.
"""

from __future__ import annotations

import functools
import socket
from collections import deque
from errno import ECONNRESET, EFBIG, ENOBUFS, ETIMEDOUT
from typing import Callable, Deque, Dict, List, Optional, Sequence, Tuple, Union

from ..wire.codec import MessageTooLarge
from ..wire.connection import Connection
from ..wire.errors import LocalProtocolError
from ..wire.events import DataReceived, EofReceived, Event, MessageReceived, StreamReset
from ..wire.frames import MAX_REQUESTS
from ..wire.messages import Bye, Failed, Message, Urgent
from .bridge import Bridge
from .carrier import Carrier
from .contents import Consumer, Datagrams, Producer
from .ends import End, OnEnd
from .loop import Loop, Timer
from .tcp_bridge import TcpBridge
from .transport import Transport

EARLY_FRAMES = 4096
FLUSH_S = 2.0

Early = Union[Event, Urgent]
OnReply = Callable[[Message], None]
OnRequest = Callable[[Message, OnReply], None]


class _Request:
    # A request of ours; `on_reply` is None once it was answered or its deadline passed.
    __slots__ = ("on_reply", "timer")

    def __init__(self, on_reply: OnReply) -> None:
        self.on_reply: Optional[OnReply] = on_reply
        self.timer: Optional[Timer] = None

    def settle(self, message: Message) -> None:
        on_reply, self.on_reply = self.on_reply, None
        if self.timer is not None:
            self.timer.cancel()
        if on_reply is not None:
            on_reply(message)


class _Closing:
    # What is left to do: say Bye once the ends are settled or the time is up, then wait until it is flushed.
    __slots__ = ("on_closed", "reason", "said", "timer")

    def __init__(self, reason: str, on_closed: Optional[Callable[[], None]]) -> None:
        self.reason = reason
        self.on_closed = on_closed
        self.timer: Optional[Timer] = None
        self.said = False


class Session:
    """One end of a session, on the loop's thread.

    `on_request(message, reply)`: call `reply` once, now or later. `on_notice(message)`. `on_lost(error)`: the
    transport is closed; None: the peer ended it. RemoteProtocolError: do not resume. Callbacks of requests and streams
    are never called from within the call that was given them.
    """

    def __init__(
        self,
        loop: Loop,
        connection: Connection,
        *,
        on_request: OnRequest,
        on_notice: Callable[[Message], None],
        on_lost: Callable[[Optional[Exception]], None],
    ) -> None:
        self.loop = loop
        self.connection = connection
        self.round_trips = 0
        self.closed = False
        self._carrier = Carrier(loop, connection, self._event, self._lost, self._advance_closing)
        self._on_request = on_request
        self._on_notice = on_notice
        self._on_lost = on_lost
        self._asked: Dict[int, _Request] = {}
        self._unsent: Deque[Tuple[Optional[_Request], Message]] = deque()
        self._ends: Dict[int, End] = {}
        self._early: Dict[int, List[Early]] = {}
        self._closing: Optional[_Closing] = None

    # -- the transport ------------------------------------------------------------------------------------------------

    @property
    def attached(self) -> bool:
        """Whether there is a transport."""
        return self._carrier.attached

    @property
    def bytes_sent(self) -> int:
        """Bytes given to transports so far."""
        return self._carrier.bytes_sent

    @property
    def bytes_received(self) -> int:
        """Bytes taken from transports so far."""
        return self._carrier.bytes_received

    def attach(self, transport: Transport, leftover: bytes = b"", peer_received: int = 0) -> None:
        """Begin or go on over `transport`, fresh from the handshake (whose result has the other arguments). Owns it.

        A transport still attached is closed without `on_lost`. RemoteProtocolError if the peer's count is impossible.
        """
        if self.closed:
            raise LocalProtocolError("the session is closed")
        self._carrier.attach(transport, leftover, peer_received)

    def flush_soon(self) -> None:
        """What was queued goes to the transport before the loop next waits."""
        self._carrier.flush_soon()

    def has_room(self) -> bool:
        """Whether bulk may be queued; else it would only wait here, ahead of the transport."""
        return self._carrier.has_room()

    def wait_for_room(self, end: End) -> None:
        """Call the end's `on_room` when the backlog has shrunk."""
        self._carrier.wait_for_room(end)

    def _lost(self, error: Optional[Exception]) -> None:
        if self._closing is not None:
            self._finish()
        else:
            self._on_lost(error)

    # -- what the peer did --------------------------------------------------------------------------------------------

    def _event(self, event: Event) -> None:
        if self.closed:
            return
        if type(event) is DataReceived:
            end = self._ends.get(event.stream)
            if end is not None:
                end.on_data(event.data)
            else:
                self._hold(event.stream, event)
        elif type(event) is MessageReceived:
            self._message(event.message, event.request_id, event.reply_to)
        else:
            self._stream_event(event)

    def _message(self, message: Message, request_id: int, reply_to: int) -> None:
        if reply_to:
            self.round_trips += 1
            self._asked.pop(reply_to).settle(message)
            self._send_unsent()
        elif request_id:
            self._on_request(message, functools.partial(self._reply, request_id))
        elif isinstance(message, Urgent):
            self._urgent(message)
        else:
            self._on_notice(message)

    def _urgent(self, message: Urgent) -> None:
        end = self._ends.get(message.stream)
        if isinstance(end, TcpBridge):
            end.on_urgent(message.position, message.byte)
        elif end is None:
            self._hold(message.stream, message)

    def _stream_event(self, event: Event) -> None:
        stream = event[0]
        assert isinstance(stream, int)
        end = self._ends.get(stream)
        if end is None:
            if type(event) is EofReceived:
                self._hold(stream, event)
            elif type(event) is StreamReset:
                self._early.pop(stream, None)
        elif type(event) is EofReceived:
            end.on_eof()
        elif type(event) is StreamReset:
            end.on_reset(event.errno)
        else:
            end.on_room()

    def _hold(self, stream: int, event: Early) -> None:
        # For a stream that nobody has joined to anything yet. Bounded by the stream's window, and in frames.
        if not self.connection.is_open(stream):
            return
        held = self._early.setdefault(stream, [])
        held.append(event)
        if len(held) > EARLY_FRAMES:
            self.reset(stream, ENOBUFS)

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(self, message: Message, on_reply: OnReply, deadline_s: float = 30.0) -> None:
        """Ask the peer. `on_reply` is called once: with the reply, `Failed(ETIMEDOUT)` after the deadline, or
        `Failed(ECONNRESET)` if the session closes first. A reply after the deadline is dropped.
        """
        request = _Request(on_reply)
        if self.closed:
            self.loop.call_soon(lambda: request.settle(Failed(ECONNRESET, "the session is closed")))
            return
        expired = Failed(ETIMEDOUT, "the peer did not answer in time")
        request.timer = self.loop.call_later(deadline_s, lambda: request.settle(expired))
        self._unsent.append((request, message))
        self._send_unsent()

    def _send_unsent(self) -> None:
        # The protocol bounds how many may be under way; the rest waits here, within its callers' deadlines.
        while self._unsent and (self._unsent[0][0] is None or self.connection.open_requests < MAX_REQUESTS):
            request, message = self._unsent.popleft()
            if request is None:
                self.connection.send(message)
                self.flush_soon()
                continue
            if request.on_reply is None:
                continue
            ident = self.connection.new_request_id()
            self.connection.send(message, request_id=ident)
            self._asked[ident] = request
            self.flush_soon()

    def _reply(self, request_id: int, message: Message) -> None:
        if self.closed:
            return
        try:
            self.connection.send(message, reply_to=request_id)
        except MessageTooLarge:
            self.connection.send(Failed(EFBIG, "the reply is too large"), reply_to=request_id)
        self.flush_soon()

    def notify(self, message: Message) -> None:
        """Send a notice, behind the requests made before it; nothing after the session closed."""
        if not self.closed:
            self._unsent.append((None, message))
            self._send_unsent()

    # -- streams ------------------------------------------------------------------------------------------------------

    def new_stream(self) -> int:
        """Open a stream, to be named in a message and joined to something here."""
        self.flush_soon()
        return self.connection.open_stream()

    def bridge(self, stream: int, sock: socket.socket, on_end: Optional[OnEnd] = None) -> None:
        """Join a connected socket to the stream: both ways, with back-pressure, half-close and reset. Owns the socket.

        `on_end(errno)` when the socket is closed: 0 after both directions ended in order.
        """
        kind = Bridge if sock.family == socket.AF_UNIX else TcpBridge
        self._join(stream, kind(self, stream, sock, on_end))

    def join(self, stream: int, end: End) -> None:
        """Give the stream an end of the caller's making."""
        self._join(stream, end)

    def consume(self, stream: int, on_data: Callable[[memoryview], None], on_end: OnEnd) -> None:
        """Take all that comes; the view is valid only during `on_data`. `on_end(0)`: complete. Ends our direction."""
        self._join(stream, Consumer(self, stream, on_data, on_end))

    def produce(self, stream: int, fd: int) -> None:
        """Send what `fd` (a file, owned) holds from its offset on, then EOF; never blocks the loop."""
        producer = Producer(self, stream, fd)
        self._join(stream, producer)
        producer.begin()

    def datagrams(self, stream: int, on_datagram: Callable[[bytes], None], on_end: OnEnd) -> None:
        """Take each DATA frame as one datagram; send by `send_datagram`, close by `reset(stream, 0)`."""
        self._join(stream, Datagrams(self, stream, on_datagram, on_end))

    def send_datagram(self, stream: int, payload: bytes) -> bool:
        """Send one datagram on a stream given to `datagrams`; False: dropped (no credit, no room, or closed)."""
        end = self._ends.get(stream)
        return isinstance(end, Datagrams) and end.send(payload)

    def reset(self, stream: int, errno: int) -> None:
        """Drop the stream in both directions; its end here gets `on_end(errno)`. On a closed stream: nothing."""
        self._early.pop(stream, None)
        self.connection.reset(stream, errno)
        self.flush_soon()
        end = self._ends.get(stream)
        if end is not None:
            end.on_reset(errno)

    def forget(self, stream: int) -> None:
        """The stream's end is done."""
        self._ends.pop(stream, None)

    def _join(self, stream: int, end: End) -> None:
        if stream in self._ends:
            raise LocalProtocolError(f"stream {stream} has an end already")
        self._ends[stream] = end
        early = self._early.pop(stream, None)
        if early is not None or not self.connection.is_open(stream):
            self.loop.call_soon(functools.partial(self._catch_up, stream, end, early or ()))

    def _catch_up(self, stream: int, end: End, early: Sequence[Early]) -> None:
        # What came before the stream was joined; or the news that it is closed already.
        for event in early:
            if self._ends.get(stream) is not end:
                return
            if type(event) is DataReceived:
                end.on_data(event.data)
            elif not isinstance(event, Urgent):
                end.on_eof()
            elif isinstance(end, TcpBridge):
                end.on_urgent(event.position, event.byte)
        if self._ends.get(stream) is end and not early:
            end.on_reset(ECONNRESET)
        self.flush_soon()

    # -- the end ------------------------------------------------------------------------------------------------------

    def close(self, reason: str = "", linger_s: float = 0.0, on_closed: Optional[Callable[[], None]] = None) -> None:
        """End the session: send what is queued, then Bye, then close.

        For up to `linger_s` bridged sockets that have not ended yet may still say what they have to say. Then, or
        without a transport at once, everything here ends with ECONNRESET. `on_closed` is called last.
        """
        if self._closing is not None or self.closed:
            return
        self._closing = _Closing(reason, on_closed)
        self._closing.timer = self.loop.call_later(linger_s, self._say_bye)
        self.flush_soon()

    def _advance_closing(self) -> None:
        closing = self._closing
        if closing is None or self.closed:
            return
        if not self.attached:
            self._finish()
        elif not closing.said:
            if self.connection.backlog == 0 and all(end.settled() for end in self._ends.values()):
                self._say_bye()
        elif self._carrier.flushed:
            self._finish()

    def _say_bye(self) -> None:
        closing = self._closing
        if closing is None or closing.said or self.closed:
            return
        if closing.timer is not None:
            closing.timer.cancel()
        closing.said = True
        closing.timer = self.loop.call_later(FLUSH_S, self._finish)
        self.connection.send(Bye(closing.reason))
        self.flush_soon()

    @property
    def delivering(self) -> bool:
        """Whether a bridged socket has still to take the last of what came for it."""
        return any(isinstance(end, Bridge) and end.delivering for end in self._ends.values())

    def abandon(self) -> None:
        """End the session without a word, the transport with it. Everything here ends with ECONNRESET."""
        self._finish()

    def _finish(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._carrier.detach()
        closing, self._closing = self._closing, None
        if closing is not None and closing.timer is not None:
            closing.timer.cancel()
        self._early.clear()
        for end in list(self._ends.values()):
            end.on_reset(ECONNRESET)
        requests = list(self._asked.values()) + [request for request, _ in self._unsent if request is not None]
        self._asked.clear()
        self._unsent.clear()
        for request in requests:
            request.settle(Failed(ECONNRESET, "the session is closed"))
        if closing is not None and closing.on_closed is not None:
            closing.on_closed()
