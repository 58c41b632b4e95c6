"""The internet sockets that processes have when they are attached.

They stay as they are. But they have to be known: what a program sends to its own listener stays on this machine, and a
datagram socket may send to somebody new at any time, also by sendmsg(2), which stops only where there is such a socket.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field

from ...syscalls.net.sockets import Listener, Sockets
from ..tracer.tree import Tree

SENDING = frozenset({"sendmsg", "sendmmsg"})

_LISTEN = b"0A"
_SOCKET = "socket:["
_RING = "anon_inode:[io_uring]"


@dataclass
class Existing:
    """inode -> port: TCP sockets that listen; UDP sockets, with port 0 for those that have none yet."""

    listeners: dict[int, int] = field(default_factory=dict)
    datagrams: dict[int, int] = field(default_factory=dict)


def adopt(sockets: Sockets, tree: Tree) -> None:
    """Make the sockets of all processes of the tree known; again after further ones have been found."""
    existing = existing_sockets()
    for tgid, process in {tracee.tgid: tracee.process for tracee in tree.tracees.values()}.items():
        own = inodes_of(tgid)
        if not own.isdisjoint(existing.datagrams):
            process.traps |= SENDING
        for inode in own & existing.listeners.keys():
            port = existing.listeners[inode]
            sockets.listeners.setdefault(inode, Listener(port, port))
        for inode in own & existing.datagrams.keys():
            if existing.datagrams[inode]:
                sockets.own_datagrams.setdefault(inode, existing.datagrams[inode])


def existing_sockets(folder: str = "/proc/self/net") -> Existing:
    """Those of this network namespace."""
    existing = Existing()
    for name in ("tcp", "tcp6"):
        for fields in _lines(f"{folder}/{name}"):
            if fields[3] == _LISTEN:
                existing.listeners[int(fields[9])] = _port(fields[1])
    for name in ("udp", "udp6"):
        for fields in _lines(f"{folder}/{name}"):
            existing.datagrams[int(fields[9])] = _port(fields[1])
    return existing


def inodes_of(pid: int) -> set[int]:
    """Of the sockets that a process has open; threads with descriptors of their own are not looked at."""
    return {int(link[len(_SOCKET) : -1]) for link in _links(pid) if link.startswith(_SOCKET)}


def has_ring(pid: int) -> bool:
    """Whether a process has an io_uring, whose requests no tracer sees."""
    return _RING in _links(pid)


def _links(pid: int) -> list[str]:
    found = []
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):
                found.append(os.readlink(f"{folder}/{name}"))
    return found


def _lines(path: str) -> Iterable[list[bytes]]:
    with contextlib.suppress(OSError), open(path, "rb") as table:
        next(table, None)
        for line in table:
            fields = line.split()
            if len(fields) >= 10:
                yield fields


def _port(address: bytes) -> int:
    return int(address.rpartition(b":")[2], 16)
