"""Reach an HTTPS server: TCP, through an HTTP proxy if there is one, then TLS. Blocking, one deadline for all.

Happens once at the start and once at each reconnect, in the process that then owns the socket. What goes wrong stays
an OSError (ssl.SSLError is one): the caller knows the words for its user.
"""

from __future__ import annotations

import base64
import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

_PROXY_REPLY_LIMIT = 16384
_KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6))


@dataclass(frozen=True)
class Host:
    """Where an https:// or http:// URL points: `prefix` is its path without the last slash."""

    name: str
    port: int
    tls: bool
    prefix: str

    @staticmethod
    def parse(url: str) -> Host:
        """Split a URL; ValueError if it is not one of an HTTP server."""
        parts = urlsplit(url if "://" in url else f"https://{url}")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// or https:// address")
        tls = parts.scheme == "https"
        return Host(parts.hostname, parts.port or (443 if tls else 80), tls, parts.path.rstrip("/"))


class ProxyRefused(ConnectionError):
    """The HTTP proxy answered CONNECT with something other than 2xx."""


def dial(
    host: Host,
    timeout_s: float,
    *,
    context: ssl.SSLContext | None = None,
    server_name: str | None = None,
    proxy: str | None = None,
) -> socket.socket:
    """connect(2) to `host` and do the TLS handshake. The socket keeps what is left of the timeout; OSError on failure.

    `server_name` replaces the host name in SNI and in the certificate check (kubeconfig's tls-server-name).
    """
    deadline = time.monotonic() + timeout_s
    sock = _connect_through(proxy, host, deadline) if proxy else _connect(host.name, host.port, deadline)
    try:
        _tune(sock)
        sock.settimeout(_left(deadline))
        if host.tls:
            if context is None:
                raise ValueError("an https:// host needs a TLS context")
            sock = context.wrap_socket(sock, server_hostname=server_name or host.name)
        sock.settimeout(_left(deadline))
    except BaseException:
        sock.close()
        raise
    return sock


def _connect(name: str, port: int, deadline: float) -> socket.socket:
    return socket.create_connection((name, port), timeout=_left(deadline))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


def _tune(sock: socket.socket) -> None:
    # Keep-alive finds a server that vanished while we have nothing to send (laptop sleep, dropped NAT state).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _connect_through(proxy: str, host: Host, deadline: float) -> socket.socket:
    parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    if parts.scheme != "http" or not parts.hostname:
        raise ProxyRefused(f"proxy {proxy}: only http:// proxies can carry the agent's connection")
    name = f"[{host.name}]" if ":" in host.name else host.name
    lines = [f"CONNECT {name}:{host.port} HTTP/1.1", f"Host: {name}:{host.port}"]
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append("Proxy-Authorization: Basic " + base64.b64encode(login.encode()).decode())
    sock = _connect(parts.hostname, parts.port or 80, deadline)
    try:
        sock.settimeout(_left(deadline))
        sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        _read_proxy_reply(sock, parts.hostname)
    except BaseException:
        sock.close()
        raise
    return sock


def _read_proxy_reply(sock: socket.socket, proxy_name: str) -> None:
    # One byte at a time: what follows the empty line belongs to TLS.
    reply = bytearray()
    while not reply.endswith(b"\r\n\r\n"):
        byte = sock.recv(1)
        if not byte or len(reply) >= _PROXY_REPLY_LIMIT:
            raise ProxyRefused(f"proxy {proxy_name} did not answer CONNECT")
        reply += byte
    status_line = reply.split(b"\r\n", 1)[0].decode("latin-1")
    words = status_line.split(" ", 2)
    if len(words) < 2 or not words[1].startswith("2"):
        raise ProxyRefused(f"proxy {proxy_name} refused: {status_line}")
