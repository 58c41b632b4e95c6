"""The sending half of a connection: what goes out next, and what must be kept until the peer has it.

Order: what a broken transport swallowed; then control frames; then the streams in turn, one frame each. Control goes
first but never takes more than half of a batch while streams wait, so neither starves the other. A frame gets its
sequence number when it is handed to the transport, which is what lets control overtake.
"""

from __future__ import annotations

from collections import deque
from typing import Deque, Dict, List, Tuple

from .errors import RemoteProtocolError
from .frames import DATA, HEADER, HEADER_BYTES, MORE, OPEN, U64, Buffer
from .streams import Stream

JOIN_BELOW_BYTES = 4096
"""Payloads smaller than this are copied behind their header: dearer to point at than to copy."""

FRAME_OVERHEAD_BYTES = 256
"""What keeping a frame costs beside its payload (about): so that small frames cannot outgrow the bound on memory."""


class Outgoing:
    """Queues, scheduling and the frames not yet acknowledged.

    `unacknowledged_limit`: no new DATA goes out while more than this many bytes wait for an ACK. `backlog`: bytes of
    DATA queued and not yet handed out.
    """

    def __init__(self, unacknowledged_limit: int, max_payload: int) -> None:
        self.backlog = 0
        self.sent = 0
        self.acknowledged = 0
        self.control_backlog = 0
        self._limit = unacknowledged_limit
        self._max_payload = max_payload
        self._control: Deque[Tuple[int, int, Buffer]] = deque()
        self._opening: Dict[int, Stream] = {}
        self._ready: Deque[Stream] = deque()
        self._kept: Deque[Tuple[bytes, Buffer]] = deque()
        self._kept_bytes = 0
        self._replay: Deque[Tuple[bytes, Buffer]] = deque()
        self._unsequenced: List[bytes] = []

    # -- filling ----------------------------------------------------------------------------------------------------

    def control(self, kind: int, ident: int, payload: Buffer = b"") -> None:
        """Queue a frame that must not wait for bulk; a message larger than a frame is cut into several."""
        self.control_backlog += len(payload)
        if len(payload) <= self._max_payload:
            self._control.append((kind, ident, payload))
            return
        view = memoryview(payload)
        last = (len(view) - 1) // self._max_payload * self._max_payload
        for start in range(0, last, self._max_payload):
            self._control.append((kind | MORE, ident, view[start : start + self._max_payload]))
        self._control.append((kind, ident, view[last:]))

    def open(self, stream: Stream) -> None:
        """Queue the stream's OPEN; whatever it sends waits until that is out."""
        stream.announced = False
        self._opening[stream.id] = stream
        self.control(OPEN, stream.id)

    def stream_data(self, stream: Stream, data: Buffer) -> None:
        """Queue bytes of a stream, which must be covered by its credit."""
        size = len(data)
        self.backlog += size
        if size <= self._max_payload:
            stream.queue.append((DATA, data))
        else:
            view = memoryview(data)
            for start in range(0, size, self._max_payload):
                stream.queue.append((DATA, view[start : start + self._max_payload]))
        self._schedule(stream)

    def stream_end(self, stream: Stream, kind: int, payload: bytes = b"") -> None:
        """Queue EOF or RESET, behind the stream's data."""
        stream.queue.append((kind, payload))
        self._schedule(stream)

    def drop(self, stream: Stream) -> None:
        """Forget what the stream still had to send: the peer reset it."""
        for kind, payload in stream.queue:
            if kind == DATA:
                self.backlog -= len(payload)
        stream.queue.clear()

    def _schedule(self, stream: Stream) -> None:
        if stream.announced and not stream.scheduled:
            stream.scheduled = True
            self._ready.append(stream)

    # -- the transport ----------------------------------------------------------------------------------------------

    def restart(self, peer_received: int) -> None:
        """A new transport: everything after `peer_received` goes out again, ahead of anything new."""
        if not self.acknowledged <= peer_received <= self.sent:
            raise RemoteProtocolError(
                f"the peer claims {peer_received} frames; {self.acknowledged} to {self.sent} are possible"
            )
        self.acknowledge(peer_received)
        self._replay = deque(self._kept)
        self._unsequenced.clear()

    def acknowledge(self, count: int) -> None:
        """The peer has the first `count` sequenced frames."""
        if not self.acknowledged <= count <= self.sent:
            raise RemoteProtocolError(f"ACK of {count}; {self.acknowledged} to {self.sent} are possible")
        for _ in range(count - self.acknowledged):
            _, payload = self._kept.popleft()
            self._kept_bytes -= len(payload) + FRAME_OVERHEAD_BYTES
        self.acknowledged = count

    def unsequenced(self, kind: int, number: int) -> None:
        """Queue ACK, PING or PONG for the present transport. A second PONG or ACK replaces the first."""
        frame = HEADER.pack(kind << 24 | 8, 0, 0) + U64.pack(number)
        self._unsequenced = [other for other in self._unsequenced if other[0] != kind]
        self._unsequenced.append(frame)

    # -- emptying ---------------------------------------------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether `take` would give nothing. False may still mean so: a stream that waits for an ACK is counted."""
        return not (self._ready or self._control or self._unsequenced or self._replay)

    def take(self, max_bytes: int) -> List[Buffer]:
        """The next buffers for the transport: whole frames, stopping at the first that reaches `max_bytes`."""
        out: List[Buffer] = []
        out.extend(self._unsequenced)
        self._unsequenced.clear()
        room = self._take_replay(out, max_bytes)
        if room > 0 and self._control:
            share = room // 2 if self._ready else room
            room -= share - self._take_control(out, share)
        if room > 0 and self._ready:
            room = self._take_streams(out, room)
        if room > 0 and self._control:
            self._take_control(out, room)
        return out

    def _take_replay(self, out: List[Buffer], room: int) -> int:
        while self._replay and room > 0:
            header, payload = self._replay.popleft()
            out.append(header)
            if len(payload):
                out.append(payload)
            room -= len(header) + len(payload)
        return room

    def _take_control(self, out: List[Buffer], room: int) -> int:
        queue = self._control
        while queue and room > 0:
            kind, ident, payload = queue.popleft()
            self.control_backlog -= len(payload)
            room -= self._emit(out, kind, ident, payload)
            if kind == OPEN:
                stream = self._opening.pop(ident)
                stream.announced = True
                if stream.queue:
                    self._schedule(stream)
        return room

    def _take_streams(self, out: List[Buffer], room: int) -> int:
        ready = self._ready
        while ready and room > 0 and self._kept_bytes < self._limit:
            stream = ready.popleft()
            if not stream.queue:  # reset by the peer while it waited its turn
                stream.scheduled = False
                continue
            kind, payload = stream.queue.popleft()
            room -= self._emit(out, kind, stream.id, payload)
            if kind == DATA:
                self.backlog -= len(payload)
            if stream.queue:
                ready.append(stream)
            else:
                stream.scheduled = False
        return room

    def _emit(self, out: List[Buffer], kind: int, ident: int, payload: Buffer) -> int:
        size = len(payload)
        self.sent += 1
        header = HEADER.pack(kind << 24 | size, ident, self.sent & 0xFFFFFFFF)
        self._kept_bytes += size + FRAME_OVERHEAD_BYTES
        self._kept.append((header, payload))
        if size >= JOIN_BELOW_BYTES:
            out.append(header)
            out.append(payload)
        else:
            out.append(b"".join((header, payload)))
        return size + HEADER_BYTES
