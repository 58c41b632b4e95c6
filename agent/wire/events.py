"""What `Connection.receive` returns: the closed set of things a peer can make happen."""

from __future__ import annotations

from typing import NamedTuple, Union

from .messages import Message


class MessageReceived(NamedTuple):
    """A control message: a request (`request_id`), a reply (`reply_to`), or a notice (both 0)."""

    message: Message
    request_id: int
    reply_to: int


class DataReceived(NamedTuple):
    """Bytes of a stream, a view into what was received. Call `Connection.consumed` when they are out of the way."""

    stream: int
    data: memoryview


class EofReceived(NamedTuple):
    """The peer sends nothing more on this stream; the other direction goes on."""

    stream: int


class StreamReset(NamedTuple):
    """The peer dropped the stream in both directions; `errno` says why (0: it lost interest)."""

    stream: int
    errno: int


class WindowOpened(NamedTuple):
    """There is more credit: `Connection.send_window` grew."""

    stream: int


Event = Union[MessageReceived, DataReceived, EofReceived, StreamReset, WindowOpened]
