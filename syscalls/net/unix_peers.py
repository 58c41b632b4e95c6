"""Who is behind the unix sockets of ours that tracee sockets are connected or send to.

What the kernel says of a connected socket's peer, or of a sender, is the name of our socket: random, and never used
again. It leads to the name that the peer has in the pod. So reconnects, dup and SCM_RIGHTS need no book-keeping.
"""

from __future__ import annotations

import secrets
from collections.abc import Container, Iterable
from dataclasses import dataclass

NAME_BYTES = 26
"""With its family the address of a stand-in has 28 bytes, as many as that of IPv6: as much room as sendmmsg has for it."""

_PREFIX = b"\0mt-"


@dataclass(frozen=True)
class Peer:
    """A stand-in: towards the tracee's socket with inode `inode` our socket is `peer`, by sun_path in the pod.

    `path` is what the tracee asked for; `stream` what the relay knows it by.
    """

    inode: int
    path: bytes
    peer: bytes
    stream: int


class UnixPeers:
    """All stand-ins, by name. Falsy while there are none."""

    def __init__(self) -> None:
        self._peers: dict[bytes, Peer] = {}
        self._datagrams: dict[tuple[int, bytes], bytes] = {}
        self._names: dict[int, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._peers)

    def __contains__(self, inode: int) -> bool:
        """Whether the socket with this inode has, or had, a peer in the pod."""
        return inode in self._names

    def add(self, name: bytes, peer: Peer, *, datagrams: bool) -> None:
        """A stand-in has been made. `datagrams`: it takes what is sent to `peer.path` from now on."""
        self._peers[name] = peer
        self._names.setdefault(peer.inode, []).append(name)
        if datagrams:
            self._datagrams[peer.inode, peer.path] = name

    def get(self, name: bytes) -> Peer | None:
        """Who is behind this name of the kernel's."""
        return self._peers.get(name)

    def named(self, inode: int) -> Iterable[tuple[bytes, Peer]]:
        """The stand-ins towards one socket of the tracee."""
        return [(name, self._peers[name]) for name in self._names.get(inode, ())]

    def for_datagrams(self, inode: int, path: bytes) -> bytes:
        """The name of the stand-in that takes what this socket sends to `path`; empty if there is none."""
        return self._datagrams.get((inode, path), b"")

    def drop(self, name: bytes) -> None:
        """A stand-in is gone."""
        peer = self._peers.pop(name, None)
        if peer is None:
            return
        self._names[peer.inode].remove(name)
        if not self._names[peer.inode]:
            del self._names[peer.inode]
        if self._datagrams.get((peer.inode, peer.path)) == name:
            del self._datagrams[peer.inode, peer.path]

    def sweep(self, live: Container[int]) -> None:
        """Drop the stand-ins towards sockets with other inodes than these."""
        for inode in [inode for inode in self._names if inode not in live]:
            for name in list(self._names[inode]):
                self.drop(name)


def new_name() -> bytes:
    """An abstract name that nobody can guess."""
    return _PREFIX + secrets.token_urlsafe(16).encode()
