"""rtnetlink(7): the handful of requests that `ip link`, `ip address` and `ip route` would send.

The demo must run on machines without the iproute2 programs, so the messages are built here. Each request is acknowledged
by the kernel with an errno, which becomes an OSError naming the request.
"""

from __future__ import annotations

import os
import socket
import struct
from types import TracebackType

RTM_NEWLINK = 16
RTM_NEWADDR = 20
RTM_NEWROUTE = 24
NLMSG_ERROR = 2
_NLM_F_REQUEST = 0x1
_NLM_F_ACK = 0x4
_NLM_F_CREATE_EXCL = 0x600

IFLA_IFNAME = 3
IFLA_LINKINFO = 18
IFLA_NET_NS_PID = 19
IFLA_INFO_KIND = 1
IFLA_INFO_DATA = 2
VETH_INFO_PEER = 1
IFA_ADDRESS = 1
IFA_LOCAL = 2
RTA_DST = 1
RTA_OIF = 4
RTA_GATEWAY = 5

_IFF_UP = 1
# IPv6 addresses would be unusable for a second while duplicates are looked for.
_IFA_F_NODAD = 0x02
RTN_UNICAST = 1
RTN_UNREACHABLE = 7
_RT_TABLE_MAIN = 254
_RTPROT_BOOT = 3

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")


def attribute(kind: int, value: bytes) -> bytes:
    """One rtattr: length, kind, value, padded to four bytes."""
    size = 4 + len(value)
    return struct.pack("=HH", size, kind) + value + bytes(-size % 4)


class Netlink:
    """A NETLINK_ROUTE socket in the network namespace where it was made; a context manager."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._socket.close()

    def set_up(self, link: str) -> None:
        """`ip link set LINK up`."""
        body = _IFINFO.pack(socket.AF_UNSPEC, 0, socket.if_nametoindex(link), _IFF_UP, _IFF_UP)
        self._request(RTM_NEWLINK, 0, body, f"set {link} up")

    def add_veth(self, name: str, peer: str) -> None:
        """`ip link add NAME type veth peer name PEER`: both ends in this namespace."""
        peer_body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, peer.encode() + b"\0")
        kind = attribute(IFLA_INFO_KIND, b"veth") + attribute(IFLA_INFO_DATA, attribute(VETH_INFO_PEER, peer_body))
        body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, name.encode() + b"\0") + attribute(IFLA_LINKINFO, kind)
        self._request(RTM_NEWLINK, _NLM_F_CREATE_EXCL, body, f"add veth {name}")

    def move(self, link: str, pid: int) -> None:
        """`ip link set LINK netns PID`."""
        body = _IFINFO.pack(0, 0, socket.if_nametoindex(link), 0, 0) + attribute(IFLA_NET_NS_PID, struct.pack("=I", pid))
        self._request(RTM_NEWLINK, 0, body, f"move {link} to the namespace of {pid}")

    def add_address(self, link: str, address: str, prefix: int) -> None:
        """`ip address add ADDRESS/PREFIX dev LINK`."""
        family, packed = _packed(address)
        flags = _IFA_F_NODAD if family == socket.AF_INET6 else 0
        body = _IFADDR.pack(family, prefix, flags, 0, socket.if_nametoindex(link))
        body += attribute(IFA_LOCAL, packed) + attribute(IFA_ADDRESS, packed)
        self._request(RTM_NEWADDR, _NLM_F_CREATE_EXCL, body, f"add address {address} to {link}")

    def add_default_route(self, gateway: str, link: str) -> None:
        """`ip route add default via GATEWAY dev LINK`."""
        family, packed = _packed(gateway)
        body = _ROUTE.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, 0, RTN_UNICAST, 0)
        body += attribute(RTA_GATEWAY, packed) + attribute(RTA_OIF, struct.pack("=I", socket.if_nametoindex(link)))
        self._request(RTM_NEWROUTE, _NLM_F_CREATE_EXCL, body, f"add default route by {gateway}")

    def add_unreachable(self, address: str) -> None:
        """`ip route add unreachable ADDRESS`: a connect to it fails at once with EHOSTUNREACH."""
        family, packed = _packed(address)
        body = _ROUTE.pack(family, len(packed) * 8, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, 0, RTN_UNREACHABLE, 0)
        self._request(RTM_NEWROUTE, _NLM_F_CREATE_EXCL, body + attribute(RTA_DST, packed), f"add unreachable {address}")

    # Sends one request and waits for the kernel's acknowledgement, which on this socket is the next message.
    def _request(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self._sequence += 1
        size = _HEADER.size + len(body)
        header = _HEADER.pack(size, kind, _NLM_F_REQUEST | _NLM_F_ACK | flags, self._sequence, 0)
        self._socket.send(header + body)
        answer = self._socket.recv(65536)
        _, answer_kind, _, sequence, _ = _HEADER.unpack_from(answer)
        if answer_kind != NLMSG_ERROR or sequence != self._sequence:
            raise OSError(f"{what}: unexpected netlink answer of kind {answer_kind}")
        number = -struct.unpack_from("=i", answer, _HEADER.size)[0]
        if number:
            raise OSError(number, f"{what}: {os.strerror(number)}")


def _packed(address: str) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return family, socket.inet_pton(family, address)
