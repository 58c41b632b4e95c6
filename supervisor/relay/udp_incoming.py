"""Datagrams for the pod that the tracee receives: subscribed in the pod, sent again here on loopback.

`ReceiveUdp` names a bound UDP socket of the tracee; its pod port is subscribed as long as at least one such socket is
there. Each peer that sends to the pod's port is played by a loopback socket of the relay, which the address table names
before the tracee can see anything from it; the tracer reads there whom the tracee hears. What the tracee sends to that
socket goes back through the same stream and so leaves from the pod's port.

A server may have any number of peers, each for one question (a name server has), so these sockets are let go when they
have been idle for a while or are too many. Like every UDP path this one may drop.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from ...agent.pump.loop import READ, Loop, Timer
from ...agent.pump.session import Session
from ...agent.wire.errors import LocalProtocolError
from ...agent.wire.frames import pack_datagram, unpack_datagram
from ...agent.wire.messages import Address, Done, Failed, Message, SubscribeUdp
from ...syscalls.requests import ReceiveUdp
from .addresses import ANY_PORT, AddressTable
from .loopback import family_of, loopback_of, sockaddr, unmapped
from .watch import SocketWatch

SUBSCRIBE_DEADLINE_S = 30.0
IDLE_PEER_S = 110.0
"""A little less than the agent can answer a peer from the pod's port: afterwards the outgoing rules are the better way."""

SWEEP_S = 10.0

MAX_PEERS = 1024
"""Peers of one port: beyond, the one unused for longest is dropped."""

_MAX_BATCH = 64  # datagrams of one socket before the others have their turn

Clock = Callable[[], float]
Reply = Callable[[Message], None]


# The loopback socket that plays one peer towards the tracee's sockets of one port.
@dataclass
class _Peer:
    socket: socket.socket
    port: int
    used_at: float


# A pod port that is or will be subscribed, on `stream`.
@dataclass
class _Port:
    stream: int
    mirror: bool
    sockets: dict[int, Address] = field(default_factory=dict)  # inode -> where it is bound
    subscribed: bool = False
    waiting: list[Reply] = field(default_factory=list)
    peers: dict[Address, _Peer] = field(default_factory=dict)  # the longest unused first


class UdpIncoming:
    """All subscribed UDP ports of one session."""

    def __init__(
        self,
        loop: Loop,
        session: Session,
        table: AddressTable,
        *,
        clock: Clock = time.monotonic,
        watch: SocketWatch | None = None,
    ) -> None:
        self._loop = loop
        self._session = session
        self._table = table
        self._clock = clock
        self._watch = watch
        self._ports: dict[int, _Port] = {}
        self._timer: Timer | None = None

    def receive(self, request: ReceiveUdp, reply: Reply) -> None:
        """Subscribe the port, unless that has been done; `reply` gets Done or the agent's Failed."""
        port = self._ports.get(request.port)
        if port is None:
            try:
                port = _Port(self._session.new_stream(), request.mirror)
            except LocalProtocolError:  # as many as the protocol has
                reply(Failed(errno.ENOBUFS, "too many streams"))
                return
            self._ports[request.port] = port
        port.sockets[request.inode] = request.local
        self._watched().add(request.inode, request.local.port)
        if port.subscribed:
            reply(Done())
            return
        port.waiting.append(reply)
        if len(port.waiting) == 1:
            wanted = SubscribeUdp(request.port, request.mirror, port.stream)
            self._session.request(wanted, lambda message: self._on_reply(request.port, port, message), SUBSCRIBE_DEADLINE_S)

    def close(self) -> None:
        """Give all ports back."""
        for number in list(self._ports):
            self._give_back(number)
        if self._watch is not None:
            self._watch.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def sweep(self) -> None:
        """Let go of peers that have been idle for long."""
        for port in self._ports.values():
            for address, peer in list(port.peers.items()):
                if self._clock() - peer.used_at < IDLE_PEER_S:
                    break
                self._drop(port, address)

    # Most programs receive nothing, and a watch is told of every UDP socket of the machine that goes.
    def _watched(self) -> SocketWatch:
        if self._watch is None:
            self._watch = SocketWatch(self._loop, self._on_gone, "udp")
        return self._watch

    def _on_reply(self, number: int, port: _Port, message: Message) -> None:
        waiting, port.waiting = port.waiting, []
        if self._ports.get(number) is not port:  # closed meanwhile
            self._session.reset(port.stream, 0)
        elif not isinstance(message, Done):
            self._session.reset(port.stream, 0)
            self._forget(number)
        else:
            port.subscribed = True
            self._session.datagrams(
                port.stream, lambda datagram: self._from_pod(port, datagram), lambda _: self._on_end(number, port)
            )
            if not port.sockets:
                self._give_back(number)
            elif self._timer is None:
                self._timer = self._loop.call_later(SWEEP_S, self._on_timer)
        for reply in waiting:
            reply(message)

    def _on_end(self, number: int, port: _Port) -> None:
        if self._ports.get(number) is port:
            self._forget(number)

    def _on_gone(self, inode: int) -> None:
        for number, port in list(self._ports.items()):
            if port.sockets.pop(inode, None) is not None and not port.sockets and port.subscribed:
                self._give_back(number)

    def _on_timer(self) -> None:
        self._timer = None
        self.sweep()
        if self._ports:
            self._timer = self._loop.call_later(SWEEP_S, self._on_timer)

    # The end of the stream is the end of the subscription.
    def _give_back(self, number: int) -> None:
        port = self._ports[number]
        self._forget(number)
        if port.subscribed:
            self._session.reset(port.stream, 0)

    def _forget(self, number: int) -> None:
        port = self._ports.pop(number)
        for inode in port.sockets:
            self._watched().remove(inode)
        for address in list(port.peers):
            self._drop(port, address)

    # -- datagrams ----------------------------------------------------------------------------------------------------

    def _from_pod(self, port: _Port, datagram: bytes) -> None:
        address, content = unpack_datagram(datagram)
        address = unmapped(address)
        target = next((local for local in port.sockets.values() if _reaches(address, local)), None)
        peer = self._peer(port, address) if target is not None else None
        if target is not None and peer is not None:
            # At the unspecified address the tracee is reached on loopback of the peer's family.
            place = target if any(target.ip) else Address(bytes(len(address.ip)), target.port)
            with contextlib.suppress(OSError):  # the tracee's socket is full or gone: a datagram is lost
                peer.socket.sendto(content, sockaddr(place))

    def _peer(self, port: _Port, address: Address) -> _Peer | None:
        peer = port.peers.pop(address, None)
        if peer is None:
            while len(port.peers) >= MAX_PEERS:
                self._drop(port, next(iter(port.peers)))
            peer = self._new_peer(port, address)
            if peer is None:
                return None
        peer.used_at = self._clock()
        port.peers[address] = peer
        return peer

    def _new_peer(self, port: _Port, address: Address) -> _Peer | None:
        family = family_of(address)
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError:
            return None
        try:
            sock.setblocking(False)
            sock.bind((loopback_of(family), 0))
        except OSError:
            sock.close()
            return None
        number = int(sock.getsockname()[1])
        self._table.register(family == socket.AF_INET6, number, ANY_PORT, address, Address(bytes(len(address.ip)), 0))
        self._loop.watch(sock.fileno(), READ, lambda _: self._from_tracee(port, address))
        return _Peer(sock, number, self._clock())

    def _from_tracee(self, port: _Port, address: Address) -> None:
        peer = port.peers.pop(address)
        peer.used_at = self._clock()
        port.peers[address] = peer
        for _ in range(_MAX_BATCH):
            try:
                content = peer.socket.recv(65535)
            except OSError:  # none left; or an ICMP error for something sent before
                break
            # Answers to mirrored traffic are nobody's.
            if not port.mirror:
                self._session.send_datagram(port.stream, pack_datagram(address, content))

    def _drop(self, port: _Port, address: Address) -> None:
        peer = port.peers.pop(address)
        self._loop.unwatch(peer.socket.fileno())
        self._table.clear(peer.socket.family == socket.AF_INET6, peer.port)
        peer.socket.close()


# A socket bound to :: has IPv4 peers as well, unless IPV6_V6ONLY is set, which cannot be seen from here.
def _reaches(peer: Address, local: Address) -> bool:
    return len(peer.ip) == len(local.ip) or (len(local.ip) == 16 and not any(local.ip))
