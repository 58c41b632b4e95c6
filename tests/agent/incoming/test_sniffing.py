"""Packets to datagrams; real ones go through it in test_datagrams.py."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.incoming.sniffing import Sniffer, _Fragments
from mirrord_trace.agent.wire.messages import Address

SOURCE, DESTINATION = bytes([10, 0, 0, 1]), bytes([10, 0, 0, 2])
SOURCE6, DESTINATION6 = bytes(15) + b"\1", bytes(15) + b"\2"


class FakeSocket:
    def __init__(self, *packets, kind=0):
        self.packets = list(packets)
        self.kind = kind

    def recvfrom(self, size):
        return self.packets.pop(0), ("eth0", 0x0800, self.kind, 1, b"")


def udp(payload, port=53, source_port=1234):
    return struct.pack("!HHHH", source_port, port, 8 + len(payload), 0) + payload


def ipv4(payload, identity=7, place=0, protocol=17, options=b""):
    head = struct.pack(
        "!BBHHHBBH", 0x45 + len(options) // 4, 0, 20 + len(options) + len(payload), identity, place, 64, protocol, 0
    )
    return head + SOURCE + DESTINATION + options + payload


def ipv6(payload, following=17):
    return struct.pack("!IHBB", 6 << 28, len(payload), following, 64) + SOURCE6 + DESTINATION6 + payload


def fragment6(payload, offset, more, following=17):
    return ipv6(struct.pack("!BxHI", following, offset | more, 99) + payload, 44)


def receive(*packets, port=53, kind=0):
    sniffer = Sniffer(FakeSocket(*packets, kind=kind), port)
    return [sniffer.receive() for _ in packets]


def test_whole_datagrams():
    padded = ipv4(udp(b"hello")) + b"padding"
    (found,) = receive(padded)
    assert found == (Address(SOURCE, 1234), b"hello")
    assert receive(ipv4(udp(b"x"), options=bytes(8)))[0].datagram == b"x"
    assert receive(ipv6(udp(b"six")))[0] == (Address(SOURCE6, 1234), b"six")


@pytest.mark.parametrize(
    "packet",
    [
        ipv4(udp(b"x", port=54)),
        ipv4(udp(b"x"), protocol=6),
        ipv6(udp(b"x"), 6),
        fragment6(b"x", 0, 0, 6),
        b"",
        b"\x45",
        b"\x60\0",
    ],
)
def test_what_is_for_others(packet):
    assert receive(packet) == [None]


def test_packets_for_other_hosts():
    assert receive(ipv4(udp(b"x")), kind=3) == [None]


def test_fragments_in_any_order():
    whole = udp(b"0123456789abcdef" * 4)
    parts = [(0, 0x2000, whole[:24]), (24, 0x2000, whole[24:48]), (48, 0, whole[48:])]
    packets = [ipv4(part, place=more | offset // 8) for offset, more, part in parts]
    for order in ([0, 1, 2], [2, 1, 0], [1, 1, 2, 0]):
        found = receive(*(packets[at] for at in order))
        assert found[:-1] == [None] * (len(order) - 1)
        assert found[-1].datagram == whole[8:]
    found = receive(*(fragment6(part, offset, bool(more)) for offset, more, part in parts))
    assert found[-1].datagram == whole[8:]


def test_unfinished_ones_are_bounded():
    packets = [ipv4(bytes(8), identity=number, place=0x2000) for number in range(200)]
    sniffer = Sniffer(FakeSocket(*packets), 53)
    assert [sniffer.receive() for _ in packets] == [None] * 200
    assert len(sniffer._unfinished) <= 64


@given(st.binary(max_size=80))
def test_any_bytes_are_a_datagram_or_nothing(packet):
    receive(packet)


def test_an_empty_last_fragment_ends_it():
    parts = _Fragments(0.0)
    assert parts.add(0, True, b"12345678") is None
    assert parts.add(8, False, b"") == b"12345678"
