"""What all handlers of one session share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ..agent.wire.messages import Address, Pod
from .actions import Continue
from .net.sockets import Sockets
from .objects import Objects
from .policy import Policy
from .task import RelayPort

Args = tuple[int, int, int, int, int, int]
"""The six argument registers of a call, unsigned 64 bit."""


class AddressTable(Protocol):
    """Whom a loopback port of the relay stands for (supervisor/relay/addresses.py)."""

    def lookup(self, ipv6: bool, relay_port: int, tracee_port: int) -> tuple[Address, Address] | None:
        """(peer, pod's own address) of the relay socket bound to `relay_port` that talks to `tracee_port`, or None."""
        ...


@dataclass
class Context:
    """One session: decisions, remote objects, the pod, and the ways to the relay and to the user.

    `notice(key, text)` prints a line for the user, once for each key. `listener4_port`, `listener6_port`: the relay's
    full listeners on 127.0.0.1 and ::1 (0: that family is not to be had on this machine). `local_reads` and
    `local_writes` remember the absolute paths, as written by the tracee, that policy left to the kernel (bounded; kept
    by syscalls/files/place.py): such a call costs one look-up.
    """

    policy: Policy
    objects: Objects
    pod: Pod
    relay: RelayPort
    addresses: AddressTable
    listener4_port: int
    listener6_port: int
    notice: Callable[[str, str], None]
    sockets: Sockets = field(default_factory=Sockets)
    local_reads: dict[bytes, Continue] = field(default_factory=dict)
    local_writes: dict[bytes, Continue] = field(default_factory=dict)
