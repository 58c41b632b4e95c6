"""What this tool knows of the internet sockets of supervised programs, keyed by the socket's inode number.

The inode belongs to the open file, so dup, fork, exec and SCM_RIGHTS need no bookkeeping. Sockets that are closed leave
an entry behind until the next `sweep`; a new connect(2) on the same inode replaces it.
"""

from __future__ import annotations

from collections.abc import Collection, Container
from dataclasses import dataclass, field
from errno import ECONNABORTED

from ...agent.wire.messages import ANYWHERE, Address
from ..requests import Verdict
from .unix_peers import UnixPeers

PENDING = -1


@dataclass
class Connection:
    """A TCP socket that connects or is connected from the pod.

    `errno`: PENDING, 0, or the pod's errno; `told`: the application has seen that errno. `local` is the pod's address.
    `source` is what the program has bound the socket to: zeros and port 0 for what it left to the kernel.
    """

    key: int
    peer: Address
    errno: int = PENDING
    local: Address | None = None
    told: bool = False
    source: Address = ANYWHERE


@dataclass
class Peers:
    """Who has sent to one local port: the stand-in's port, or 0 for a peer on this machine. The last heard comes last."""

    MOST = 512
    """Half of what the relay keeps for a port, so that none of these has been dropped there."""

    ports: dict[Address, int] = field(default_factory=dict)

    def heard(self, peer: Address, port: int) -> None:
        """A datagram of `peer` has been received."""
        self.ports.pop(peer, None)
        if len(self.ports) >= self.MOST:
            del self.ports[next(iter(self.ports))]
        self.ports[peer] = port


@dataclass
class Datagrams:
    """A UDP socket that sends from the pod: which loopback port of the relay stands for which peer.

    `ports` holds the peers in the order of their last use; `peers` is its inverse by (IPv6, port).
    """

    MOST_PEERS = 128
    """Half of what the relay keeps for a socket, so that none of these has been dropped there."""

    key: int
    ports: dict[Address, int] = field(default_factory=dict)
    peers: dict[tuple[bool, int], Address] = field(default_factory=dict)
    connected: Address | None = None
    receiver: Peers | None = None
    """Of a socket that receives for the pod."""
    port: int = 0
    """The source port that the program has asked for, or 0."""
    echo: bool = False
    """For ICMP echo messages, each peer with port 0."""
    seen_at: tuple[int, int] = (0, -1)
    """Process and fd by which the socket was used last."""

    def use(self, peer: Address) -> int | None:
        """The port that stands for `peer`, which is being sent to; None if there is none yet."""
        port = self.ports.pop(peer, None)
        if port is not None:
            self.ports[peer] = port
        return port

    def forget(self, peer: Address) -> None:
        """Nothing stands for `peer` any more."""
        self.peers.pop((len(peer.ip) == 16, self.ports.pop(peer, 0)), None)

    def add(self, peer: Address, port: int) -> None:
        """`port` stands for `peer` from now on; the peer unused for longest makes room."""
        if len(self.ports) >= self.MOST_PEERS:
            oldest = next(iter(self.ports))
            self.peers.pop((len(oldest.ip) == 16, self.ports.pop(oldest)), None)
        key = len(peer.ip) == 16, port
        if key in self.peers:  # the relay has closed the socket that had this port before
            self.ports.pop(self.peers[key], None)
        self.ports[peer] = port
        self.peers[key] = peer


@dataclass
class Listener:
    """A TCP socket that listens for the pod: the port that was asked for, and the one it really has on this machine."""

    port: int
    local_port: int


@dataclass
class Routing:
    """A netlink socket that asks about the pod's interfaces: its real port id, the one that the program knows, its groups."""

    port: int
    known_as: int
    bound: bool = False
    groups: int = 0


class Sockets:
    """All of them. Falsy while there are none, so that name queries of purely local programs cost nothing."""

    _FIRST_SWEEP = 4096

    def __init__(self) -> None:
        self.connections: dict[int, Connection] = {}
        self.datagrams: dict[int, Datagrams] = {}
        self.own_datagrams: dict[int, int] = {}
        """Local ports of datagram sockets that were bound, or that sent to such a one."""
        self.source_ports: dict[int, int] = {}
        """Ports that bind(2) of datagram sockets was asked for."""
        self.listeners: dict[int, Listener] = {}
        self.names: dict[int, Address] = {}
        """What bind(2) was asked for, where the socket is really bound elsewhere."""
        self.floating: set[int] = set()
        """TCP sockets whose port the kernel has chosen at bind(2)."""
        self.moved: dict[tuple[str, Address], int] = {}
        """Which port a name got that this user may not have: kept, since it may be bound again."""
        self.receivers: dict[int, Peers] = {}
        """By the local port of UDP sockets that receive for the pod."""
        self.routing: dict[int, Routing] = {}
        self.unix = UnixPeers()
        self._by_key: dict[int, Connection] = {}
        self._next_key = 0
        self._sweep_at = self._FIRST_SWEEP

    def __bool__(self) -> bool:
        return bool(self.connections or self.datagrams or self.listeners or self.names or self.unix)

    @property
    def internet(self) -> bool:
        """Whether there is any internet socket that connects, listens or is sent to in another way than natively."""
        return bool(self.connections or self.datagrams or self.listeners or self.receivers or self.own_datagrams)

    def new_key(self) -> int:
        """A number for the relay that is never used again."""
        self._next_key += 1
        return self._next_key

    def begin(self, inode: int, peer: Address) -> Connection:
        """A connect(2) from the pod begins."""
        connection = Connection(self.new_key(), peer)
        self.forget(inode)
        self.connections[inode] = self._by_key[connection.key] = connection
        return connection

    def forget(self, inode: int) -> None:
        """The socket connects anew or is disconnected."""
        old = self.connections.pop(inode, None)
        if old is not None:
            self._by_key.pop(old.key, None)

    def disconnected(self, inode: int) -> None:
        """The socket is, or will be, no more connected; what it was bound to is still known."""
        old = self.connections.get(inode)
        if old is not None:
            self._by_key.pop(old.key, None)
            old.errno, old.told, old.local = ECONNABORTED, True, None

    def bound(self, inode: int, port: int) -> None:
        """bind(2) of a TCP socket was asked for `port`; 0 leaves it to the kernel."""
        if port:
            self.floating.discard(inode)
        else:
            self.floating.add(inode)

    def decided(self, verdict: Verdict) -> None:
        """The relay's verdict; of a connection that has been forgotten, nothing."""
        connection = self._by_key.get(verdict.key)
        if connection is not None:
            connection.errno = verdict.errno
            connection.local = verdict.local
            if not verdict.errno:
                connection.peer = verdict.peer

    @property
    def listening_ports(self) -> Container[int]:
        """Ports on which supervised programs listen for the pod, as they know them."""
        return {listener.port for listener in self.listeners.values()}

    def moved_listener(self, port: int) -> int:
        """The port that a listener really has which asked for `port` and did not get it; 0 if there is none."""
        moved = (one.local_port for one in self.listeners.values() if one.port == port != one.local_port)
        return next(moved, 0)

    @property
    def datagram_ports(self) -> Container[int]:
        """Ports of datagram sockets by which supervised programs talk to each other on this machine."""
        return self.own_datagrams.values()

    @property
    def wants_sweep(self) -> bool:
        """So many entries that the closed sockets among them should be dropped."""
        return self._count() >= self._sweep_at

    def _count(self) -> int:
        others = len(self.own_datagrams) + len(self.listeners) + len(self.names) + len(self.floating) + len(self.routing)
        return len(self.connections) + len(self.datagrams) + len(self.unix) + others

    def sweep(self, live: Collection[int]) -> None:
        """Drop what belongs to inodes other than `live`; the next sweep is due at twice what is left."""
        for inode in set(self.connections) - set(live):
            self.forget(inode)
        for table in (self.datagrams, self.own_datagrams, self.source_ports, self.listeners, self.names, self.routing):
            for inode in set(table) - set(live):
                del table[inode]
        self.floating.intersection_update(live)
        self.unix.sweep(live)
        self._sweep_at = max(self._FIRST_SWEEP, 2 * self._count())
