"""Datagrams between the tracee's UDP sockets and the pod.

The tracee keeps its own socket. Each peer in the pod's network is played by a loopback socket of the relay (`UdpPeer`):
what the tracee sends to it leaves from the pod to that peer, what the peer answers comes from it. So the tracee's
kernel matches the answers of a connected socket, and the address table tells recvfrom who spoke. All peers of one tracee
socket share one socket in the pod, one for each address family.

A datagram from a peer to which the tracee has not sent (a TFTP server answers from another port) gets a loopback socket
when it comes. Like every UDP path this one may drop: when the stream has no credit, when the tracee does not read, when
the pod has no such address family.

Datagrams to port 53 are name queries, which dns.py may answer in the pod's stead. Echo requests (icmp(7)) go the same ways:
the tracee has a UDP socket for them, too, whose port is the identifier that it finds in the replies.

When the pod reports that a peer refuses datagrams (ICMP port unreachable), its loopback socket is closed and the tracer told
(`PeerRefused`): the tracee's kernel then refuses by itself, until the tracer hands over another loopback socket.

An idle pod socket is closed; the next datagram opens another, with another port, as behind any NAT. The loopback sockets
live as long as the tracee's: their ports are what the tracee sends to.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable

from ...agent.pump.loop import READ, Loop, Timer
from ...agent.pump.session import Session
from ...agent.wire.frames import pack_datagram, unpack_datagram
from ...agent.wire.messages import Address, DatagramFailed, Message, OpenPing, OpenUdp
from ...syscalls.requests import PeerRefused, UdpPeer
from .addresses import ANY_PORT, AddressTable
from .dns import Dns, is_name_server
from .echo import with_identifier
from .loopback import family_of, loopback_of, packed, unmapped
from .pod_socket import PodSocket
from .watch import udp_ports

IDLE_POD_SOCKET_S = 120.0
SWEEP_S = 2.0
"""Between looks whether the tracee's sockets are still there."""

MAX_ASSOCIATIONS = 512
MAX_PEERS = 256
"""Tracee sockets, and peers of one of them: beyond, the longest unused is dropped."""

_GRACE_S = 2.0  # for a tracee socket that is about to send its first datagram, or to connect
_MAX_BATCH = 64  # datagrams of one socket before the others have their turn
_RECEIVE_BUFFER = 1024 * 1024  # the kernel gives what it allows
_MAX_DATAGRAM = 65536

Clock = Callable[[], float]


class UdpTraffic:
    """All UDP of one session."""

    def __init__(
        self,
        loop: Loop,
        session: Session,
        table: AddressTable,
        dns: Dns,
        tell: Callable[[Message], None],
        *,
        clock: Clock = time.monotonic,
        ports: Callable[[], set[tuple[int, int]]] = udp_ports,
    ) -> None:
        self._loop = loop
        self._session = session
        self._table = table
        self._dns = dns
        self._tell = tell
        self._clock = clock
        self._ports = ports
        self._associations: dict[int, _Association] = {}  # the longest unused first
        self._timer: Timer | None = None

    def add(self, request: UdpPeer, fd: int) -> None:
        """The loopback socket `fd` (owned from now on) is `request.peer` for the tracee's socket `request.key`."""
        association = self._associations.pop(request.key, None)
        if association is None:
            self._make_room()
            association = _Association(self._loop, self._session, self._table, self._dns, request, self._clock)
        self._associations[request.key] = association
        association.add(request.peer, socket.socket(fileno=fd))
        if self._timer is None:
            self._timer = self._loop.call_later(SWEEP_S, self._on_timer)

    def failed(self, report: DatagramFailed) -> None:
        """The pod's kernel reports what became of a datagram. Other errnos than ECONNREFUSED are for sockets that ask."""
        if report.errno != errno.ECONNREFUSED:
            return
        for key, association in self._associations.items():
            if association.uses(report.stream):
                peer = association.refuse(report.peer)
                if peer is not None:
                    self._tell(PeerRefused(key, peer))
                return

    def sweep(self) -> None:
        """Close what belongs to tracee sockets that are gone, and pod sockets that have been idle for long."""
        if not self._associations:
            return
        ports = self._ports()
        local_ports = {local for local, _ in ports}
        remote_ports = {remote for _, remote in ports}
        for key, association in list(self._associations.items()):
            if association.is_gone(local_ports, remote_ports):
                association.close()
                del self._associations[key]
            else:
                association.close_idle()

    def close(self) -> None:
        """Close everything."""
        for association in self._associations.values():
            association.close()
        self._associations.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        self.sweep()
        if self._associations:
            self._timer = self._loop.call_later(SWEEP_S, self._on_timer)

    def _make_room(self) -> None:
        if len(self._associations) >= MAX_ASSOCIATIONS:
            self.sweep()
        while len(self._associations) >= MAX_ASSOCIATIONS:
            oldest = min(self._associations, key=lambda key: self._associations[key].used_at)
            self._associations.pop(oldest).close()


# One socket of the tracee: its peers and its sockets in the pod.
class _Association:
    def __init__(self, loop: Loop, session: Session, table: AddressTable, dns: Dns, request: UdpPeer, clock: Clock) -> None:
        self.used_at = clock()
        self._loop = loop
        self._session = session
        self._table = table
        self._dns = dns
        self._is_echo = request.echo
        self._port = request.port
        self._clock = clock
        self._peers: dict[Address, _Peer] = {}  # the longest unused first
        self._pod_sockets: dict[socket.AddressFamily, PodSocket] = {}
        self._tracee: dict[socket.AddressFamily, tuple[str, int]] = {}  # how each family of our sockets sees it

    def add(self, peer: Address, sock: socket.socket) -> None:
        self.used_at = self._clock()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        self._drop(unmapped(peer))
        while len(self._peers) >= MAX_PEERS:
            self._drop(next(iter(self._peers)))
        self._peers[unmapped(peer)] = _Peer(sock, peer)
        self._register(self._peers[unmapped(peer)])
        self._loop.watch(sock.fileno(), READ, lambda _: self._from_tracee(unmapped(peer)))

    def uses(self, stream: int) -> bool:
        return any(pod_socket.stream == stream for pod_socket in self._pod_sockets.values())

    # The peer as the tracer knows it, or None if it is unknown here.
    def refuse(self, address: Address) -> Address | None:
        peer = self._peers.get(unmapped(address))
        if peer is None:
            return None
        self._from_tracee(unmapped(address))  # what came in between goes out; its refusal is a new one
        self._drop(unmapped(address))
        return peer.address

    def is_gone(self, local_ports: set[int], remote_ports: set[int]) -> bool:
        if any(address[1] in local_ports for address in self._tracee.values()):
            return False
        if any(peer.port in remote_ports for peer in self._peers.values()):
            return False
        return self._clock() - self.used_at >= _GRACE_S

    def close_idle(self) -> None:
        for family, pod_socket in list(self._pod_sockets.items()):
            if self._clock() - pod_socket.used_at >= IDLE_POD_SOCKET_S:
                pod_socket.close()
                del self._pod_sockets[family]

    def close(self) -> None:
        for peer in list(self._peers):
            self._drop(peer)
        for pod_socket in self._pod_sockets.values():
            pod_socket.close()
        self._pod_sockets.clear()

    def _from_tracee(self, address: Address) -> None:
        peer = self._peers.pop(address)
        self._peers[address] = peer
        self.used_at = self._clock()
        for _ in range(_MAX_BATCH):
            try:
                content, tracee = peer.socket.recvfrom(_MAX_DATAGRAM)
            except OSError:  # none left; or an ICMP error for something sent before
                break
            self._tracee[peer.socket.family] = tracee
            if is_name_server(address.port) and self._ask(peer, content, tracee):
                continue
            self._pod_socket(family_of(address)).send(pack_datagram(address, content))

    # Whether the query of the tracee is, or will be, answered here.
    def _ask(self, peer: _Peer, content: bytes, tracee: tuple[str, int]) -> bool:
        def reply(answer: bytes) -> None:
            if peer.socket.fileno() >= 0:
                with contextlib.suppress(OSError):
                    peer.socket.sendto(answer, tracee)

        return self._dns.ask(self, peer.address, content, reply)

    def _from_pod(self, datagram: bytes) -> None:
        address, content = unpack_datagram(datagram)
        address = unmapped(address)
        peer = self._peers.get(address) or self._unexpected(address)
        tracee = self._tracee.get(peer.socket.family) if peer is not None else None
        if peer is None or tracee is None:
            return
        self.used_at = self._clock()
        if is_name_server(address.port):
            self._dns.answered(self, peer.address, content)
        elif self._is_echo:
            content = with_identifier(content, tracee[1], ipv6=len(address.ip) == 16)
        with contextlib.suppress(OSError):  # the tracee's socket is full or gone: a datagram is lost
            peer.socket.sendto(content, tracee)

    # A loopback socket for a peer that speaks first; None if the tracee's socket cannot be reached in that family.
    def _unexpected(self, address: Address) -> _Peer | None:
        family = family_of(address)
        if family not in self._tracee:
            return None
        try:
            sock = socket.socket(family, socket.SOCK_DGRAM)
        except OSError:
            return None
        try:
            sock.bind((loopback_of(family), 0))
        except OSError:
            sock.close()
            return None
        self.add(address, sock)
        return self._peers[address]

    def _pod_socket(self, family: socket.AddressFamily) -> PodSocket:
        pod_socket = self._pod_sockets.get(family)
        if pod_socket is None or pod_socket.is_over():
            version = 4 if family == socket.AF_INET else 6

            def opening(stream: int) -> Message:
                return OpenPing(stream, version) if self._is_echo else OpenUdp(stream, version, self._port)

            pod_socket = PodSocket(self._session, opening, self._from_pod, self._register_all, self._clock)
            self._pod_sockets[family] = pod_socket
        return pod_socket

    def _register_all(self) -> None:
        for peer in self._peers.values():
            self._register(peer)

    def _register(self, peer: _Peer) -> None:
        pod_socket = self._pod_sockets.get(family_of(peer.address))
        local = pod_socket.local if pod_socket is not None else None
        ipv6 = peer.socket.family == socket.AF_INET6
        self._table.register(ipv6, peer.port, ANY_PORT, peer.address, local or Address(bytes(len(peer.address.ip)), 0))

    def _drop(self, address: Address) -> None:
        peer = self._peers.pop(address, None)
        if peer is not None:
            self._loop.unwatch(peer.socket.fileno())
            self._table.clear(peer.socket.family == socket.AF_INET6, peer.port)
            peer.socket.close()


# The loopback socket that plays one peer.
class _Peer:
    def __init__(self, sock: socket.socket, address: Address) -> None:
        self.socket = sock
        self.address = address
        self.port = packed(sock.getsockname()[:2]).port
