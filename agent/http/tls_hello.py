"""The ClientHello (RFC 8446, 4.1.2; RFC 6066, 3; RFC 7301): which name and which protocols a TLS client asks for.

Read before anything is decided, since the certificate, and what the other legs are to speak, depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Iterator, Optional, Tuple

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_ALPN = 16
_MOST_RECORD_BYTES = 16384
_MOST_HELLO_BYTES = 64 * 1024


class NotTls(Exception):
    """These bytes begin no TLS connection, or none that can be read."""


@dataclass(frozen=True)
class Hello:
    """`server_name` "" if the client names none; `protocols` in its order of preference, () without ALPN."""

    server_name: str
    protocols: Tuple[str, ...]


def read_hello(start: bytes) -> Optional[Hello]:
    """The hello at the beginning of a connection; None: it goes on. NotTls."""
    message = b""
    at = 0
    while at < len(start):
        if start[at] != _HANDSHAKE or start[at + 1 : at + 2] not in (b"", b"\3"):
            raise NotTls("not a handshake record")
        if len(start) - at < 5:
            break
        size = int.from_bytes(start[at + 3 : at + 5], "big")
        if not 0 < size <= _MOST_RECORD_BYTES:
            raise NotTls("a record of impossible size")
        message += start[at + 5 : at + 5 + size]
        if message and message[0] != _CLIENT_HELLO:
            raise NotTls("not a ClientHello")
        if len(message) >= 4:
            end = 4 + int.from_bytes(message[1:4], "big")
            if end > _MOST_HELLO_BYTES:
                raise NotTls("a ClientHello of impossible size")
            if len(message) >= end:
                return _parse(message[4:end])
        at += 5 + size
    return None


def _parse(body: bytes) -> Hello:
    cursor = _Cursor(body)
    cursor.take(2 + 32)
    cursor.vector(1)  # session
    cursor.vector(2)  # ciphers
    cursor.vector(1)  # compression
    name, protocols = "", ()  # type: Tuple[str, Tuple[str, ...]]
    if cursor.left():
        extensions = _Cursor(cursor.vector(2))
        while extensions.left():
            kind = extensions.number(2)
            content = _Cursor(extensions.vector(2))
            if kind == _SERVER_NAME:
                name = _name(content)
            elif kind == _ALPN:
                protocols = tuple(_protocols(content))
    return Hello(name, protocols)


def _name(content: "_Cursor") -> str:
    names = _Cursor(content.vector(2))
    while names.left():
        kind, name = names.number(1), names.vector(2)
        if kind == 0:
            if not name.isascii() or not 0 < len(name) <= 253:
                raise NotTls("a server name that is none")
            return name.decode()
    return ""


def _protocols(content: "_Cursor") -> Iterator[str]:
    names = _Cursor(content.vector(2))
    while names.left():
        name = names.vector(1)
        if not name:
            raise NotTls("a protocol without a name")
        yield name.decode("latin-1")


# What is short of what it says is an error.
class _Cursor:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, size: int) -> bytes:
        if size > self.left():
            raise NotTls("a ClientHello that is cut short")
        self._at += size
        return self._content[self._at - size : self._at]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        return self.take(self.number(size))
