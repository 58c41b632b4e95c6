"""Whom a loopback socket of the relay stands for: a table in memory shared by relay (writes) and tracer (reads).

The tracee's kernel knows the far end of a stolen connection, or the sender of a datagram, as 127.0.0.1:Q or ::1:Q, Q
being a socket of the relay. accept4, getpeername and recvfrom must say the real peer instead, and the tracer answers
them in a stop of its own: it cannot ask the relay first. So the relay writes entry Q before the tracee can see any
packet from Q (before its connect(2) or sendto(2)), and clears it when it closes the socket.

There is one writer. Python has no memory barriers, so an entry carries a checksum over its fields and its own place in
the table: a reader that meets a half-written entry sees a wrong checksum and looks again. A system call of the writer
and a stop of the tracee lie between a write and the first read that matters, so the retry is for entries being
replaced, which the reader does not look for anyway.
"""

from __future__ import annotations

import mmap
import struct
import zlib

from ...agent.wire.messages import Address

_PORTS = 65536
_ENTRY = struct.Struct("<IHHHBB4x16s16s")  # checksum, tracee port, peer port, local port, peer ip size, local ip size, ips
_ENTRY_SIZE = _ENTRY.size  # 48
_TABLE_SIZE = _PORTS * _ENTRY_SIZE
_EMPTY = bytes(_ENTRY_SIZE)
_RETRIES = 100

ANY_PORT = 0
"""As `tracee_port` of an entry: the socket stands for its peer towards every local socket."""


class AddressTable:
    """The table. Made before the fork; sparse, so that it costs memory only for ports in use."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 2 * _TABLE_SIZE)

    def register(self, ipv6: bool, relay_port: int, tracee_port: int, peer: Address, local: Address) -> None:
        """Relay: from now on its socket bound to `relay_port` is `peer` to the socket bound to `tracee_port`.

        `local` is the pod's own address of the same connection.
        """
        offset = _offset(ipv6, relay_port)
        fields = (tracee_port, peer.port, local.port, len(peer.ip), len(local.ip), peer.ip, local.ip)
        entry = bytearray(_ENTRY.pack(0, *fields))
        struct.pack_into("<I", entry, 0, _checksum(entry, offset))
        self._memory[offset : offset + _ENTRY_SIZE] = bytes(entry)

    def clear(self, ipv6: bool, relay_port: int) -> None:
        """Relay: its socket bound to `relay_port` is about to be closed."""
        offset = _offset(ipv6, relay_port)
        self._memory[offset : offset + _ENTRY_SIZE] = _EMPTY

    def lookup(self, ipv6: bool, relay_port: int, tracee_port: int) -> tuple[Address, Address] | None:
        """Tracer: (peer, pod's own address) of the relay socket bound to `relay_port` that talks to `tracee_port`."""
        offset = _offset(ipv6, relay_port)
        for _ in range(_RETRIES):
            entry = self._memory[offset : offset + _ENTRY_SIZE]
            if entry == _EMPTY:
                return None
            fields = _ENTRY.unpack(entry)
            if fields[0] == _checksum(entry, offset):
                return _addresses(fields, tracee_port)
        return None


def _addresses(fields: tuple[int, int, int, int, int, int, bytes, bytes], tracee_port: int) -> tuple[Address, Address] | None:
    _, entry_port, peer_port, local_port, peer_size, local_size, peer_ip, local_ip = fields
    if entry_port not in (ANY_PORT, tracee_port):
        return None
    return Address(peer_ip[:peer_size], peer_port), Address(local_ip[:local_size], local_port)


def _offset(ipv6: bool, port: int) -> int:
    if not 0 < port < _PORTS:
        raise ValueError(f"not a port number: {port}")
    return (_TABLE_SIZE if ipv6 else 0) + port * _ENTRY_SIZE


# Never 0, so that an entry in use is never all zeros; seeded with the place, so that no entry passes for another.
def _checksum(entry: bytes | bytearray, offset: int) -> int:
    return zlib.crc32(memoryview(entry)[4:], offset) or 1
