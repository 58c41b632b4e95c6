"""HTTP/1 heads: where one ends, whether it is valid, and how the message's body is framed.

h11 is the judge of validity. It costs some 30 us for each head, so a head of the plain kind (the vast majority) is
recognised by one regular expression, which accepts a part of what h11 accepts and reads the same out of it; the tests show
that. Whatever else there is goes to h11.

What is read out is only for deciding: heads are passed on as the bytes they came in.
"""

from __future__ import annotations

import functools
import re
from typing import Any, List, Optional, Sequence, Tuple

MOST_HEAD_BYTES = 128 * 1024
"""A longer head is refused. Servers stop between 8 KiB and 1 MiB."""

CHUNKED = -1
"""Framing of a body: its chunks tell (RFC 9112, 7.1)."""

UNTIL_EOF = -2
"""Framing of a body: it ends with the connection."""

_FIELDS = rb"((?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t -~\x80-\xff]*\r\n)*)\r\n"
_REQUEST = re.compile(rb"([A-Z]{1,32}) ([!-~]+) HTTP/1\.([01])\r\n" + _FIELDS)
_RESPONSE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: [\t -~\x80-\xff]*)?\r\n" + _FIELDS)
_FIELD = re.compile(rb"([^:\r\n]+):[ \t]*([^\r\n]*?)[ \t]*\r\n")
_NUMBER = re.compile(rb"[0-9]{1,18}")
# h11 takes a line that ends with LF alone.
_BLANK_LINE = re.compile(rb"\n\r?\n")
_JUDGED = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"upgrade", b"expect"))

Headers = Sequence[Tuple[bytes, bytes]]


class Refused(Exception):
    """This is not HTTP/1, or not valid."""


class RequestHead:
    """`size`: bytes of the head. `length`: of the body, or CHUNKED. `keep_alive`: as far as the request is concerned."""

    __slots__ = ("expects", "headers", "keep_alive", "length", "method", "minor", "size", "target")

    def __init__(self, size: int, method: bytes, target: bytes, minor: bytes, headers: Headers, judged: "_Judged") -> None:
        self.size = size
        self.method = method
        self.target = target
        self.minor = minor
        self.headers = headers
        self.length = CHUNKED if judged.chunked else max(judged.length, 0)
        self.keep_alive = judged.keeps_alive(minor)
        self.expects = judged.expects


class ResponseHead:
    """`length`: of the body, or CHUNKED, or UNTIL_EOF. `keep_alive`: as far as the answer is concerned."""

    __slots__ = ("keep_alive", "length", "size", "status")

    def __init__(self, size: int, status: int, minor: bytes, judged: "_Judged") -> None:
        self.size = size
        self.status = status
        self.length = CHUNKED if judged.chunked else judged.length if judged.length >= 0 else UNTIL_EOF
        self.keep_alive = judged.keeps_alive(minor)


# What a head's fields say about the message. `plain`: in a way that leaves no question to h11.
class _Judged:
    __slots__ = ("chunked", "connection", "expects", "hosts", "length", "plain")

    def __init__(self, headers: Headers) -> None:
        self.plain = True
        self.length = -1
        self.hosts = 0
        self.chunked = self.expects = False
        self.connection = b""
        for name, value in headers:
            lower = name.lower()
            if lower in _JUDGED:
                self._judge(lower, value)

    def _judge(self, name: bytes, value: bytes) -> None:
        if name == b"host":
            self.hosts += 1
        elif name == b"connection":
            self.connection += b"," + value.lower()
        elif name == b"content-length":
            self.plain = self.plain and self.length < 0 and _NUMBER.fullmatch(value) is not None
            self.length = int(value) if self.plain else -1
        elif name == b"transfer-encoding":
            self.plain = self.plain and not self.chunked and value.lower() == b"chunked"
            self.chunked = True
        elif name == b"expect":
            self.expects = value.lower() == b"100-continue"
        else:  # upgrade: matters to h11 alone, which takes the rest of the connection for something else
            pass

    def keeps_alive(self, minor: bytes) -> bool:
        if not self.connection:
            return minor == b"1"
        tokens = [token.strip() for token in self.connection.split(b",")]
        return b"close" not in tokens and (minor == b"1" or b"keep-alive" in tokens)


def may_be_complete(buffer: bytes, seen: int) -> bool:
    """Whether it is worth asking again, when the first `seen` bytes were no complete head."""
    return len(buffer) > MOST_HEAD_BYTES or _BLANK_LINE.search(buffer, max(seen - 3, 0)) is not None


def request_head(buffer: bytes) -> Optional[RequestHead]:
    """The head that `buffer` (not empty) begins with; None: it goes on. Refused: h11 does not take it."""
    match = _REQUEST.match(buffer)
    if match is not None:
        method, target, minor, fields = match.groups()
        headers = _FIELD.findall(fields)
        judged = _Judged(headers)
        hosts = judged.hosts == 1 or (minor == b"0" and not judged.hosts)
        if hosts and judged.plain and not judged.chunked and match.end() <= MOST_HEAD_BYTES:
            return RequestHead(match.end(), method, target, minor, headers, judged)
    if _BLANK_LINE.search(buffer) is None and not _is_hopeless(buffer):
        return None
    return _request_by_h11(buffer)


def response_head(buffer: bytes) -> Optional[ResponseHead]:
    """As `request_head`. That answers to HEAD and CONNECT have no body is the caller's to know."""
    match = _RESPONSE.match(buffer)
    if match is not None:
        minor, status, fields = match.groups()
        judged = _Judged(_FIELD.findall(fields))
        if judged.plain and not (judged.chunked and judged.length >= 0) and match.end() <= MOST_HEAD_BYTES:
            return ResponseHead(match.end(), int(status), minor, judged)
    if _BLANK_LINE.search(buffer) is None and not _is_hopeless(buffer):
        return None
    return _response_by_h11(buffer)


# What cannot become a head by anything that follows. The rest of the line may still be on its way.
def _is_hopeless(buffer: bytes) -> bool:
    return len(buffer) > MOST_HEAD_BYTES or buffer[:1] <= b" " or b"\0" in buffer[:1024]


def _request_by_h11(buffer: bytes) -> RequestHead:
    h11 = import_h11()
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MOST_HEAD_BYTES)
    event = _only_event(connection, buffer, h11)
    if not isinstance(event, h11.Request):
        raise Refused("not a request")
    headers = event.headers.raw_items()
    judged = _judged_by_h11(event.headers, headers)
    minor = _minor(event.http_version)
    # RFC 9112, 6.1: who sends both wants to be understood in two ways.
    if judged.chunked and (judged.length >= 0 or minor == b"0"):
        raise Refused("Transfer-Encoding with Content-Length, or in HTTP/1.0")
    size = len(buffer) - len(connection.trailing_data[0])
    return RequestHead(size, bytes(event.method), bytes(event.target), minor, headers, judged)


def _response_by_h11(buffer: bytes) -> ResponseHead:
    h11 = import_h11()
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=MOST_HEAD_BYTES)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "pod"), ("Upgrade", "any")]))
    connection.send(h11.EndOfMessage())
    event = _only_event(connection, buffer, h11)
    if not isinstance(event, (h11.Response, h11.InformationalResponse)):
        raise Refused("not an answer")
    judged = _judged_by_h11(event.headers, event.headers.raw_items())
    size = len(buffer) - len(connection.trailing_data[0])
    return ResponseHead(size, event.status_code, _minor(event.http_version), judged)


# h11 leaves the version to its user. A later 1.x is to be taken for 1.1 (RFC 9110, 2.5).
def _minor(version: bytes) -> bytes:
    if version[:2] != b"1.":
        raise Refused("not HTTP/1")
    return b"0" if version == b"1.0" else b"1"


def _only_event(connection: Any, buffer: bytes, h11: Any) -> Any:
    try:
        connection.receive_data(buffer)
        return connection.next_event()
    except h11.ProtocolError as error:
        raise Refused(str(error)) from None


# h11 has made one of several equal lengths, so its own view is what counts.
def _judged_by_h11(normalised: Any, raw: List[Tuple[bytes, bytes]]) -> _Judged:
    judged = _Judged([(name, value) for name, value in normalised if name in (b"content-length", b"transfer-encoding")])
    rest = _Judged([(name, value) for name, value in raw if name.lower() not in (b"content-length", b"transfer-encoding")])
    rest.length, rest.chunked = judged.length, judged.chunked
    return rest


@functools.lru_cache(maxsize=None)
def import_h11() -> Any:
    """h11, when it is first needed: an agent without filters starts without it."""
    import h11

    return h11
