"""One direction of one HTTP/2 stream: what comes in on one connection goes out on another, as the windows allow.

A byte's window is given back to its sender when the byte was sent on, not before: so a stream whose reader is slow stops
its own writer, and holds no more here than one window.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any, Deque, List, Optional, Tuple

from h2.exceptions import H2Error

if TYPE_CHECKING:
    from .http2_side import Side


class Pipe:
    """From `source` to `target`; without a target things wait (`held`), and `discard` is for what leads nowhere.

    `ended`: the source has said all. `done`: and the target was told.
    """

    def __init__(self, source: "Side", source_id: int) -> None:
        self.source = source
        self.source_id = source_id
        self.target: Optional["Side"] = None
        self.target_id = 0
        self.held: Deque[Tuple[bytes, int]] = deque()
        self.held_bytes = 0
        self.ended = self.done = self.discarding = False
        self.trailers: Optional[List[Any]] = None

    def data(self, content: bytes, window: int) -> None:
        """DATA came, which took `window` bytes of the source's window."""
        if self.discarding or not content:
            self._acknowledge(window)
            if self.discarding or not content:
                return
        self.held.append((content, window))
        self.held_bytes += len(content)

    def discard(self) -> None:
        """What came, and will come, is for nobody."""
        self.discarding = True
        while self.held:
            self._acknowledge(self.held.popleft()[1])
        self.held_bytes = 0
        self.done = self.done or self.ended
        if self.target is not None:
            self.target.blocked.discard(self)

    def pump(self) -> None:
        """Send what the windows allow. H2Error: the target's stream is no more."""
        target = self.target
        if target is None or self.done or self.discarding:
            return
        connection, stream = target.h2, self.target_id
        while self.held:
            content, window = self.held[0]
            room = min(connection.local_flow_control_window(stream), connection.max_outbound_frame_size)
            if room <= 0:
                target.blocked.add(self)
                return
            self.held.popleft()
            if len(content) > room:
                # Copies, and what we say ourselves, took no window.
                self.held.appendleft((content[room:], max(window - room, 0)))
                content, window = content[:room], min(window, room)
            last = self.ended and not self.held and self.trailers is None
            connection.send_data(stream, content, end_stream=last)
            self.held_bytes -= len(content)
            self._acknowledge(window)
            self.done = last
        target.blocked.discard(self)
        if self.ended and not self.done:
            self.done = True
            if self.trailers is not None:
                connection.send_headers(stream, self.trailers, end_stream=True)
            else:
                connection.end_stream(stream)

    def _acknowledge(self, window: int) -> None:
        # The stream, or the connection, may have ended meanwhile.
        with contextlib.suppress(H2Error):
            if window:
                self.source.h2.acknowledge_received_data(window, self.source_id)
