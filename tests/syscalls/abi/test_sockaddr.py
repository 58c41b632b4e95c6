"""struct sockaddr_in, sockaddr_in6, sockaddr_un against the standard library's and the kernel's idea of them."""

from __future__ import annotations

import ctypes
import ipaddress
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.syscalls.abi.sockaddr import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    PORT_END,
    SOCKADDR_IN6_BYTES,
    SOCKADDR_IN_BYTES,
    Internet,
    Unix,
    decode,
    encode,
    family_and_port,
    value_result,
)

FOUR = st.builds(Address, st.binary(min_size=4, max_size=4), st.integers(0, 65535))
SIX = st.builds(Address, st.binary(min_size=16, max_size=16), st.integers(0, 65535))


def test_families_are_this_machines() -> None:
    assert (AF_UNSPEC, AF_INET, AF_INET6) == (socket.AF_UNSPEC, socket.AF_INET, socket.AF_INET6)


def test_known_layouts() -> None:
    four = Address(bytes((10, 0, 0, 1)), 0x1234)
    assert encode(AF_INET, four) == struct.pack("=H", 2) + bytes((0x12, 0x34, 10, 0, 0, 1)) + bytes(8)
    six = Address(ipaddress.IPv6Address("fd00::1").packed, 80)
    assert encode(AF_INET6, six) == struct.pack("=H", 10) + b"\0\x50" + bytes(4) + six.ip + bytes(4)


@given(FOUR)
def test_ipv4_there_and_back(peer: Address) -> None:
    content = encode(AF_INET, peer)
    assert len(content) == SOCKADDR_IN_BYTES
    assert decode(content) == Internet(AF_INET, peer)


@given(st.one_of(FOUR, SIX))
def test_ipv6_there_and_back(peer: Address) -> None:
    content = encode(AF_INET6, peer)
    assert len(content) == SOCKADDR_IN6_BYTES
    mapped = ipaddress.IPv6Address(content[8:24]).ipv4_mapped
    expected = Address(mapped.packed, peer.port) if mapped else peer
    assert decode(content) == decode(content[:24]) == Internet(AF_INET6, expected, mapped is not None)
    assert decode(content[:23]) is None


@given(st.one_of(FOUR, SIX), st.integers(0, 128))
def test_longer_ones_are_cut(peer: Address, more: int) -> None:
    for family in (AF_INET, AF_INET6) if len(peer.ip) == 4 else (AF_INET6,):
        assert decode(encode(family, peer) + bytes(more)) == decode(encode(family, peer))


@given(st.binary(max_size=140))
def test_any_bytes_have_a_meaning_or_none(content: bytes) -> None:
    decoded = decode(content)
    if isinstance(decoded, Internet):
        assert decoded.family in (AF_INET, AF_INET6)
        assert len(decoded.address.ip) == (4 if decoded.family == AF_INET or decoded.mapped else 16)
        assert decode(encode(decoded.family, decoded.address)) == decoded
    elif decoded is None:
        assert len(content) < 24


@given(st.binary(max_size=108))
def test_unix_names(name: bytes) -> None:
    decoded = decode(struct.pack("=H", socket.AF_UNIX) + name)
    assert decoded == Unix(name if name.startswith(b"\0") else name.split(b"\0")[0])


@pytest.mark.parametrize("family", [0, 16, 38, 65535])
def test_other_families_are_numbers(family: int) -> None:
    assert decode(struct.pack("=H", family)) == family
    assert decode(struct.pack("=H", family) + bytes(60)) == family
    assert decode(struct.pack("=H", family)[:1]) is None


@given(st.one_of(FOUR, SIX))
def test_the_beginning_is_enough_for_family_and_port(peer: Address) -> None:
    family = AF_INET if len(peer.ip) == 4 else AF_INET6
    assert family_and_port(encode(family, peer)[:PORT_END]) == (family, peer.port)


@given(st.binary(min_size=1, max_size=28), st.integers(0, 200))
def test_results_fit_the_room_and_tell_the_true_length(content: bytes, room: int) -> None:
    writes = dict(value_result(100, 200, room, content))
    assert writes.pop(200) == struct.pack("=I", len(content))
    assert writes == ({100: content[:room]} if room else {})


def test_the_kernel_takes_what_encode_makes() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for family, ip in ((AF_INET, "127.0.0.1"), (AF_INET6, "::ffff:127.0.0.1")):
        with socket.socket(family, socket.SOCK_DGRAM) as own:
            name = encode(family, Address(bytes((127, 0, 0, 1)), 4711))
            assert libc.connect(own.fileno(), name, len(name)) == 0
            assert own.getpeername()[:2] == (ip, 4711)
