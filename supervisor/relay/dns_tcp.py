"""Name queries over TCP: a connection to port 53 of the pod's network, read on its way.

Between the program's connection and the stream to the pod, whole messages are taken out of both directions (each behind
its length, RFC 1035 4.2.2), so that they go the same ways as datagrams do: answered by this machine, from the cache, or
by the pod. What does not begin like a query is no DNS, and is copied blindly from then on.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable

from ...agent.pump.loop import READ, WRITE, Loop
from ...agent.pump.session import Session
from ...agent.wire.messages import Address
from .dns import Dns, is_name_server

_CHUNK = 65536
_MOST_UNSENT = 256 * 1024
_LONGEST_MESSAGE = 65535
_LEAST_BYTES = 14  # a length and a header
_OPENING = bytes((0, 1))  # one question


class NameConnections:
    """Joins the program's connections to streams: to port 53 by a `DnsConnection` of `connections`, all others directly."""

    def __init__(self, loop: Loop, session: Session, dns: Dns) -> None:
        self._loop = loop
        self._session = session
        self._dns = dns
        self.connections: set[DnsConnection] = set()

    def join(self, peer: Address, stream: int, sock: socket.socket) -> None:
        """Join a connected socket (owned) to the stream of the pod's connection to `peer`."""
        if not is_name_server(peer.port) or self._dns.is_idle:
            self._session.bridge(stream, sock)
            return
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        self._session.bridge(stream, theirs)
        self.connections.add(DnsConnection(self._loop, self._dns, peer, sock, ours, self.connections.discard))


# One end: what is to be written to it, and what has been read and is not a whole message yet.
class _End:
    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.unsent = bytearray()
        self.partial = bytearray()
        self.eof = False
        self.eof_wanted = False
        self.eof_sent = False


class DnsConnection:
    """Joins `program` (the program's connection) to `pod` (what goes to the stream). Owns both; `on_end` when it is over."""

    def __init__(
        self,
        loop: Loop,
        dns: Dns,
        server: Hashable,
        program: socket.socket,
        pod: socket.socket,
        on_end: Callable[[DnsConnection], None],
    ) -> None:
        self._loop = loop
        self._dns = dns
        self._server = server
        self._on_end = on_end
        self._blind = False
        self._begun = False
        self._asked_here = 0
        self._over = False
        self._program, self._pod = _End(program), _End(pod)
        for end in (self._program, self._pod):
            end.socket.setblocking(False)
        self._update()

    def close(self) -> None:
        """Close both ends."""
        if self._over:
            return
        self._over = True
        for end in (self._program, self._pod):
            self._loop.unwatch(end.socket.fileno())
            end.socket.close()
        self._on_end(self)

    def _update(self) -> None:
        for end, other in ((self._program, self._pod), (self._pod, self._program)):
            if self._over:
                return
            readable = not end.eof and len(other.unsent) < _MOST_UNSENT and len(self._program.unsent) < _MOST_UNSENT
            if end.eof_wanted and not end.unsent and not end.eof_sent:
                end.eof_sent = True
                if not _shut(end.socket):
                    self.close()
                    return
            events = (READ if readable else 0) | (WRITE if end.unsent else 0)
            if events:
                self._loop.watch(end.socket.fileno(), events, lambda mask, end=end: self._on_ready(end, mask))  # type: ignore[misc]
            else:
                self._loop.unwatch(end.socket.fileno())
        if self._program.eof_sent and self._pod.eof_sent:
            self.close()

    def _on_ready(self, end: _End, mask: int) -> None:
        try:
            if mask & WRITE and end.unsent:
                del end.unsent[: end.socket.send(end.unsent)]
            if mask & READ and not end.eof:
                received = end.socket.recv(_CHUNK)
                end.eof = not received
                end.partial += received
                self._take(end)
        except BlockingIOError:
            pass
        except OSError:
            self._reset()
            return
        self._update()

    def _take(self, end: _End) -> None:
        if end is self._program:
            self._begun = True
            self._blind = self._blind or _is_no_query(end.partial)
        elif not self._begun:
            self._blind = True  # a name server never speaks first
        other = self._pod if end is self._program else self._program
        while not self._blind and len(end.partial) >= 2:
            size = 2 + int.from_bytes(end.partial[:2], "big")
            if len(end.partial) < size:
                break
            message = bytes(end.partial[2:size])
            del end.partial[:size]
            if end is self._program:
                self._query(message)
            else:
                self._dns.answered(self, self._server, message)
                _put(other, message)
        if self._blind or end.eof:
            other.unsent += end.partial
            end.partial.clear()
        if end.eof and (end is self._program or not self._asked_here):
            other.eof_wanted = True

    def _query(self, message: bytes) -> None:
        self._asked_here += 1
        if not self._dns.ask(self, self._server, message, self._answer, by_tcp=True):
            self._asked_here -= 1
            _put(self._pod, message)

    def _answer(self, message: bytes) -> None:
        self._asked_here -= 1
        if self._over:
            return
        _put(self._program, message)
        if self._pod.eof and not self._asked_here:
            self._program.eof_wanted = True
        self._loop.call_soon(self._update)

    # As the pod's connection ended, so ends the program's.
    def _reset(self) -> None:
        self._program.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()


def _put(end: _End, message: bytes) -> None:
    end.unsent += len(message).to_bytes(2, "big") + message


def _shut(sock: socket.socket) -> bool:
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        return False
    return True


def _is_no_query(begin: bytearray) -> bool:
    # Response flag and operation code 0, one question.
    return len(begin) >= _LEAST_BYTES and (bool(begin[4] & 0xF8) or bytes(begin[6:8]) != _OPENING)
