"""Names that this machine resolves (`feature.network.dns.filter`): by its /etc/hosts, then by its name servers.

Queries go on as they are, under an id and from a port of our own, by UDP or (where the program came by TCP) by TCP. All
of it runs on the relay's loop.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from ...agent.pump.loop import READ, WRITE, Loop, Timer
from . import dns_message

TIMEOUT_S = 3.0
"""For each attempt; every server is tried twice, as resolv.conf(5) has it."""

MOST_UNDER_WAY = 256
_ATTEMPTS = 2
_MOST_SERVERS = 3
_MOST_BYTES = 65535
_PORT = 53

Reply = Callable[[bytes], None]
Server = tuple[str, int]


class LocalNames:
    """`hosts` and `resolv_conf` are read anew for each query, as resolvers do."""

    def __init__(self, loop: Loop, hosts: Path = Path("/etc/hosts"), resolv_conf: Path = Path("/etc/resolv.conf")) -> None:
        self._loop = loop
        self._hosts = hosts
        self._resolv_conf = resolv_conf
        self._under_way: set[_Exchange] = set()

    def ask(self, message: bytes, query: dns_message.Query, names: Sequence[str], by_tcp: bool, reply: Reply) -> None:
        """Answer a query, at once or later, once; SERVFAIL if no server does. `names`: what the name goes by."""
        ips = self._from_hosts(names)
        if ips and query.kind in (dns_message.A, dns_message.AAAA):
            reply(dns_message.address_response(message, query, ips))
            return
        servers = self._servers()
        if not servers or len(self._under_way) >= MOST_UNDER_WAY:
            reply(dns_message.failure(message, query, dns_message.SERVFAIL))
            return

        def done(exchange: _Exchange, answer: bytes) -> None:
            self._under_way.discard(exchange)
            reply(answer)

        exchange = _Exchange(self._loop, message, query, servers * _ATTEMPTS, by_tcp, done)
        self._under_way.add(exchange)
        exchange.begin()

    def close(self) -> None:
        """Answer nothing any more."""
        for exchange in self._under_way:
            exchange.close()
        self._under_way.clear()

    def _from_hosts(self, names: Sequence[str]) -> list[bytes]:
        return [ip for ip, known in hosts_entries(_text_of(self._hosts)) if not known.isdisjoint(names)]

    def _servers(self) -> list[Server]:
        servers = []
        for line in _text_of(self._resolv_conf).splitlines():
            words = line.split()
            if len(words) > 1 and words[0] == "nameserver" and dns_message.is_address(words[1]):
                servers.append((words[1], _PORT))
        return servers[:_MOST_SERVERS]


# One query on its way from server to server.
class _Exchange:
    def __init__(
        self,
        loop: Loop,
        message: bytes,
        query: dns_message.Query,
        servers: list[Server],
        by_tcp: bool,
        done: Callable[[_Exchange, bytes], None],
    ) -> None:
        self._loop = loop
        self._query = query
        self._message = message
        self._servers = servers
        self._by_tcp = by_tcp
        self._done = done
        self._id = 0
        self._socket: socket.socket | None = None
        self._timer: Timer | None = None
        self._unsent = b""
        self._received = b""

    def begin(self) -> None:
        while self._servers:
            server = self._servers.pop(0)
            if self._open(server):
                self._timer = self._loop.call_later(TIMEOUT_S, self._next)
                return
            self.close()
        self._finish(dns_message.failure(self._message, self._query, dns_message.SERVFAIL))

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _open(self, server: Server) -> bool:
        self._id = secrets.randbelow(1 << 16)
        message = dns_message.with_id(self._message, self._id)
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        kind = socket.SOCK_STREAM if self._by_tcp else socket.SOCK_DGRAM
        self._received = b""
        self._unsent = len(message).to_bytes(2, "big") + message if self._by_tcp else b""
        try:
            self._socket = socket.socket(family, kind | socket.SOCK_NONBLOCK)
            with contextlib.suppress(BlockingIOError):
                self._socket.connect(server)
            if not self._by_tcp:
                self._socket.send(message)
        except OSError:
            return False
        self._loop.watch(self._socket.fileno(), READ | WRITE if self._unsent else READ, self._on_ready)
        return True

    def _next(self) -> None:
        self.close()
        self.begin()

    def _on_ready(self, events: int) -> None:
        assert self._socket is not None
        try:
            if self._unsent and events & WRITE:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
                self._loop.watch(self._socket.fileno(), READ | WRITE if self._unsent else READ, self._on_ready)
            received = self._socket.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._next()
            return
        if not self._by_tcp:
            self._judge(received)
            return
        self._received += received
        size = int.from_bytes(self._received[:2], "big") + 2
        if len(self._received) >= max(size, 2):
            self._judge(self._received[2:size])
        if not received and self._socket is not None:
            self._next()

    # Anything but the answer to the question is somebody's guess.
    def _judge(self, message: bytes) -> None:
        response = dns_message.read_response(message)
        if response is None or (response.id, response.name, response.kind) != (self._id, self._query.name, self._query.kind):
            return
        self._finish(dns_message.with_id(message, self._query.id))

    def _finish(self, answer: bytes) -> None:
        self.close()
        self._done(self, answer)


def hosts_entries(text: str) -> list[tuple[bytes, frozenset[str]]]:
    """hosts(5): packed addresses and their canonical names."""
    entries = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        ip = dns_message.is_address(words[0]) if len(words) > 1 else None
        if ip is not None:
            entries.append((ip, frozenset(word.lower().removesuffix(".") for word in words[1:])))
    return entries


def search_domains(text: str) -> tuple[str, ...]:
    """resolv.conf(5): the domains of the last `search` or `domain` line, canonical."""
    domains: tuple[str, ...] = ()
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] in ("search", "domain"):
            domains = tuple(word.lower().strip(".") for word in words[1:])
    return domains


def _text_of(file: Path) -> str:
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            return stream.read(1 << 20)
    except OSError:
        return ""
