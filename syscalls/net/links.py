"""The interfaces of the pod and their IPv4 addresses, read from the kernel's answers (rtnetlink(7))."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..abi import netlink

_IFINFOMSG = struct.Struct("=BxHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_AF_INET = 2
_ANY = bytes(4)


@dataclass(frozen=True)
class Link:
    """An interface. `kind` is ARPHRD_*; `map` the bytes of IFLA_MAP."""

    index: int
    name: bytes
    kind: int
    flags: int
    mtu: int
    queue_length: int
    address: bytes
    map: bytes


@dataclass(frozen=True)
class LinkAddress:
    """An IPv4 address of an interface: packed; `label` is the interface's name or an alias of it."""

    index: int
    label: bytes
    local: bytes
    peer: bytes
    broadcast: bytes
    prefix: int

    @property
    def mask(self) -> bytes:
        """The network mask, packed."""
        return (0xFFFFFFFF << (32 - self.prefix) & 0xFFFFFFFF).to_bytes(4, "big")


@dataclass(frozen=True)
class Interfaces:
    """All of them, in the kernel's order."""

    links: tuple[Link, ...]
    addresses: tuple[LinkAddress, ...]

    @classmethod
    def parse(cls, links: Sequence[bytes], addresses: Sequence[bytes]) -> Interfaces:
        """From the datagrams that answer the two dumps; messages that are no link or address, or are broken, are left out."""
        found = [_link(body) for body in _bodies(links, netlink.RTM_NEWLINK, _IFINFOMSG.size)]
        names = {link.index: link.name for link in found}
        of_links = (_address(body, names) for body in _bodies(addresses, netlink.RTM_NEWADDR, _IFADDRMSG.size))
        return cls(tuple(found), tuple(address for address in of_links if address is not None))

    def by_name(self, name: bytes) -> Link | None:
        """The interface of this name."""
        return next((link for link in self.links if link.name == name), None)

    def by_index(self, index: int) -> Link | None:
        """The interface of this number."""
        return next((link for link in self.links if link.index == index), None)

    def labelled(self, link: Link, label: bytes) -> LinkAddress | None:
        """The interface's first address of this label."""
        return next((one for one in self.addresses if one.index == link.index and one.label == label), None)

    def in_order(self) -> list[LinkAddress]:
        """The addresses by interface, as SIOCGIFCONF tells them."""
        order = {link.index: number for number, link in enumerate(self.links)}
        return sorted((one for one in self.addresses if one.index in order), key=lambda one: order[one.index])


@dataclass
class KnownInterfaces:
    """The list of the last look, and when that was."""

    found: Interfaces | None = None
    at_s: float = 0.0
    clock: Callable[[], float] = time.monotonic


def _bodies(datagrams: Sequence[bytes], kind: int, size: int) -> list[bytes]:
    found = (message for datagram in datagrams for message in netlink.messages(datagram))
    bodies = (message[netlink.HEADER_BYTES :] for header, message in found if header.type == kind)
    return [body for body in bodies if len(body) >= size]


def _link(body: bytes) -> Link:
    _, kind, index, flags, _ = _IFINFOMSG.unpack_from(body)
    found = netlink.attributes(body[_IFINFOMSG.size :])
    return Link(
        index=index,
        name=found.get(netlink.IFLA_IFNAME, b"").rstrip(b"\0"),
        kind=kind,
        flags=flags,
        mtu=_number(found.get(netlink.IFLA_MTU)),
        queue_length=_number(found.get(netlink.IFLA_TXQLEN)),
        address=found.get(netlink.IFLA_ADDRESS, b""),
        map=found.get(netlink.IFLA_MAP, b""),
    )


def _address(body: bytes, names: dict[int, bytes]) -> LinkAddress | None:
    family, prefix, _, _, index = _IFADDRMSG.unpack_from(body)
    found = netlink.attributes(body[_IFADDRMSG.size :])
    peer = found.get(netlink.IFA_ADDRESS, _ANY)
    local = found.get(netlink.IFA_LOCAL, peer)
    broadcast = found.get(netlink.IFA_BROADCAST, _ANY)
    if family != _AF_INET or prefix > 32 or any(len(ip) != 4 for ip in (peer, local, broadcast)):
        return None
    label = found.get(netlink.IFA_LABEL, b"").rstrip(b"\0") or names.get(index, b"")
    return LinkAddress(index, label, local, peer, broadcast, prefix)


def _number(value: bytes | None) -> int:
    return int.from_bytes(value[:4], "little") if value else 0
