"""The list of interfaces, from this machine's kernel and from made-up messages."""

from __future__ import annotations

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.agent.routes import ask_routes
from mirrord_trace.agent.wire.messages import AskRoutes
from mirrord_trace.syscalls.abi import netlink
from mirrord_trace.syscalls.net.links import Interfaces
from routing import ETH0, LO, POD_ADDRESSES, POD_LINKS, address_message, link_message


def test_this_machine() -> None:
    links = ask_routes(AskRoutes(netlink.dump_request(netlink.RTM_GETLINK, bytes(16)))).datagrams
    addresses = ask_routes(AskRoutes(netlink.dump_request(netlink.RTM_GETADDR, bytes(8)))).datagrams
    found = Interfaces.parse(links, addresses)
    assert [(link.index, link.name.decode()) for link in found.links] == socket.if_nameindex()
    lo = found.by_name(b"lo")
    assert lo is not None
    loopback = found.labelled(lo, b"lo")
    assert loopback is None or loopback.local[0] == 127


def test_links_and_addresses() -> None:
    found = Interfaces.parse(POD_LINKS, POD_ADDRESSES)
    assert [link.name for link in found.links] == [b"lo", b"eth0"]
    eth0 = found.by_index(ETH0)
    assert eth0 is not None
    assert (eth0.mtu, eth0.kind, eth0.address) == (1450, 1, b"\2\0\0\0\0\7")
    assert [one.local[-1] for one in found.in_order()] == [1, 7, 8]
    alias = found.labelled(eth0, b"eth0:1")
    assert alias is not None
    assert alias.mask == bytes((255, 255, 255, 255))
    assert found.by_name(b"nothing") is found.by_index(99) is found.labelled(eth0, b"eth0:2") is None


def test_what_is_no_address_is_left_out() -> None:
    short = netlink.encode_header(netlink.Header(17, netlink.RTM_NEWADDR, 0, 0, 0)) + b"\2\0\0\0"
    addresses = [
        short,
        address_message(LO, b"lo", bytes(16), 128, family=10),
        address_message(LO, b"lo", bytes(4), 33),
        address_message(99, b"gone", bytes((1, 2, 3, 4)), 32),
        link_message(LO, b"lo"),
    ]
    assert Interfaces.parse(POD_LINKS, addresses).in_order() == []


def test_an_address_without_a_label_has_its_interfaces_name() -> None:
    body = struct.pack("=BBBBI", 2, 8, 0, 0, LO) + struct.pack("=HH4s", 8, netlink.IFA_LOCAL, b"\x7f\0\0\1")
    header = netlink.encode_header(netlink.Header(16 + len(body), netlink.RTM_NEWADDR, 0, 0, 0))
    (one,) = Interfaces.parse(POD_LINKS, [header + body]).addresses
    assert (one.label, one.peer, one.mask) == (b"lo", bytes(4), b"\xff\0\0\0")


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    for kind in (netlink.RTM_NEWLINK, netlink.RTM_NEWADDR):
        header = netlink.encode_header(netlink.Header(16 + len(content), kind, 0, 0, 0))
        Interfaces.parse([header + content], [header + content])
