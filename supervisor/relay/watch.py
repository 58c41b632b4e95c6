"""Which sockets of the supervised program are still there, seen from outside.

close(2) is not a call that stops, and a process can end by SIGKILL, so nobody tells the relay that a listening socket is
gone. The kernel does: sock_diag(7) multicasts every destroyed TCP and UDP socket, to ordinary users too (Linux 4.5+; not
under gVisor). Its message names no inode any more, only the port, so it is taken as a hint to look into /proc/net/tcp
and the like, which is also done at intervals: short ones where the multicast is not to be had.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator

from ...agent.pump.loop import READ, Loop, Timer

_NETLINK_SOCK_DIAG = 4
# enum sknetlink_groups: SKNLGRP_INET_TCP_DESTROY, SKNLGRP_INET_UDP_DESTROY, SKNLGRP_INET6_TCP_DESTROY, ...
_GROUPS = {"tcp": (1, 3), "udp": (2, 4)}
_PORTS_OFFSET = 20  # in nlmsghdr (16 bytes) + inet_diag_msg: family, state, timer, retrans, then sport and dport
_MAX_BATCH = 1000
_LISTEN = b"0A"

INTERVAL_S = 0.5
"""Between looks into /proc where the kernel does not report destroyed sockets."""

INTERVAL_WITH_EVENTS_S = 5.0
"""The same where it does; a report can be lost when there are very many."""


class SocketWatch:
    """Calls `on_gone` with the inode of each added socket that is no longer there, once.

    `protocol` "tcp": sockets that listen; "udp": sockets that are bound.
    """

    def __init__(self, loop: Loop, on_gone: Callable[[int], None], protocol: str = "tcp", *, with_events: bool = True) -> None:
        self._loop = loop
        self._on_gone = on_gone
        self._sockets = listening_sockets if protocol == "tcp" else bound_udp_sockets
        self._remote_ports_matter = protocol == "tcp"  # a connection that ends is no listener
        self._ports: dict[int, int] = {}
        self._by_port: set[int] = set()
        self._events = _destroy_events(protocol) if with_events else None
        self._timer: Timer | None = None
        self._check_planned = False
        if self._events is not None:
            loop.watch(self._events.fileno(), READ, self._on_events)

    def add(self, inode: int, port: int, *, by_port: bool = False) -> None:
        """Watch the socket with this inode, bound to this local port.

        `by_port`: any socket there will do. Up to Linux 6.4 the ones under a multipath TCP socket have other inodes.
        """
        self._ports[inode] = port
        if by_port:
            self._by_port.add(inode)
        if self._timer is None:
            self._arm()

    def remove(self, inode: int) -> None:
        """Watch it no longer."""
        self._ports.pop(inode, None)
        self._by_port.discard(inode)

    def check(self) -> None:
        """Look now."""
        present = self._sockets()
        ports = set(present.values()) if self._by_port else set()
        for inode, port in list(self._ports.items()):
            if inode not in present and not (inode in self._by_port and port in ports):
                self.remove(inode)
                self._on_gone(inode)

    def close(self) -> None:
        """Watch nothing any more."""
        self._ports.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._events is not None:
            self._loop.unwatch(self._events.fileno())
            self._events.close()
            self._events = None

    def _arm(self) -> None:
        interval_s = INTERVAL_S if self._events is None else INTERVAL_WITH_EVENTS_S
        self._timer = self._loop.call_later(interval_s, self._on_interval)

    def _on_interval(self) -> None:
        self._timer = None
        self.check()
        if self._ports:
            self._arm()

    # A lost report (ENOBUFS) may have been the one we wait for.
    def _on_events(self, _: int) -> None:
        assert self._events is not None
        ports: set[int] = set(self._ports.values())
        suspicious = False
        for _ in range(_MAX_BATCH):
            try:
                packet = self._events.recv(4096)
            except BlockingIOError:
                break
            except OSError:
                suspicious = True
                break
            local_port, remote_port = struct.unpack_from(">HH", packet.ljust(_PORTS_OFFSET + 4, b"\0"), _PORTS_OFFSET)
            is_one = remote_port == 0 or not self._remote_ports_matter
            suspicious = suspicious or (is_one and local_port in ports)
        if suspicious and not self._check_planned:
            self._check_planned = True
            self._loop.call_soon(self._check_once)

    def _check_once(self) -> None:
        self._check_planned = False
        self.check()


def listening_sockets() -> dict[int, int]:
    """Inode -> local port of all listening TCP sockets of this network namespace."""
    found = {}
    for name in ("tcp", "tcp6"):
        for fields in _rows(name):
            if fields[3] != _LISTEN:
                break  # the kernel lists the listening ones first
            found[int(fields[9])] = _port(fields[1])
    return found


def bound_udp_sockets() -> dict[int, int]:
    """Inode -> local port of all bound UDP sockets of this network namespace."""
    return {int(fields[9]): _port(fields[1]) for name in ("udp", "udp6") for fields in _rows(name)}


def udp_ports() -> set[tuple[int, int]]:
    """(local port, remote port or 0) of all UDP sockets of this network namespace."""
    return {(_port(fields[1]), _port(fields[2])) for name in ("udp", "udp6") for fields in _rows(name)}


# Of an address in these tables: 0100007F:0050.
def _port(address: bytes) -> int:
    return int(address.rpartition(b":")[2], 16)


# The rows of /proc/net/NAME without the heading; none if there is no such file (IPv6 switched off).
def _rows(name: str) -> Iterator[list[bytes]]:
    with contextlib.suppress(FileNotFoundError), open(f"/proc/self/net/{name}", "rb") as table:
        next(table, None)
        for line in table:
            if len(fields := line.split()) >= 10:
                yield fields


def _destroy_events(protocol: str) -> socket.socket | None:
    try:
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG)
    except OSError:
        return None
    try:
        events.bind((0, sum(1 << (group - 1) for group in _GROUPS[protocol])))
        events.setblocking(False)
    except OSError:
        events.close()
        return None
    return events
