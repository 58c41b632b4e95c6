"""struct ifreq, ifconf and the commands that read them: netdevice(7). 64-bit Linux."""

from __future__ import annotations

import struct

SIOCGIFNAME = 0x8910
SIOCGIFCONF = 0x8912
SIOCGIFFLAGS = 0x8913
SIOCGIFADDR = 0x8915
SIOCGIFDSTADDR = 0x8917
SIOCGIFBRDADDR = 0x8919
SIOCGIFNETMASK = 0x891B
SIOCGIFMETRIC = 0x891D
SIOCGIFMTU = 0x8921
SIOCGIFHWADDR = 0x8927
SIOCGIFINDEX = 0x8933
SIOCGIFTXQLEN = 0x8942
SIOCGIFMAP = 0x8970

ADDRESS_COMMANDS = frozenset({SIOCGIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK})
"""About an IPv4 address: for AF_INET sockets only."""

LINK_COMMANDS = frozenset({SIOCGIFFLAGS, SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFTXQLEN, SIOCGIFMAP})
COMMANDS = tuple(sorted(ADDRESS_COMMANDS | LINK_COMMANDS | {SIOCGIFNAME, SIOCGIFCONF}))

IFREQ_BYTES = 40
IFNAMSIZ = 16
IFCONF_BYTES = 16

_SOCKADDR_BYTES = 16
_MAP_BYTES = 24
_AF_INET = 2
_IFCONF = struct.Struct("=i4xQ")


def decode_name(content: bytes) -> bytes:
    """ifr_name of an ifreq; the kernel ends it at its last byte."""
    return content[: IFNAMSIZ - 1].partition(b"\0")[0]


def decode_index(content: bytes) -> int:
    """ifr_ifindex of an ifreq."""
    return int(struct.unpack_from("=i", content, IFNAMSIZ)[0])


def encode_name(name: bytes) -> bytes:
    """The ifr_name field."""
    return name[: IFNAMSIZ - 1].ljust(IFNAMSIZ, b"\0")


def encode_request(name: bytes, value: bytes) -> bytes:
    """A whole ifreq."""
    return (encode_name(name) + value).ljust(IFREQ_BYTES, b"\0")


def encode_address(ip: bytes) -> bytes:
    """ifr_addr and its like: a sockaddr_in."""
    return struct.pack("=HH4s8x", _AF_INET, 0, ip)


def encode_hardware_address(kind: int, address: bytes) -> bytes:
    """ifr_hwaddr: a sockaddr whose family is the kind of hardware (ARPHRD_*)."""
    return struct.pack("=H14s", kind, address[:14])


def encode_map(link_map: bytes) -> bytes:
    """ifr_map from IFLA_MAP (struct rtnl_link_ifmap: three u64, u16, two u8)."""
    if len(link_map) < 28:
        return bytes(_MAP_BYTES)
    start, end, base, irq, dma, port = struct.unpack_from("=QQQHBB", link_map)
    return struct.pack("=QQHBBB3x", start, end, base & 0xFFFF, irq & 0xFF, dma, port)


def encode_number(value: int) -> bytes:
    """ifr_ifindex, ifr_metric, ifr_mtu, ifr_qlen."""
    return struct.pack("=i", value)


def encode_flags(flags: int) -> bytes:
    """ifr_flags: the lower half of an interface's flags."""
    return struct.pack("=H", flags & 0xFFFF)


def decode_list(content: bytes) -> tuple[int, int]:
    """ifconf: the room in bytes, and where the ifreqs go (0: only their size is asked for)."""
    room, where = _IFCONF.unpack(content)
    return room, where
