"""Copies of the datagrams that come to a port (mirror), by packet(7): the originals are not touched at all.

A packet socket for one protocol sees what the namespace receives, on every interface, loopback included, before any redirect;
a filter program in the kernel passes on what is for the port. Fragments come one by one and are put together
here, as only the first of them names a port. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import socket
import struct
import time
from typing import Dict, List, NamedTuple, Optional, Tuple

from ..wire.messages import Address

_ETH_P_IP, _ETH_P_IPV6 = 0x0800, 0x86DD
_SO_ATTACH_FILTER = 26
_OTHER_HOST = 3
_IPV6_HEADER_BYTES = 40
_FRAGMENT_HEADER = 44
_UDP = socket.IPPROTO_UDP
_UDP_HEADER = struct.Struct("!HHHH")
_MOST_BYTES = 128 * 1024
_KEPT_S = 5.0
_MOST_UNFINISHED = 64
_KIND = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# Classic BPF: (operation, jump if true, jump if false, operand).
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_AT_X, _X_IS_HEADER_BYTES = 0x30, 0x28, 0x48, 0xB1
_JUMP_EQUAL, _JUMP_BITS, _RETURN = 0x15, 0x45, 0x06
_INSTRUCTION = struct.Struct("=HBBI")


def _programs(port: int) -> Dict[int, bytes]:
    ipv4 = [
        (_LOAD_BYTE, 0, 0, 9),
        (_JUMP_EQUAL, 0, 6, _UDP),
        (_LOAD_HALF, 0, 0, 6),
        (_JUMP_BITS, 3, 0, 0x1FFF),  # a later fragment
        (_X_IS_HEADER_BYTES, 0, 0, 0),
        (_LOAD_HALF_AT_X, 0, 0, 2),
        (_JUMP_EQUAL, 0, 1, port),
        (_RETURN, 0, 0, _MOST_BYTES),
        (_RETURN, 0, 0, 0),
    ]
    ipv6 = [
        (_LOAD_BYTE, 0, 0, 6),
        (_JUMP_EQUAL, 3, 0, _FRAGMENT_HEADER),
        (_JUMP_EQUAL, 0, 3, _UDP),
        (_LOAD_HALF, 0, 0, _IPV6_HEADER_BYTES + 2),
        (_JUMP_EQUAL, 0, 1, port),
        (_RETURN, 0, 0, _MOST_BYTES),
        (_RETURN, 0, 0, 0),
    ]
    programs = {_ETH_P_IP: ipv4, _ETH_P_IPV6: ipv6}
    return {protocol: b"".join(_INSTRUCTION.pack(*each) for each in program) for protocol, program in programs.items()}


def open_sniffers(port: int) -> List[socket.socket]:
    """Packet sockets that see the datagrams for `port`: IPv4, then IPv6. OSError EPERM has a text for the user."""
    found: List[socket.socket] = []
    try:
        for protocol, program in _programs(port).items():
            # What comes before the filter is there is sorted out when it is read.
            sock = socket.socket(socket.AF_PACKET, _KIND, socket.htons(protocol))
            found.append(sock)
            kept = ctypes.create_string_buffer(program, len(program))
            count = len(program) // _INSTRUCTION.size
            sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HL", count, ctypes.addressof(kept)))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    except OSError as error:
        for sock in found:
            sock.close()
        if error.errno == errno.EPERM:
            raise PermissionError(
                errno.EPERM, "a copy of datagrams needs CAP_NET_RAW, which the agent does not have"
            ) from error
        raise
    return found


class Sniffed(NamedTuple):
    """A datagram, and who sent it."""

    peer: Address
    datagram: bytes


class Sniffer:
    """Reads one of the sockets."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self._sock = sock
        self._port = port
        self._unfinished: Dict[Tuple[bytes, bytes, int], _Fragments] = {}

    def receive(self) -> Optional[Sniffed]:
        """The next datagram, or None for what is none (yet). BlockingIOError: nothing there."""
        packet, address = self._sock.recvfrom(_MOST_BYTES)
        if address[2] == _OTHER_HOST:
            return None
        with contextlib.suppress(struct.error, IndexError):
            return self._ipv4(packet) if packet[0] >> 4 == 4 else self._ipv6(packet)
        return None

    def _ipv4(self, packet: bytes) -> Optional[Sniffed]:
        total, identity, place, protocol = struct.unpack_from("!2xHHHxB", packet)
        if protocol != _UDP:
            return None
        source, destination = packet[12:16], packet[16:20]
        payload = packet[(packet[0] & 15) * 4 : total]
        if place & 0x3FFF == 0:
            return self._datagram(source, payload)
        return self._fragment((source, destination, identity), (place & 0x1FFF) * 8, bool(place & 0x2000), payload)

    def _ipv6(self, packet: bytes) -> Optional[Sniffed]:
        (length,) = struct.unpack_from("!H", packet, 4)
        source, destination = packet[8:24], packet[24:40]
        payload = packet[_IPV6_HEADER_BYTES : _IPV6_HEADER_BYTES + length]
        if packet[6] == _UDP:
            return self._datagram(source, payload)
        if packet[6] != _FRAGMENT_HEADER:
            return None
        following, place, identity = struct.unpack_from("!BxHI", payload)
        if following != _UDP:
            return None
        return self._fragment((source, destination, identity), place & 0xFFF8, bool(place & 1), payload[8:])

    def _fragment(self, key: Tuple[bytes, bytes, int], offset: int, more: bool, payload: bytes) -> Optional[Sniffed]:
        now = time.monotonic()
        if key not in self._unfinished and len(self._unfinished) >= _MOST_UNFINISHED:
            self._unfinished = {key: parts for key, parts in self._unfinished.items() if now - parts.began_at < _KEPT_S}
            if len(self._unfinished) >= _MOST_UNFINISHED:
                return None
        parts = self._unfinished.setdefault(key, _Fragments(now))
        whole = parts.add(offset, more, payload)
        if whole is None:
            return None
        del self._unfinished[key]
        return self._datagram(key[0], whole)

    def _datagram(self, source: bytes, payload: bytes) -> Optional[Sniffed]:
        source_port, port, length, _ = _UDP_HEADER.unpack_from(payload)
        if port != self._port:
            return None
        return Sniffed(Address(source, source_port), payload[_UDP_HEADER.size : length or None])


class _Fragments:
    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self._parts: Dict[int, bytes] = {}
        self._end = -1

    def add(self, offset: int, more: bool, payload: bytes) -> Optional[bytes]:
        # The whole, once there are no gaps.
        self._parts[offset] = payload
        if not more:
            self._end = offset + len(payload)
        at = 0
        while self._parts.get(at):
            at += len(self._parts[at])
        if self._end < 0 or at != self._end:
            return None
        return b"".join(self._parts[key] for key in sorted(self._parts))
