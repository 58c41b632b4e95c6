"""Agents of one pod tell each other who is behind the connections that they pass on.

A connection that goes through several agents reaches the second from an address of the pod itself. So whoever passes one on
binds its socket first and tells all other agents: what comes from this port is really that peer's. The news is in
their sockets before the connection can be, so they need not wait for it: they look when they accept.

The way is a unix socket between each two agents, whose listener has the agent's name. Sequenced packets rather than datagrams,
of which the kernel would hold no more than ten. A newcomer connects to all that it finds; it does so before its first rule,
so that nobody can pass anything on to it without knowing it.
"""

from __future__ import annotations

import contextlib
import re
import socket
import struct
import time
from typing import Dict, List, Optional, Tuple

from ..claims import PREFIX, claim, claimed
from ..pump.loop import READ, Loop
from ..wire.messages import Address

_NAME = re.compile(PREFIX + "[0-9a-f]{6}")
_HEADER = struct.Struct("!BHHB")
_MOST_BYTES = 64
_SO_SNDBUFFORCE = 32
_QUEUE_BYTES = 4 << 20
_BACKLOG = 128
# The connection follows its introduction at once. Older ones belong to connections that went to somebody else.
_KEPT_S = 20.0
_SWEEP_AT = 8192


class Introductions:
    """One agent's part. Claims `name`, the agent's, as its sign of life (redirect.py). OSError EADDRINUSE: it is taken.

    All of it belongs to the loop's thread, but `close`.
    """

    def __init__(self, loop: Loop, name: str) -> None:
        self._loop = loop
        self._name = name
        self._others: List[socket.socket] = []
        # (length of the ip, port) -> who that is, and when it was said.
        self._known: Dict[Tuple[int, int], Tuple[Address, float]] = {}
        self._claim = claim(name)
        self._listener = socket.socket(socket.AF_UNIX, _KIND)
        try:
            self._listener.bind("\0" + name)
            self._listener.listen(_BACKLOG)
        except OSError:
            self._listener.close()
            self._claim.close()
            raise
        loop.watch(self._listener.fileno(), READ, lambda mask: self._look())

    def join(self) -> None:
        """Get to know all agents that are there now."""
        for name in claimed(PREFIX):
            if name == self._name or not _NAME.fullmatch(name):
                continue
            sock = socket.socket(socket.AF_UNIX, _KIND)
            try:
                sock.connect("\0" + name)
            except OSError:
                sock.close()  # it has ended, or the name is something else's
                continue
            self._add(sock)

    def introduce(self, sock: socket.socket, peer: Address) -> None:
        """Before `sock` connects: tell the other agents that it speaks for `peer`. Binds it, unless there are none."""
        self._look_for_newcomers()
        if not self._others:
            return
        # Without SO_REUSEADDR a port would be of no use for a minute after each connection.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("", 0))
        length = 4 if sock.family == socket.AF_INET else 16
        said = _HEADER.pack(length, sock.getsockname()[1], peer.port, len(peer.ip)) + peer.ip
        for other in list(self._others):
            try:
                other.send(said)
            except BlockingIOError:
                pass  # it is far behind; it will see our address
            except OSError:
                self._remove(other)

    def true_peer(self, peer: Address, wanted: Address) -> Address:
        """Who is behind an accepted connection: `peer`, unless an agent has said otherwise."""
        if not (peer.ip == wanted.ip or _is_loopback(peer.ip)):
            return peer
        self._look()
        known = self._known.pop((len(peer.ip), peer.port), None)
        return known[0] if known is not None and time.monotonic() - known[1] < _KEPT_S else peer

    def close(self) -> None:
        """Give the name back."""
        for sock in [self._listener, *self._others]:
            self._loop.unwatch(sock.fileno())
            sock.close()
        self._others.clear()
        self._claim.close()

    # All that has been said up to now.
    def _look(self) -> None:
        self._look_for_newcomers()
        for other in list(self._others):
            self._listen_to(other)

    def _look_for_newcomers(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.setblocking(False)
                self._add(sock)

    def _add(self, sock: socket.socket) -> None:
        # Without the right to a longer queue the usual one will do.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _QUEUE_BYTES)
        self._others.append(sock)
        self._loop.watch(sock.fileno(), READ, lambda mask: self._listen_to(sock))

    def _remove(self, sock: socket.socket) -> None:
        if sock in self._others:
            self._others.remove(sock)
            self._loop.unwatch(sock.fileno())
            sock.close()

    def _listen_to(self, sock: socket.socket) -> None:
        while True:
            try:
                said = sock.recv(_MOST_BYTES)
            except BlockingIOError:
                return
            except OSError:
                said = b""
            if not said:
                self._remove(sock)
                return
            told = _parse(said)
            if told is not None:
                self._note(*told)

    def _note(self, key: Tuple[int, int], peer: Address) -> None:
        now = time.monotonic()
        if len(self._known) >= _SWEEP_AT:
            self._known = {key: known for key, known in self._known.items() if now - known[1] < _KEPT_S}
        if len(self._known) < 2 * _SWEEP_AT:
            self._known[key] = (peer, now)


_KIND = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC


def _parse(said: bytes) -> Optional[Tuple[Tuple[int, int], Address]]:
    if len(said) < _HEADER.size:
        return None
    length, port, peer_port, peer_length = _HEADER.unpack_from(said)
    ip = said[_HEADER.size :]
    if len(ip) != peer_length or peer_length not in (4, 16):
        return None
    return (length, port), Address(ip, peer_port)


def _is_loopback(ip: bytes) -> bool:
    return ip[0] == 127 if len(ip) == 4 else ip == bytes(15) + b"\1"
