"""Requests, replies and notices of one end of a session: which requests are under way, and messages cut into frames.

Values in, values out, as in the rest of the protocol. A session that resumes goes on with the same `Exchange`: a
message whose first half came over the transport that broke is completed over the next.
"""

from __future__ import annotations

from typing import Optional, Set, Tuple

from . import frames
from .codec import CHANNEL_NUMBERS, decode, encode, number_of
from .errors import LocalProtocolError, RemoteProtocolError
from .events import MessageReceived
from .messages import Message


class Exchange:
    """Both directions: `to_send` for messages of ours, `received` for frames of the peer's."""

    def __init__(self) -> None:
        self._next_request = 1
        self._asked: Set[int] = set()
        self._unanswered: Set[int] = set()
        self._fragments = bytearray()
        self._fragment_of: Optional[Tuple[int, int]] = None

    @property
    def open_requests(self) -> int:
        """Requests of ours that wait for a reply."""
        return len(self._asked)

    def new_request_id(self) -> int:
        """An id that no request of ours under way has."""
        while True:
            ident = self._next_request
            self._next_request = ident % 0xFFFFFFFF + 1
            if ident not in self._asked:
                return ident

    def to_send(self, message: Message, request_id: int, reply_to: int) -> Tuple[int, int, bytes]:
        """(kind of frame, its id, payload) of a request (`request_id`), a reply (`reply_to`) or a notice (both 0).

        LocalProtocolError, with nothing changed, if that must not be sent now.
        """
        if number_of(type(message)) not in CHANNEL_NUMBERS:
            raise LocalProtocolError(f"{type(message).__name__} does not travel between client and agent")
        if request_id and reply_to:
            raise LocalProtocolError("a message is a request or a reply, not both")
        if request_id in self._asked or (request_id and len(self._asked) >= frames.MAX_REQUESTS):
            raise LocalProtocolError(f"request {request_id} of {len(self._asked)} under way")
        if reply_to and reply_to not in self._unanswered:
            raise LocalProtocolError(f"reply to {reply_to}, which is not waiting for one")
        payload = encode(message)
        if request_id:
            self._asked.add(request_id)
            return frames.REQUEST, request_id, payload
        if reply_to:
            self._unanswered.discard(reply_to)
            return frames.REPLY, reply_to, payload
        return frames.NOTICE, 0, payload

    def received(self, kind: int, ident: int, payload: memoryview) -> Optional[MessageReceived]:
        """A frame of a message, in order; the event once it is the last one, or None as long as more must come."""
        bare = kind & ~frames.MORE
        if self._fragment_of is not None and self._fragment_of != (bare, ident):
            raise RemoteProtocolError(f"message of kind {bare} inside one of kind {self._fragment_of[0]}")
        if kind == bare and self._fragment_of is None:
            return self._complete(bare, ident, payload)
        self._fragment_of = (bare, ident)
        if len(self._fragments) + len(payload) > frames.MAX_MESSAGE_BYTES:
            raise RemoteProtocolError("message too large")
        self._fragments += payload
        if kind != bare:
            return None
        whole, self._fragments, self._fragment_of = self._fragments, bytearray(), None
        return self._complete(bare, ident, memoryview(whole))

    def _complete(self, kind: int, ident: int, payload: memoryview) -> MessageReceived:
        message = decode(payload)
        if number_of(type(message)) not in CHANNEL_NUMBERS:
            raise RemoteProtocolError(f"{type(message).__name__} does not travel between client and agent")
        if kind == frames.REPLY:
            if ident not in self._asked:
                raise RemoteProtocolError(f"reply to {ident}, which was not asked")
            self._asked.discard(ident)
            return MessageReceived(message, 0, ident)
        if kind == frames.REQUEST:
            if ident in self._unanswered or len(self._unanswered) >= frames.MAX_REQUESTS:
                raise RemoteProtocolError(f"request {ident} with {len(self._unanswered)} under way")
            self._unanswered.add(ident)
            return MessageReceived(message, ident, 0)
        return MessageReceived(message, 0, 0)
