"""Connections for the pod that the tracee accepts: stolen or mirrored in the pod, made again here on loopback.

`Listen` names a listening socket of the tracee; its pod port is subscribed as long as at least one such socket is there
(SO_REUSEPORT workers and IPv4/IPv6 pairs have several). For each connection that comes the relay connects to the tracee's
listener from a loopback socket, whose port is registered in the address table first, so that accept4 and getpeername
tell the pod's peer. Of a mirrored connection nothing here is different: the agent drops what the tracee answers.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from dataclasses import dataclass, field

from ...agent.pump.loop import WRITE, Loop
from ...agent.pump.session import Session
from ...agent.wire.messages import Address, Done, Incoming, Message, Subscribe, Unsubscribe
from ...syscalls.requests import Listen
from .addresses import AddressTable
from .loopback import family_of, loopback_of, sockaddr
from .report import say
from .watch import SocketWatch

SUBSCRIBE_DEADLINE_S = 30.0


# A pod port that is or will be subscribed.
@dataclass
class _Port:
    listeners: dict[int, Address] = field(default_factory=dict)  # inode -> where it listens
    subscribed: bool = False
    waiting: list[Callable[[Message], None]] = field(default_factory=list)  # for the reply to Subscribe


class IncomingTraffic:
    """All subscribed ports and their connections of one session."""

    def __init__(self, loop: Loop, session: Session, table: AddressTable, watch: SocketWatch | None = None) -> None:
        self._loop = loop
        self._session = session
        self._table = table
        self._watch = watch or SocketWatch(loop, self._on_gone)
        self._ports: dict[int, _Port] = {}
        self._connecting: set[socket.socket] = set()
        self._is_closed = False

    def listen(self, request: Listen, reply: Callable[[Message], None]) -> None:
        """Subscribe the port, unless that has been done; `reply` gets Done or the agent's Failed."""
        port = self._ports.setdefault(request.port, _Port())
        port.listeners[request.inode] = request.local
        self._watch.add(request.inode, request.local.port, by_port=request.multipath)
        if port.subscribed:
            reply(Done())
            return
        port.waiting.append(reply)
        if len(port.waiting) == 1:
            number = request.port
            wanted = Subscribe(number, request.mirror, request.rules, request.flush)
            self._session.request(wanted, lambda message: self._on_reply(number, message), SUBSCRIBE_DEADLINE_S)

    def accept(self, notice: Incoming) -> None:
        """Connect one to the tracee's listener; reset it if nobody listens any more."""
        port = self._ports.get(notice.port)
        if port is None or not port.listeners:
            self._session.reset(notice.stream, errno.ECONNREFUSED)
            return
        self._try(notice, list(_targets(port, notice.peer)))

    def close(self) -> None:
        """Give up what is being connected; the agent gives all ports back when the session ends."""
        self._is_closed = True
        self._watch.close()
        for sock in self._connecting:
            self._loop.unwatch(sock.fileno())
            sock.close()
        self._connecting.clear()

    def _on_reply(self, number: int, message: Message) -> None:
        port = self._ports[number]
        port.subscribed = isinstance(message, Done)
        waiting, port.waiting = port.waiting, []
        if not port.subscribed:
            del self._ports[number]
            for inode in port.listeners:
                self._watch.remove(inode)
        elif not port.listeners:
            self._give_back(number)
        for reply in waiting:
            reply(message)

    def _on_gone(self, inode: int) -> None:
        for number, port in list(self._ports.items()):
            if port.listeners.pop(inode, None) is not None and not port.listeners and port.subscribed:
                self._give_back(number)

    def _give_back(self, number: int) -> None:
        del self._ports[number]

        def on_given_back(message: Message) -> None:
            # An answer that the end of the session was faster than is none to worry about.
            if not isinstance(message, Done) and not self._is_closed:
                say(f"the agent did not give port {number} back to the pod: {getattr(message, 'text', '') or message}")

        self._session.request(Unsubscribe(number), on_given_back, SUBSCRIBE_DEADLINE_S)

    # Try the addresses in turn; the last one's errno goes to the pod.
    def _try(self, notice: Incoming, targets: list[Address]) -> None:
        target = targets.pop(0)
        family = family_of(target)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            sock.bind((loopback_of(family), 0))
        except OSError as error:  # every port of loopback is in use
            self._refused(notice, targets, sock, error.errno or errno.EADDRINUSE)
            return
        self._register(sock, target.port, notice)
        number = sock.connect_ex(sockaddr(target))
        if number == errno.EINPROGRESS:
            self._connecting.add(sock)
            self._loop.watch(sock.fileno(), WRITE, lambda _: self._on_ready(notice, targets, sock))
        elif number:
            self._refused(notice, targets, sock, number)
        else:
            self._bridge(notice, sock)

    def _on_ready(self, notice: Incoming, targets: list[Address], sock: socket.socket) -> None:
        self._loop.unwatch(sock.fileno())
        self._connecting.discard(sock)
        number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._refused(notice, targets, sock, number)
        else:
            self._bridge(notice, sock)

    def _refused(self, notice: Incoming, targets: list[Address], sock: socket.socket, number: int) -> None:
        self._forget(sock.family, sock.getsockname()[1])
        sock.close()
        if targets:
            self._try(notice, targets)
            return
        self._session.reset(notice.stream, number)
        self._watch.check()

    def _bridge(self, notice: Incoming, sock: socket.socket) -> None:
        family, port = sock.family, sock.getsockname()[1]
        self._session.bridge(notice.stream, sock, lambda _: self._forget(family, port))

    def _register(self, sock: socket.socket, tracee_port: int, notice: Incoming) -> None:
        ipv6 = sock.family == socket.AF_INET6
        self._table.register(ipv6, sock.getsockname()[1], tracee_port, notice.peer, notice.local)

    def _forget(self, family: int, port: int) -> None:
        if port:
            self._table.clear(family == socket.AF_INET6, port)


# Where to try to reach the listeners of a port for this peer, the best first. A socket bound to :: takes IPv4 too unless
# IPV6_V6ONLY is set, which cannot be seen from here: an IPv4 peer tries 127.0.0.1 first, then ::1.
def _targets(port: _Port, peer: Address) -> list[Address]:
    found: list[Address] = []
    for local in port.listeners.values():
        if any(local.ip) or len(local.ip) == 4:
            found.append(local)
        else:
            found += [Address(bytes(4), local.port), Address(bytes(16), local.port)]
    found.sort(key=lambda target: family_of(target) != family_of(peer))
    return list(dict.fromkeys(found))
