"""SPDY/3.1 framing, as far as a port-forward needs it, without any I/O: bytes in, events out; calls in, bytes out.

Kubernetes' streaming protocol of old, and what `kubectl port-forward` still speaks inside: the container runtime reads it
with less work than WebSocket messages, which it must unmask byte by byte. The API server and the kubelet only copy it.

    0 | stream (31 bit)           | flags (8) | length (24) | payload          DATA
    1 | version (15) | type (16)  | flags (8) | length (24) | payload          control

Header blocks are compressed (zlib with the dictionary below, one compressor for the connection, flushed after each block).
Ours are so; the server's are skipped, since nothing in them is of use here. The peer's library (spdystream) has no flow
control, whatever the standard says: it reads no further when a stream's consumer does not, and TCP does the rest. So of
WINDOW_UPDATE and SETTINGS nothing is sent, and what comes is ignored.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from typing import NamedTuple

HEADER_BYTES = 8
MAX_DATA_BYTES = 0xFFFFFF
CONTROL_LIMIT_BYTES = 64 * 1024
"""The longest control frame taken: a few short ones are all that a port-forward brings."""

_VERSION = 3
_CONTROL = 0x80000000
_FIN = 0x01
_SYN_STREAM, _SYN_REPLY, _RST_STREAM, _PING, _GOAWAY, _HEADERS = 1, 2, 3, 6, 7, 8
_STREAM = struct.Struct("!I")
_HEADER = struct.Struct("!II")
_SYN_STREAM_FIELDS = struct.Struct("!IIBB")

_WORDS = """\
options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow
authorization cache-control connection content-base content-encoding content-language content-length content-location
content-md5 content-range content-type date etag expect expires from host if-match if-modified-since if-none-match
if-range if-unmodified-since last-modified location max-forwards pragma proxy-authenticate proxy-authorization range
referer retry-after server te trailer transfer-encoding upgrade user-agent vary via warning www-authenticate method get
status 200_OK version HTTP/1.1 url public set-cookie keep-alive origin"""
_TEXT = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden"
    "404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,text/javascript,"
    "publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)


def _counted(text: str) -> bytes:
    return _STREAM.pack(len(text)) + text.encode("ascii")


DICTIONARY = b"".join(_counted(word.replace("_", " ")) for word in _WORDS.split()) + _TEXT.encode("ascii")
"""The zlib dictionary of SPDY/3's header blocks, from section 2.6.10.1 of its draft."""


class SpdyBroken(ConnectionError):
    """The peer does not speak SPDY as it should, or the connection ended in the middle."""


class StreamData(NamedTuple):
    """Bytes of a stream: a part of a DATA frame, or all of it. A view into what was given to `receive`."""

    stream: int
    data: memoryview


class StreamEnd(NamedTuple):
    """The peer sends nothing more on this stream."""

    stream: int


class StreamReset(NamedTuple):
    """The peer dropped the stream in both directions."""

    stream: int
    status: int


class Answer(NamedTuple):
    """Bytes to send back: the answer to a PING."""

    frame: bytes


class GoneAway(NamedTuple):
    """The peer is about to close the connection."""

    status: int


Event = StreamData | StreamEnd | StreamReset | Answer | GoneAway


class Spdy:
    """The client's side of one connection. After SpdyBroken it is of no more use."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(zlib.Z_BEST_COMPRESSION, zdict=DICTIONARY)
        self._next_stream = 1
        self._partial = bytearray()  # a header, or a control frame with its header, that has come in part
        self._wanted = HEADER_BYTES  # how long `_partial` must be before it can be looked at
        self._stream = 0
        self._data_left = 0
        self._data_ends = False

    def open_stream(self, headers: Mapping[str, str], ended: bool = False) -> tuple[int, bytes]:
        """The next stream's number, and the SYN_STREAM frame; `ended`: we send nothing on it. Names are lower case."""
        block = _STREAM.pack(len(headers)) + b"".join(_counted(name) + _counted(value) for name, value in headers.items())
        packed = self._compressor.compress(block) + self._compressor.flush(zlib.Z_SYNC_FLUSH)
        stream = self._next_stream
        self._next_stream += 2
        return stream, _control(_SYN_STREAM, _FIN if ended else 0, _SYN_STREAM_FIELDS.pack(stream, 0, 0, 0) + packed)

    def receive(self, data: memoryview) -> list[Event]:
        """Bytes of the connection, cut anywhere, to events. SpdyBroken if they are not what a server may send."""
        events: list[Event] = []
        position, size = 0, len(data)
        while position < size:
            if self._data_left:
                part = data[position : position + self._data_left]
                position += len(part)
                self._data_left -= len(part)
                events.append(StreamData(self._stream, part))
                self._end_data(events)
            elif not self._partial and size - position >= HEADER_BYTES:
                word, flags_and_length = _HEADER.unpack_from(data, position)
                self._begin(word, flags_and_length, events)
                if self._wanted > HEADER_BYTES:
                    self._partial += data[position : position + HEADER_BYTES]
                position += HEADER_BYTES
            else:
                part = data[position : position + self._wanted - len(self._partial)]
                position += len(part)
                self._partial += part
                self._complete(events)
        return events

    def _begin(self, word: int, flags_and_length: int, events: list[Event]) -> None:
        # A frame's header has come: what is the next thing to wait for?
        length = flags_and_length & 0xFFFFFF
        if not word & _CONTROL:
            if word % 2 == 0 or word >= self._next_stream:
                raise SpdyBroken(f"a DATA frame of stream {word}")
            self._stream, self._data_left, self._data_ends = word, length, bool(flags_and_length >> 24 & _FIN)
            self._end_data(events)
            return
        if word >> 16 & 0x7FFF != _VERSION:
            raise SpdyBroken(f"a control frame of version {word >> 16 & 0x7FFF}")
        if length > CONTROL_LIMIT_BYTES:
            raise SpdyBroken(f"a control frame of {length} bytes")
        self._wanted = HEADER_BYTES + length
        if length == 0:
            self._control(word & 0xFFFF, 0, b"", events)

    def _end_data(self, events: list[Event]) -> None:
        if self._data_ends and not self._data_left:
            self._data_ends = False
            events.append(StreamEnd(self._stream))

    def _complete(self, events: list[Event]) -> None:
        # `_partial` has grown: act on it if it is all there.
        partial = self._partial
        if len(partial) < self._wanted:
            return
        word, flags_and_length = _HEADER.unpack_from(partial)
        if self._wanted == HEADER_BYTES:
            self._begin(word, flags_and_length, events)
            if self._wanted == HEADER_BYTES:
                self._partial = bytearray()
            return
        self._partial, self._wanted = bytearray(), HEADER_BYTES
        self._control(word & 0xFFFF, flags_and_length >> 24, bytes(partial[HEADER_BYTES:]), events)

    def _control(self, kind: int, flags: int, payload: bytes, events: list[Event]) -> None:
        if kind == _SYN_STREAM:
            raise SpdyBroken("the server opens a stream")
        if kind in (_SYN_REPLY, _HEADERS):
            if flags & _FIN:
                events.append(StreamEnd(_number(payload, 0)))
        elif kind == _RST_STREAM:
            events.append(StreamReset(_number(payload, 0), _number(payload, 4)))
        elif kind == _PING:
            if _number(payload, 0) % 2 == 0:  # an odd one would be the answer to one of ours
                events.append(Answer(_control(_PING, 0, payload)))
        elif kind == _GOAWAY:
            events.append(GoneAway(_number(payload, 4)))


def data_header(stream: int, size: int, ended: bool = False) -> bytes:
    """What goes before `size` bytes (at most MAX_DATA_BYTES) of a stream; `ended`: they are its last."""
    return _HEADER.pack(stream, (_FIN << 24 if ended else 0) | size)


def _control(kind: int, flags: int, payload: bytes) -> bytes:
    return _HEADER.pack(_CONTROL | _VERSION << 16 | kind, flags << 24 | len(payload)) + payload


def _number(payload: bytes, offset: int) -> int:
    if len(payload) < offset + 4:
        raise SpdyBroken("a control frame is too short")
    number: int = _STREAM.unpack_from(payload, offset)[0]
    return number & 0x7FFFFFFF
