"""What all handlers of one session share."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass, field
from typing import Protocol

from ..agent.wire.messages import Address, Pod
from .actions import Decision
from .known import Directories, KnownPaths, PathSet
from .mount import Mount
from .net.learnt import NameTable
from .net.links import KnownInterfaces
from .net.sockets import Sockets
from .objects import Objects
from .policy import Policy
from .task import RelayPort, Task

Args = tuple[int, int, int, int, int, int]
"""The six argument registers of a call, unsigned 64 bit."""


class AddressTable(Protocol):
    """Whom a loopback port of the relay stands for (supervisor/relay/addresses.py)."""

    def lookup(self, ipv6: bool, relay_port: int, tracee_port: int) -> tuple[Address, Address] | None:
        """(peer, pod's own address) of the relay socket bound to `relay_port` that talks to `tracee_port`, or None."""
        ...


class Doors(Protocol):
    """Ways into the mounted pod tree for programs that are somebody else than the supervisor (supervisor/tracer/doors.py)."""

    def prefix(self, task: Task) -> bytes:
        """What has to be put before a pod path for this task: `Mount.prefix` unless it is known to need a door."""
        ...

    def other(self, task: Task) -> bytes:
        """Another prefix for a task that was refused with the one of `prefix`, good from now on; empty if there is none."""
        ...


@dataclass
class Context:
    """One session: decisions, remote objects, the pod, and the ways to the relay and to the user.

    `notice(key, text)` prints a line for the user, once for each key. `port_holder("tcp" or "udp", port)` names who has a
    port of this machine, "" if that cannot be told. `listener4_port`, `listener6_port`: the relay's
    full listeners on 127.0.0.1 and ::1 (0: that family is not to be had on this machine). `local_reads` and
    `local_writes` remember the absolute paths, as written by the tracee, that policy left to the kernel (bounded; kept
    by syscalls/files/place.py): such a call costs one look-up. `routes_port`: nl_pid of the relay's netlink socket, or 0.
    `interfaces`: the pod's, as last seen. `mount`: the pod's files, if they are mounted; without it they are copied.
    `plain_paths`: relative paths on which no link of this machine to the pod was found, when they were first used.
    `directories`: absolute ones without a link, as crossing.py has found them a moment ago.
    `local_addresses`: whole sockaddrs that are this machine's whatever socket connects to them (net/local_addresses.py).
    `has_views`: a call was made by which a process may have come to a view of its own (views.py).
    `read_link`: the target of a symbolic link of this machine, b"" for any other file, None for none.
    """

    policy: Policy
    objects: Objects
    pod: Pod
    relay: RelayPort
    addresses: AddressTable
    listener4_port: int
    listener6_port: int
    notice: Callable[[str, str], None]
    port_holder: Callable[[str, int], str] = lambda protocol, port: ""
    routes_port: int = 0
    interfaces: KnownInterfaces = field(default_factory=KnownInterfaces)
    sockets: Sockets = field(default_factory=Sockets)
    local_reads: KnownPaths = field(default_factory=KnownPaths)
    local_writes: KnownPaths = field(default_factory=KnownPaths)
    plain_paths: PathSet = field(default_factory=PathSet)
    directories: Directories = field(default_factory=Directories)
    local_addresses: PathSet = field(default_factory=PathSet)
    names: NameTable = field(default_factory=NameTable)
    mount: Mount | None = None
    doors: Doors | None = None
    has_views: bool = False
    read_link: Callable[[bytes], bytes | None] = lambda path: None

    def outgoing(self, protocol: str, peer: Address, own_ports: Container[int]) -> Decision:
        """`Policy.outgoing`, with the names that the program has found `peer` by."""
        if not self.policy.wants_names:
            return self.policy.outgoing(protocol, peer, own_ports)
        self.relay.drain()  # the relay tells names before the program gets the answer that they come from
        return self.policy.outgoing(protocol, peer, own_ports, self.names.of(peer.ip))
