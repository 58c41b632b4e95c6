"""ioctl(2) SIOCGIF*: answered from the pod's list, with the kernel's errnos."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from callers import FD, Caller, number
from mirrord_trace.agent.wire.messages import AskRoutes, RouteReplies
from mirrord_trace.syscalls.abi import ifreq, netlink
from mirrord_trace.syscalls.actions import Reason, Route
from mirrord_trace.syscalls.net.interfaces import FRESH_S, ioctl
from mirrord_trace.syscalls.net.links import Interfaces
from routing import ETH0, POD_ADDRESSES, POD_LINKS
from script import FakeTask, Script, session

_AT, _BUFFER_AT = 0x1000, 0x2000
_VALUE_AT = _AT + ifreq.IFNAMSIZ
_LINKS = AskRoutes(netlink.dump_request(netlink.RTM_GETLINK, bytes(16)))
_ADDRESSES = AskRoutes(netlink.dump_request(netlink.RTM_GETADDR, b"\2" + bytes(7)))


@pytest.fixture
def caller() -> Iterator[Caller]:
    """A thread with an AF_INET socket; the pod's list is known."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        caller = Caller(own)
        caller.context.interfaces.found = Interfaces.parse(POD_LINKS, POD_ADDRESSES)
        caller.context.interfaces.clock = lambda: 0.0
        yield caller


def _ask(caller: Caller, command: int, name: bytes = b"eth0", value: bytes = b"") -> Script:
    return caller.calls(ioctl, (command, _AT), {_AT: ifreq.encode_request(name, value)})


@pytest.mark.parametrize(
    ("command", "value"),
    [
        (ifreq.SIOCGIFADDR, ifreq.encode_address(bytes((10, 244, 0, 7)))),
        (ifreq.SIOCGIFDSTADDR, ifreq.encode_address(bytes((10, 244, 0, 7)))),
        (ifreq.SIOCGIFBRDADDR, ifreq.encode_address(bytes((10, 244, 0, 255)))),
        (ifreq.SIOCGIFNETMASK, ifreq.encode_address(bytes((255, 255, 255, 0)))),
        (ifreq.SIOCGIFFLAGS, struct.pack("=H", 0x1043)),
        (ifreq.SIOCGIFMETRIC, number(0)),
        (ifreq.SIOCGIFMTU, number(1450)),
        (ifreq.SIOCGIFHWADDR, struct.pack("=H6s8x", 1, b"\2\0\0\0\0\7")),
        (ifreq.SIOCGIFINDEX, number(ETH0)),
        (ifreq.SIOCGIFTXQLEN, number(1000)),
        (ifreq.SIOCGIFMAP, bytes(24)),
    ],
)
def test_values(caller: Caller, command: int, value: bytes) -> None:
    _ask(caller, command).returns(0, {_VALUE_AT: value}, Reason.POD_INTERFACES)


def test_names(caller: Caller) -> None:
    _ask(caller, ifreq.SIOCGIFNAME, value=number(ETH0)).returns(0, {_AT: ifreq.encode_name(b"eth0")})
    _ask(caller, ifreq.SIOCGIFNAME, value=number(99)).raises(errno.ENODEV, Route.REMOTE)


def test_aliases(caller: Caller) -> None:
    _ask(caller, ifreq.SIOCGIFADDR, b"eth0:1").returns(0, {_VALUE_AT: ifreq.encode_address(bytes((10, 244, 0, 8)))})
    _ask(caller, ifreq.SIOCGIFMTU, b"eth0:1").returns(0, {_VALUE_AT: number(1450)})
    _ask(caller, ifreq.SIOCGIFADDR, b"eth0:2").raises(errno.EADDRNOTAVAIL)
    _ask(caller, ifreq.SIOCGIFADDR, b"nothing").raises(errno.ENODEV)
    _ask(caller, ifreq.SIOCGIFMTU, b"").raises(errno.ENODEV)


def _conf(caller: Caller, room: int, buffer: int) -> Script:
    return caller.calls(ioctl, (ifreq.SIOCGIFCONF, _AT), {_AT: struct.pack("=i4xQ", room, buffer)})


def test_the_list(caller: Caller) -> None:
    ips = ((b"lo", bytes((127, 0, 0, 1))), (b"eth0", bytes((10, 244, 0, 7))), (b"eth0:1", bytes((10, 244, 0, 8))))
    whole = b"".join(ifreq.encode_request(name, ifreq.encode_address(ip)) for name, ip in ips)
    _conf(caller, 0, 0).returns(0, {_AT: number(120)})
    _conf(caller, 1000, _BUFFER_AT).returns(0, {_BUFFER_AT: whole, _AT: number(120)})
    _conf(caller, 119, _BUFFER_AT).returns(0, {_BUFFER_AT: whole[:80], _AT: number(80)})
    for room in (39, 0, -1):
        _conf(caller, room, _BUFFER_AT).returns(0, {_AT: number(0)})


def test_bad_memory(caller: Caller) -> None:
    caller.calls(ioctl, (ifreq.SIOCGIFMTU, 1)).raises(errno.EFAULT)
    caller.calls(ioctl, (ifreq.SIOCGIFCONF, 1)).raises(errno.EFAULT)


def test_what_is_no_socket_is_the_kernels_business() -> None:
    task = FakeTask({_AT: bytes(40)})
    task.fds[FD] = os.open(os.devnull, os.O_RDONLY)
    Script(ioctl, (FD, ifreq.SIOCGIFMTU, _AT), task=task).continues()
    Script(ioctl, (99, ifreq.SIOCGIFMTU, _AT), task=task).continues()


def test_addresses_are_for_internet_sockets(caller: Caller) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        apart = Caller(other, caller.context)
        _ask(apart, ifreq.SIOCGIFADDR).continues()
        _ask(apart, ifreq.SIOCGIFINDEX).returns(0, {_VALUE_AT: number(ETH0)})


def test_left_alone_by_config() -> None:
    Script(ioctl, (FD, ifreq.SIOCGIFMTU, _AT), context=session(pod_interfaces=False)).continues(Reason.INTERFACES_OFF)


def test_the_pod_is_asked_once_in_a_while(caller: Caller) -> None:
    now = [0.0]
    caller.context.interfaces.found = None
    caller.context.interfaces.clock = lambda: now[0]

    def asked() -> None:
        script = _ask(caller, ifreq.SIOCGIFINDEX).asks(_LINKS).replies(RouteReplies(POD_LINKS))
        script.asks(_ADDRESSES).replies(RouteReplies(POD_ADDRESSES)).returns(0, {_VALUE_AT: number(ETH0)})

    asked()
    _ask(caller, ifreq.SIOCGIFINDEX).returns(0, {_VALUE_AT: number(ETH0)})
    now[0] += FRESH_S
    asked()


def test_a_pod_that_does_not_tell(caller: Caller) -> None:
    caller.context.interfaces.found = None
    _ask(caller, ifreq.SIOCGIFINDEX).asks(_LINKS).fails(errno.ENETDOWN).raises(errno.ENETDOWN, Route.REMOTE)
