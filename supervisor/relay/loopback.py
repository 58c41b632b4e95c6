"""Packed addresses of the protocol to and from what Python's socket calls take, as far as loopback needs it."""

from __future__ import annotations

import socket

from ...agent.wire.messages import Address

_V4_MAPPED = bytes(10) + b"\xff\xff"


def family_of(address: Address) -> socket.AddressFamily:
    """The family that reaches this address: IPv4 also for ::ffff:a.b.c.d."""
    if len(address.ip) == 4 or address.ip.startswith(_V4_MAPPED):
        return socket.AF_INET
    return socket.AF_INET6


def unmapped(address: Address) -> Address:
    """The address without the ::ffff: in front of an IPv4 one."""
    return Address(address.ip[12:], address.port) if address.ip.startswith(_V4_MAPPED) else address


def loopback_of(family: socket.AddressFamily) -> str:
    """127.0.0.1 or ::1."""
    return "127.0.0.1" if family == socket.AF_INET else "::1"


def sockaddr(address: Address) -> tuple[str, int]:
    """What connect takes to reach a local socket bound to this address: loopback for the unspecified one."""
    family = family_of(address)
    ip = unmapped(address).ip
    return (socket.inet_ntop(family, ip) if any(ip) else loopback_of(family), address.port)


def packed(sockaddr: tuple[str, int]) -> Address:
    """From what getsockname and recvfrom return; an IPv6 zone is dropped."""
    host = sockaddr[0].partition("%")[0]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return Address(socket.inet_pton(family, host), sockaddr[1])
