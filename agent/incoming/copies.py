"""A client's copy of what a peer sends to the pod's container (mirror). What the client answers is dropped.

The copy is taken from the passing connection without ever holding it back: when the client's credit or our memory is used
up, the copy ends with a reset, and the connection goes on without it.
"""

from __future__ import annotations

import errno
from typing import Callable, Optional

from ..pump.session import Session
from ..wire.errors import LocalProtocolError
from ..wire.messages import Address, Incoming

MOST_BACKLOG_BYTES = 16 << 20
"""What may wait for the transport in all. Then copies are dropped."""


class Copy:
    """A passage's tap, and the end of a stream."""

    __slots__ = ("_answered", "_connection", "_on_dropped", "_open", "_said_all", "_session", "_stream")

    def __init__(self, session: Session, stream: int, on_dropped: Callable[[], None]) -> None:
        self._session = session
        self._connection = session.connection
        self._stream = stream
        self._on_dropped = on_dropped
        self._open = True
        self._said_all = False
        self._answered = False
        session.join(stream, self)

    # -- from the peer ------------------------------------------------------------------------------------------------

    def data(self, data: bytes) -> None:
        """To the client, if that is possible at once."""
        if not self._open:
            return
        connection = self._connection
        if len(data) > connection.send_window(self._stream) or connection.backlog > MOST_BACKLOG_BYTES:
            self._on_dropped()
            self.broken(errno.ENOBUFS)
            return
        connection.send_data(self._stream, data)
        self._session.flush_soon()

    def eof(self) -> None:
        """The peer has said all."""
        if self._open and not self._said_all:
            self._said_all = True
            self._connection.send_eof(self._stream)
            self._session.flush_soon()
            self._forget_if_over()

    def broken(self, code: int) -> None:
        """The peer's connection was reset."""
        if self._open:
            self._session.reset(self._stream, code)

    # -- from the client ----------------------------------------------------------------------------------------------

    def on_data(self, data: memoryview) -> None:
        """An answer, which nobody gets."""
        self._connection.consumed(self._stream, len(data))

    def on_eof(self) -> None:
        """The client's program has answered; it may still want to read."""
        self._answered = True
        self._forget_if_over()

    def on_reset(self, code: int) -> None:
        """The client wants no more of it."""
        self._open = False
        self._session.forget(self._stream)

    def on_room(self) -> None:
        """What had no room was dropped."""

    def _forget_if_over(self) -> None:
        if self._said_all and self._answered and self._open:
            self._open = False
            self._session.forget(self._stream)

    def settled(self) -> bool:
        """Nobody waits for a copy."""
        return True


def open_copy(session: Session, port: int, peer: Address, wanted: Address, on_dropped: Callable[[], None]) -> Optional[Copy]:
    """Tell the client of a connection and begin its copy; None if there are too many already."""
    if session.closed:
        return None
    try:
        stream = session.new_stream()
    except LocalProtocolError:
        on_dropped()
        return None
    session.notify(Incoming(stream=stream, port=port, peer=peer, local=wanted))
    return Copy(session, stream, on_dropped)
