"""A pod's interfaces as its kernel tells them: loopback, and eth0 with an address and an alias."""

from __future__ import annotations

import struct

from mirrord_trace.syscalls.abi import netlink

LO, ETH0 = 1, 2


def _whole(kind: int, body: bytes, attributes: list[tuple[int, bytes]]) -> bytes:
    for number, value in attributes:
        body += struct.pack("=HH", 4 + len(value), number) + value + bytes(-len(value) % 4)
    return netlink.encode_header(netlink.Header(16 + len(body), kind, 2, 0, 0)) + body


def link_message(
    index: int, name: bytes, kind: int = 772, flags: int = 0x49, mtu: int = 65536, mac: bytes = bytes(6)
) -> bytes:
    """RTM_NEWLINK."""
    attributes = [
        (netlink.IFLA_IFNAME, name + b"\0"),
        (netlink.IFLA_MTU, struct.pack("=I", mtu)),
        (netlink.IFLA_TXQLEN, struct.pack("=I", 1000)),
        (netlink.IFLA_ADDRESS, mac),
    ]
    return _whole(netlink.RTM_NEWLINK, struct.pack("=BxHiII", 0, kind, index, flags, 0), attributes)


def address_message(index: int, label: bytes, ip: bytes, prefix: int, family: int = 2) -> bytes:
    """RTM_NEWADDR."""
    attributes = [(netlink.IFA_ADDRESS, ip), (netlink.IFA_LOCAL, ip), (netlink.IFA_LABEL, label + b"\0")]
    attributes.append((netlink.IFA_BROADCAST, ip[:-1] + b"\xff"))
    return _whole(netlink.RTM_NEWADDR, struct.pack("=BBBBI", family, prefix, 0, 0, index), attributes)


POD_LINKS = (link_message(LO, b"lo") + link_message(ETH0, b"eth0", 1, 0x11043, 1450, b"\2\0\0\0\0\7"),)
POD_ADDRESSES = (
    address_message(ETH0, b"eth0", bytes((10, 244, 0, 7)), 24),
    address_message(LO, b"lo", bytes((127, 0, 0, 1)), 8) + address_message(ETH0, b"eth0:1", bytes((10, 244, 0, 8)), 32),
)
