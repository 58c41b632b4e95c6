"""The protocol after the handshake, without any I/O: bytes in, events out; calls in, bytes out.

A `Connection` outlives its transport. Every sequenced frame is kept until the peer acknowledged it and sent again on
the next transport; the receiver drops what it already has. So nothing is lost or doubled, wherever the cut was.

Streams: opened by OPEN frames, odd numbers by the client, even by the agent, each number once, ascending. A direction
ends by EOF, both end by RESET. Frames for a stream that is closed here are dropped: the peer may not know yet.
"""

from __future__ import annotations

import enum
from typing import Dict, List, Optional

from . import frames
from .errors import LocalProtocolError, RemoteProtocolError
from .events import DataReceived, EofReceived, Event, StreamReset, WindowOpened
from .exchange import Exchange
from .frames import HEADER, HEADER_BYTES, U32, U64, Buffer
from .messages import Message
from .outgoing import Outgoing
from .streams import Stream

UNACKNOWLEDGED_LIMIT_BYTES = 8 * 1024 * 1024
ACK_FRAMES = 64
ACK_BYTES = 256 * 1024
PING_AFTER_S = 20.0
SILENCE_S = 60.0
TAKE_BYTES = 256 * 1024


class Role(enum.Enum):
    """Which end of the protocol: decides the parity of stream numbers."""

    CLIENT = "client"
    AGENT = "agent"


class Connection:
    """One end of a session. Not thread-safe.

    Buffers given to `send_data` are kept until acknowledged and must not change; views in events point into what was
    given to `receive`, which must not change either. After RemoteProtocolError the connection is of no more use.
    """

    def __init__(
        self,
        role: Role,
        window: int = frames.WINDOW_BYTES,
        max_payload: int = frames.MAX_PAYLOAD_BYTES,
        unacknowledged_limit: int = UNACKNOWLEDGED_LIMIT_BYTES,
    ) -> None:
        self.role = role
        self.connected = False
        self.received = 0
        self._window = window
        self._outgoing = Outgoing(unacknowledged_limit, max_payload)
        self._streams: Dict[int, Stream] = {}
        self._next_stream = 1 if role is Role.CLIENT else 2
        self._next_peer_stream = 2 if role is Role.CLIENT else 1
        self._own_open = 0
        self._peer_open = 0
        self._exchange = Exchange()
        self._partial = bytearray()
        self._partial_size = HEADER_BYTES
        self._frames_since_ack = 0
        self._bytes_since_ack = 0
        self._heard = False
        self._heard_at: Optional[float] = None
        self._pinged_at: Optional[float] = None
        self._pings = 0
        self._broken: Optional[RemoteProtocolError] = None

    # -- the transport ----------------------------------------------------------------------------------------------

    def resume(self, peer_received: int) -> None:
        """A transport is there, fresh from the handshake; the peer has `peer_received` of our frames (at first 0)."""
        self._outgoing.restart(peer_received)
        self._forget_transport()
        self.connected = True

    def disconnected(self) -> None:
        """The transport is gone. Calls still queue; `take` gives nothing until `resume`."""
        self._forget_transport()
        self.connected = False

    def _forget_transport(self) -> None:
        self._partial = bytearray()
        self._partial_size = HEADER_BYTES
        self._frames_since_ack = self._bytes_since_ack = 0
        self._heard = False
        self._heard_at = self._pinged_at = None

    def take(self, max_bytes: int = TAKE_BYTES) -> List[Buffer]:
        """The next buffers to send, about `max_bytes` (a frame more at most); they must all be sent, in order."""
        if not self.connected:
            return []
        if self._frames_since_ack >= ACK_FRAMES or self._bytes_since_ack >= ACK_BYTES:
            self._acknowledge()
        elif self._outgoing.idle:  # asked after each send and each read, so this is half of all calls
            return []
        return self._outgoing.take(max_bytes)

    def tick(self, now: float) -> bool:
        """Call every few seconds with a monotonic clock. False: the peer has been silent for too long.

        Queues the ACK that traffic alone did not make due, and a PING when nothing has been heard for a while.
        """
        if not self.connected:
            return True
        if self._heard or self._heard_at is None:
            self._heard = False
            self._heard_at = now
            self._pinged_at = None
        if self._frames_since_ack:
            self._acknowledge()
        if now - self._heard_at >= SILENCE_S:
            return False
        if now - (self._heard_at if self._pinged_at is None else self._pinged_at) >= PING_AFTER_S:
            self._pinged_at = now
            self._pings += 1
            self._outgoing.unsequenced(frames.PING, self._pings)
        return True

    def _acknowledge(self) -> None:
        self._frames_since_ack = self._bytes_since_ack = 0
        self._outgoing.unsequenced(frames.ACK, self.received)

    # -- sending ----------------------------------------------------------------------------------------------------

    @property
    def backlog(self) -> int:
        """Bytes of stream data and control messages queued and not yet taken."""
        return self._outgoing.backlog + self._outgoing.control_backlog

    @property
    def open_requests(self) -> int:
        """Requests of ours that wait for a reply; at MAX_REQUESTS no further one may be sent."""
        return self._exchange.open_requests

    @property
    def open_streams(self) -> int:
        """Streams that are open in at least one direction."""
        return len(self._streams)

    def new_request_id(self) -> int:
        """An id for `send(..., request_id=)` that no request under way has."""
        return self._exchange.new_request_id()

    def send(self, message: Message, request_id: int = 0, reply_to: int = 0) -> None:
        """Queue a request (`request_id`), a reply (`reply_to`) or a notice (neither)."""
        self._outgoing.control(*self._exchange.to_send(message, request_id, reply_to))

    def open_stream(self) -> int:
        """Open a stream. Its number may be named in messages sent from now on: the peer will know it by then."""
        if self._own_open >= frames.MAX_STREAMS // 2 or self._next_stream > 0xFFFFFFFF:
            raise LocalProtocolError("too many streams")
        ident = self._next_stream
        self._next_stream += 2
        self._own_open += 1
        stream = self._streams[ident] = Stream(ident, self._window)
        self._outgoing.open(stream)
        return ident

    def is_open(self, stream: int) -> bool:
        """Whether the stream is open here in at least one direction."""
        return stream in self._streams

    def send_window(self, stream: int) -> int:
        """How many bytes `send_data` takes now; 0 also when the stream is closed or ended."""
        state = self._streams.get(stream)
        return 0 if state is None or state.eof_queued else state.send_window

    def send_data(self, stream: int, data: Buffer) -> None:
        """Queue bytes, within the send window; on a stream closed by the peer they vanish. One frame if they fit."""
        state = self._streams.get(stream)
        if state is None:
            self._check_existed(stream)
            return
        if state.eof_queued:
            raise LocalProtocolError(f"stream {stream}: data after EOF")
        size = len(data)
        if size > state.send_window:
            raise LocalProtocolError(f"stream {stream}: {size} bytes with a window of {state.send_window}")
        if size:
            state.send_window -= size
            self._outgoing.stream_data(state, data)

    def send_eof(self, stream: int) -> None:
        """End our direction, behind the data already queued. Again, or on a closed stream: nothing happens."""
        state = self._streams.get(stream)
        if state is None:
            self._check_existed(stream)
        elif not state.eof_queued:
            state.eof_queued = True
            self._outgoing.stream_end(state, frames.EOF)
            if state.eof_received:
                self._close(state)

    def reset(self, stream: int, errno: int) -> None:
        """Drop the stream in both directions; data queued before still goes out. On a closed stream: nothing."""
        state = self._streams.get(stream)
        if state is None:
            self._check_existed(stream)
            return
        if not 0 <= errno <= frames.MAX_ERRNO:
            raise LocalProtocolError(f"errno {errno}")
        self._outgoing.stream_end(state, frames.RESET, U32.pack(errno))
        self._close(state)

    def consumed(self, stream: int, size: int) -> None:
        """`size` bytes of `DataReceived` are out of the way. Credit returns to the peer in batches."""
        state = self._streams.get(stream)
        if state is None:
            return
        credit = state.consumed(size)
        if credit:
            self._outgoing.control(frames.CREDIT, stream, U32.pack(credit))

    def _check_existed(self, stream: int) -> None:
        if not self._existed(stream):
            raise LocalProtocolError(f"stream {stream} was never opened")

    def _is_own(self, stream: int) -> bool:
        return stream % 2 == self._next_stream % 2

    def _existed(self, stream: int) -> bool:
        return 0 < stream < (self._next_stream if self._is_own(stream) else self._next_peer_stream)

    def _close(self, state: Stream) -> None:
        # From now on the peer's frames for it are dropped. What is in its queue is still sent.
        del self._streams[state.id]
        if self._is_own(state.id):
            self._own_open -= 1
        else:
            self._peer_open -= 1

    # -- receiving --------------------------------------------------------------------------------------------------

    def receive(self, data: Buffer) -> List[Event]:
        """Bytes from the transport, cut anywhere, to events. RemoteProtocolError: close the transport, never resume."""
        if self._broken is not None:
            raise self._broken
        if not self.connected:
            raise LocalProtocolError("receive without a transport")
        events: List[Event] = []
        try:
            self._parse(memoryview(data), events)
        except RemoteProtocolError as error:
            self._broken = error
            raise
        return events

    def _parse(self, view: memoryview, events: List[Event]) -> None:
        size = len(view)
        self._heard = self._heard or size > 0
        position = self._complete_partial(view, events) if self._partial else 0
        while size - position >= HEADER_BYTES:
            word, stream, sequence = HEADER.unpack_from(view, position)
            frames.check_header(word, stream, sequence)
            body = position + HEADER_BYTES
            end = body + (word & 0xFFFFFF)
            fresh = self._is_fresh(word, sequence)
            if end > size:
                break
            self._frame(word >> 24, stream, view[body:end], fresh, events)
            position = end
        if position < size:
            self._partial += view[position:]
            self._begin_partial()

    def _begin_partial(self) -> None:
        # How long the frame at the front of `_partial` will be, as far as that is known yet.
        if len(self._partial) < HEADER_BYTES:
            self._partial_size = HEADER_BYTES
            return
        word, stream, sequence = HEADER.unpack_from(self._partial)
        frames.check_header(word, stream, sequence)
        self._is_fresh(word, sequence)
        self._partial_size = HEADER_BYTES + (word & 0xFFFFFF)

    def _complete_partial(self, view: memoryview, events: List[Event]) -> int:
        # Adds to the frame that an earlier call left unfinished; returns how much of `view` that took.
        partial = self._partial
        position = 0
        while len(partial) < self._partial_size:
            chunk = view[position : position + self._partial_size - len(partial)]
            if not chunk:
                return position
            partial += chunk
            position += len(chunk)
            if len(partial) == HEADER_BYTES:
                self._begin_partial()
        word, stream, sequence = HEADER.unpack_from(partial)
        self._partial = bytearray()
        self._frame(word >> 24, stream, memoryview(partial)[HEADER_BYTES:], self._is_fresh(word, sequence), events)
        return position

    def _is_fresh(self, word: int, sequence: int) -> bool:
        # Whether the frame is to be acted on; False: replayed though we have it. A gap is the peer's fault.
        if word >> 24 in frames.UNSEQUENCED_KINDS:
            return True
        ahead = (sequence - self.received) & 0xFFFFFFFF
        if ahead == 1:
            return True
        if ahead == 0 or ahead > 0x80000000:
            return False
        raise RemoteProtocolError(f"frame {sequence} after frame {self.received & 0xFFFFFFFF}")

    def _frame(self, kind: int, stream: int, payload: memoryview, fresh: bool, events: List[Event]) -> None:
        if kind in frames.UNSEQUENCED_KINDS:
            self._unsequenced(kind, U64.unpack(payload)[0])
            return
        if not fresh:
            return
        self.received += 1
        self._frames_since_ack += 1
        self._bytes_since_ack += len(payload)
        if kind == frames.DATA:
            state = self._streams.get(stream)
            if state is not None:
                state.take_in(len(payload))
                events.append(DataReceived(stream, payload))
            else:
                self._check_peer_may_name(stream)
        elif kind & ~frames.MORE in frames.CONTROL_KINDS:
            event = self._exchange.received(kind, stream, payload)
            if event is not None:
                events.append(event)
        elif kind == frames.OPEN:
            self._opened(stream)
        else:
            self._stream_frame(kind, stream, payload, events)

    def _unsequenced(self, kind: int, number: int) -> None:
        if kind == frames.ACK:
            self._outgoing.acknowledge(number)
        elif kind == frames.PING:
            self._outgoing.unsequenced(frames.PONG, number)

    def _check_peer_may_name(self, stream: int) -> None:
        if not self._existed(stream):
            raise RemoteProtocolError(f"frame for stream {stream}, which was never opened")

    def _opened(self, stream: int) -> None:
        if stream != self._next_peer_stream:
            raise RemoteProtocolError(f"stream {stream} opened where {self._next_peer_stream} is next")
        if self._peer_open >= frames.MAX_STREAMS:
            raise RemoteProtocolError("too many streams")
        self._next_peer_stream += 2
        self._peer_open += 1
        self._streams[stream] = Stream(stream, self._window)

    def _stream_frame(self, kind: int, stream: int, payload: memoryview, events: List[Event]) -> None:
        state = self._streams.get(stream)
        if state is None:
            self._check_peer_may_name(stream)
        elif kind == frames.CREDIT:
            state.credited(U32.unpack(payload)[0])
            events.append(WindowOpened(stream))
        elif kind == frames.EOF:
            if state.eof_received:
                raise RemoteProtocolError(f"stream {stream}: ended twice")
            state.eof_received = True
            if state.eof_queued:
                self._close(state)
            events.append(EofReceived(stream))
        else:
            errno = U32.unpack(payload)[0]
            if errno > frames.MAX_ERRNO:
                raise RemoteProtocolError(f"stream {stream}: reset with errno {errno}")
            self._outgoing.drop(state)
            self._close(state)
            events.append(StreamReset(stream, errno))
