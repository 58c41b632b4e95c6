"""The address plan of the demo's two network namespaces, and how they are built.

    pod (eth0 10.244.0.7)  <-- veth -->  cluster (node0 10.244.0.1; on lo the services 10.96.0.x and a client 10.244.1.9)

So traffic to the pod arrives by its network card, as from another pod (the prerouting hook), and traffic from the pod really
leaves it. A kernel without veth gets the whole plan on one loopback device: everything is still reachable, only the source
addresses are less telling.
"""

from __future__ import annotations

import errno
import os
import socket
import time

from .netlink import Netlink

POD = ("10.244.0.7", "fd00:10:244::7")
GATEWAY = ("10.244.0.1", "fd00:10:244::1")
CLIENT = ("10.244.1.9", "fd00:10:244:1::9")
API = ("10.96.0.1", "fd00:10:96::1")
DNS = ("10.96.0.10", "fd00:10:96::a")
GREETER = ("10.96.0.20", "fd00:10:96::20")
ECHO = ("10.96.0.30", "fd00:10:96::30")
BLACK_HOLE = ("10.96.0.66", "fd00:10:96::66")
UNREACHABLE = ("10.96.0.99", "fd00:10:96::99")

HTTP_PORT = 80
SECOND_HTTP_PORT = 8080
ECHO_PORT = 7
DNS_PORT = 53
# Nobody listens there, at any of the addresses.
REFUSED_PORT = 81

_ROUTES_TIMEOUT_S = 10.0
_LOOK_S = 0.001
_RTF_LOCAL = 0x80000000

_POD_LINK = "eth0"
_CLUSTER_LINK = "node0"
_SERVICES = (API, DNS, GREETER, ECHO, BLACK_HOLE, CLIENT)


def make_link() -> bool:
    """Make the veth pair in this namespace; False if the kernel has no veth, so that pod and cluster share a namespace."""
    with Netlink() as netlink:
        try:
            netlink.add_veth(_CLUSTER_LINK, _POD_LINK)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return False
            raise
    return True


def set_up_cluster(separate: bool) -> bool:
    """Addresses and routes of the cluster's namespace; tells whether IPv6 is there."""
    _allow_ipv6()
    _allow_icmp()
    with Netlink() as netlink:
        netlink.set_up("lo")
        if separate:
            netlink.set_up(_CLUSTER_LINK)
            has_ipv6 = _add_addresses(netlink, _CLUSTER_LINK, GATEWAY, (24, 64))
        else:
            has_ipv6 = _add_addresses(netlink, "lo", POD, (32, 128))
            _add_unreachable(netlink, has_ipv6)
        for service in _SERVICES:
            _add_addresses(netlink, "lo", service, (32, 128))
    if has_ipv6:
        _await_local_routes(GATEWAY if separate else POD, *_SERVICES)
    return has_ipv6


def move_link(pid: int) -> None:
    """Give the pod's end of the veth pair to the network namespace of process `pid`."""
    with Netlink() as netlink:
        netlink.move(_POD_LINK, pid)


def set_up_pod() -> bool:
    """Addresses and routes of the pod's own namespace, after its link has arrived; tells whether IPv6 is there."""
    _allow_ipv6()
    _allow_icmp()
    with Netlink() as netlink:
        netlink.set_up("lo")
        netlink.set_up(_POD_LINK)
        has_ipv6 = _add_addresses(netlink, _POD_LINK, POD, (24, 64))
        for gateway in GATEWAY[: 1 + has_ipv6]:
            netlink.add_default_route(gateway, _POD_LINK)
        _add_unreachable(netlink, has_ipv6)
    if has_ipv6:
        _await_local_routes(POD)
    return has_ipv6


# The kernel adds the local route of a new IPv6 address a moment later, from a work queue (addrconf_dad_work). Until then the
# address can be bound and has a route, but packets to it are answered with "no route".
def _await_local_routes(*places: tuple[str, str]) -> None:
    awaited = {socket.inet_pton(socket.AF_INET6, address) for _, address in places}
    give_up_s = time.monotonic() + _ROUTES_TIMEOUT_S
    while awaited - _local_routes():
        if time.monotonic() > give_up_s:
            raise OSError(errno.ENETUNREACH, "the kernel has made no routes to IPv6 addresses of the demo")
        time.sleep(_LOOK_S)


# proc_net(5) has nothing of this file: destination, prefix length, six other fields, flags, device.
def _local_routes() -> set[bytes]:
    with open("/proc/net/ipv6_route", encoding="ascii") as routes:
        fields = [line.split() for line in routes]
    return {bytes.fromhex(line[0]) for line in fields if int(line[8], 16) & _RTF_LOCAL}


# The IPv4 address must be there; a kernel or a sysctl without IPv6 only costs the second one.
def _add_addresses(netlink: Netlink, link: str, addresses: tuple[str, str], prefixes: tuple[int, int]) -> bool:
    netlink.add_address(link, addresses[0], prefixes[0])
    try:
        netlink.add_address(link, addresses[1], prefixes[1])
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP, errno.EACCES, errno.EPERM):
            return False
        raise
    return True


def _add_unreachable(netlink: Netlink, has_ipv6: bool) -> None:
    for address in UNREACHABLE[: 1 + has_ipv6]:
        netlink.add_unreachable(address)


# A new namespace may inherit "IPv6 off" from the machine. Where /proc is read-only it stays off, and the demo is IPv4.
def _allow_ipv6() -> None:
    for scope in ("all", "default", "lo"):
        if not _set(f"ipv6/conf/{scope}/disable_ipv6", "0"):
            return


# As container runtimes do: echo sockets for everybody (here: the one group there is). And refusals are told each time, so
# that nobody has to wait for the limit on ICMP messages.
def _allow_icmp() -> None:
    _set("ipv4/ping_group_range", "0 0")
    _set("ipv4/icmp_ratelimit", "0")
    _set("ipv6/icmp/ratelimit", "0")


def _set(switch: str, value: str) -> bool:
    try:
        fd = os.open(f"/proc/sys/net/{switch}", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, value.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
