"""The servers of the demo: HTTP, echo over TCP and UDP, DNS, and an address that never answers.

They are threads over blocking sockets, on purpose without the modules of the standard library that would load more code
later: the pod's process has no Python installation below its root.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from functools import partial

from . import dns

_BACKLOG = 512
_HEAD_LIMIT = 65536
_MAX_BULK = 1 << 30
_MAX_HEADERS = 1000
_REQUEST_LINE_PARTS = 3
_STATUSES = range(200, 600)

Connected = Callable[[socket.socket, str], None]


def listen(address: str, port: int, backlog: int = _BACKLOG) -> socket.socket:
    """A listening TCP socket; the address "::" takes IPv4 as well."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, port))
    listener.listen(backlog)
    return listener


def serve_tcp(listener: socket.socket, connected: Connected) -> None:
    """Call `connected(connection, peer ip)` for each connection, in a thread of its own; returns at once."""

    def accept_all() -> None:
        while True:
            connection, peer = listener.accept()
            _start(partial(serve_one, connection, peer[0]))

    def serve_one(connection: socket.socket, peer: str) -> None:
        with connection, contextlib.suppress(OSError):
            connected(connection, peer.removeprefix("::ffff:"))

    _start(accept_all)


def serve_udp(address: str, port: int, answer: Callable[[bytes], bytes]) -> None:
    """Answer each datagram to `address` with what `answer` makes of it, unless that is empty; returns at once."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    bound.bind((address, port))

    def answer_all() -> None:
        while True:
            datagram, peer = bound.recvfrom(65536)
            reply = answer(datagram)
            if reply or not datagram:
                # The asker may be gone already; that is its business.
                with contextlib.suppress(OSError):
                    bound.sendto(reply, peer)

    _start(answer_all)


def never_answer(address: str, port: int) -> list[socket.socket]:
    """listen(2): a listener whose accept queue is full, so the kernel drops every SYN; keep what is returned open."""
    listener = listen(address, port, backlog=0)
    filler = socket.create_connection((address, port))
    return [listener, filler]


def echo(connection: socket.socket, _peer: str) -> None:
    """RFC 862: every byte back, then the end of the stream back."""
    while chunk := connection.recv(65536):
        connection.sendall(chunk)
    connection.shutdown(socket.SHUT_WR)


def same(datagram: bytes) -> bytes:
    """RFC 862 over UDP: the datagram back."""
    return datagram


def dns_over_tcp(connection: socket.socket, _peer: str) -> None:
    """RFC 1035 4.2.2: queries and answers, each behind its length."""
    stream = connection.makefile("rb")
    while head := stream.read(2):
        reply = dns.answer(stream.read(int.from_bytes(head, "big")))
        connection.sendall(len(reply).to_bytes(2, "big") + reply)


def dns_over_udp(datagram: bytes) -> bytes:
    """RFC 1035 4.2.1: at most what the asker's buffer takes."""
    return dns.answer(datagram, dns.udp_limit(datagram))


def http(name: str) -> Connected:
    """An HTTP/1.1 server with keep-alive.

    `/` and any unknown path answer one line that says who answers and who asked. `/bytes/N` gives N bytes, `/slow/MS`
    waits first, `/status/N` has that status; a POST is answered with the size of its body.
    """

    def serve(connection: socket.socket, peer: str) -> None:
        stream = connection.makefile("rb")
        while line := stream.readline(_HEAD_LIMIT):
            parts = line.decode("latin-1").split()
            if len(parts) != _REQUEST_LINE_PARTS:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            headers = _headers(stream.readline)
            size = len(stream.read(int(headers.get("content-length", "0"))))
            status, body = _respond(name, parts[0], parts[1], peer, size)
            close = headers.get("connection", "").lower() == "close" or parts[2] == "HTTP/1.0"
            head = f"HTTP/1.1 {status} Demo\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
            head += "Connection: close\r\n\r\n" if close else "\r\n"
            connection.sendall(head.encode() + (b"" if parts[0] == "HEAD" else body))
            if close:
                return

    return serve


def _headers(readline: Callable[[int], bytes]) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := readline(_HEAD_LIMIT).strip()) and len(headers) < _MAX_HEADERS:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _respond(name: str, method: str, path: str, peer: str, size: int) -> tuple[int, bytes]:
    command, _, number = path.lstrip("/").partition("/")
    amount = int(number) if number.isdecimal() else 0
    if command == "bytes":
        return 200, bytes(range(256)) * (min(amount, _MAX_BULK) // 256) + bytes(range(amount % 256))
    if command == "slow":
        time.sleep(amount / 1000)
    if command == "status" and amount in _STATUSES:
        return amount, b""
    body = f" with {size} bytes" if size else ""
    return 200, f"{name}: {method} {path}{body} from {peer}\n".encode()


def _start(run: Callable[[], None]) -> None:
    threading.Thread(target=run, daemon=True).start()
