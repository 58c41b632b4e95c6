from __future__ import annotations

import socket

import pytest
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.supervisor.relay.loopback import family_of, loopback_of, packed, sockaddr, unmapped

V4 = Address(bytes([10, 0, 0, 1]), 80)
MAPPED = Address(bytes(10) + b"\xff\xff" + V4.ip, 80)
V6 = Address(socket.inet_pton(socket.AF_INET6, "fd00::1"), 80)


def test_families() -> None:
    assert [family_of(address) for address in (V4, MAPPED, V6)] == [socket.AF_INET, socket.AF_INET, socket.AF_INET6]
    assert [unmapped(address) for address in (V4, MAPPED, V6)] == [V4, V4, V6]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (V4, ("10.0.0.1", 80)),
        (MAPPED, ("10.0.0.1", 80)),
        (V6, ("fd00::1", 80)),
        (Address(bytes(4), 81), ("127.0.0.1", 81)),
        (Address(bytes(16), 81), ("::1", 81)),
    ],
)
def test_sockaddr(address: Address, expected: tuple[str, int]) -> None:
    assert sockaddr(address) == expected


def test_packed_reverses() -> None:
    assert packed(("10.0.0.1", 80)) == V4
    assert packed(("fd00::1%eth0", 80)) == V6
    assert packed((loopback_of(socket.AF_INET6), 1)) == Address(bytes(15) + b"\1", 1)
