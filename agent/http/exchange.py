"""What an HTTP/1 router knows of the connection to an end, and of a request under way."""

from __future__ import annotations

from typing import Optional

from .answers import Answer
from .bodies import Framing
from .copies import Copy
from .heads import RequestHead


class Link:
    """The connection to one end. `used`: requests answered. `spoiled`: it must not serve another one."""

    __slots__ = ("end", "number", "spoiled", "used")

    def __init__(self, number: int, end: str) -> None:
        self.number = number
        self.end = end
        self.used = 0
        self.spoiled = False


class Exchange:
    """A request and its answer. `retry`: what may be sent once more. `link` None: the request leads nowhere any more."""

    __slots__ = ("answer", "body", "copy", "eof_sent", "link", "marker", "request", "retry")

    def __init__(self, request: RequestHead, link: Link, body: Framing, answer: Answer, marker: bytes) -> None:
        self.request = request
        self.link: Optional[Link] = link
        self.body = body
        self.answer = answer
        self.marker = marker
        self.copy: Optional[Copy] = None
        self.eof_sent = False
        self.retry = b""
