"""What the peer gets in place of an answer that the client's program did not give."""

from __future__ import annotations

import os


def bad_gateway(method: bytes, number: int, last: bool, marker: bytes) -> bytes:
    """The answer in place of one that the client's program did not give; `number` is the errno, 0 for EOF."""
    text = bad_gateway_text(number)
    head = b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % len(text)
    head += b"Connection: close\r\n" if last else b""
    head += b"mirrord-agent: " + marker + b"\r\n" if marker else b""
    return head + b"\r\n" + (text if method != b"HEAD" else b"")


def bad_gateway_text(number: int) -> bytes:
    """For whoever sees the 502."""
    reason = os.strerror(number) if number else "it closed the connection"
    return f"mirrord-trace: the program that this request was for gave no answer: {reason}\n".encode()
