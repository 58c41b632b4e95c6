"""ioctl(2) of the SIOCGIF* kind: the pod's interfaces and their IPv4 addresses, netdevice(7).

All are answered from one list, made of two dumps (links, addresses) that the relay keeps for a moment. So a program that asks
for ten properties of an interface in a row costs at most two round trips.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Generator

from ...agent.wire.messages import AskRoutes, RouteReplies
from ..abi import ifreq, netlink
from ..actions import Action, Continue, Decision, Handling, Outcome, Return, Route, SyscallError, ask
from ..context import Args, Context
from ..task import Task
from . import common
from .links import Interfaces, Link, LinkAddress

FRESH_S = 1.0
"""For so long the list counts as current."""

_LINKS = netlink.dump_request(netlink.RTM_GETLINK, struct.pack("=BxHiII", 0, 0, 0, 0, 0))
_ADDRESSES = netlink.dump_request(netlink.RTM_GETADDR, struct.pack("=BBBBI", socket.AF_INET, 0, 0, 0, 0))

_LinkValue = Callable[[Link], bytes]
_LINK_VALUES: dict[int, _LinkValue] = {
    ifreq.SIOCGIFFLAGS: lambda link: ifreq.encode_flags(link.flags),
    ifreq.SIOCGIFMETRIC: lambda link: ifreq.encode_number(0),
    ifreq.SIOCGIFMTU: lambda link: ifreq.encode_number(link.mtu),
    ifreq.SIOCGIFHWADDR: lambda link: ifreq.encode_hardware_address(link.kind, link.address),
    ifreq.SIOCGIFINDEX: lambda link: ifreq.encode_number(link.index),
    ifreq.SIOCGIFTXQLEN: lambda link: ifreq.encode_number(link.queue_length),
    ifreq.SIOCGIFMAP: lambda link: ifreq.encode_map(link.map),
}
_ADDRESS_VALUES: dict[int, Callable[[LinkAddress], bytes]] = {
    ifreq.SIOCGIFADDR: lambda address: address.local,
    ifreq.SIOCGIFDSTADDR: lambda address: address.peer,
    ifreq.SIOCGIFBRDADDR: lambda address: address.broadcast,
    ifreq.SIOCGIFNETMASK: lambda address: address.mask,
}


def ioctl(context: Context, task: Task, args: Args) -> Handling:
    """ioctl(2) SIOCGIF*: the pod's interfaces. ENODEV, EADDRNOTAVAIL as in the pod. 1 stop, 2 round trips if nothing is known.

    Stops only for these commands. On anything but a socket, and for IPv4 addresses on any but an AF_INET socket, the kernel
    answers.
    """
    decision = context.policy.interfaces()
    if decision.route is not Route.REMOTE:
        return Continue(decision)
    command = args[1] & 0xFFFFFFFF
    with common.duplicate(task, args[0]) as own:
        if own is None or (command in ifreq.ADDRESS_COMMANDS and own.family != socket.AF_INET):
            return common.LOCAL_OBJECT
    size = ifreq.IFCONF_BYTES if command == ifreq.SIOCGIFCONF else ifreq.IFREQ_BYTES
    content = task.read(args[2], size)
    interfaces = yield from _interfaces(context, decision)
    if command == ifreq.SIOCGIFCONF:
        return _list(interfaces, args[2], content, decision)
    if command == ifreq.SIOCGIFNAME:
        link = interfaces.by_index(ifreq.decode_index(content))
        if link is None:
            raise SyscallError(errno.ENODEV, decision)
        return Return(0, decision, ((args[2], ifreq.encode_name(link.name)),))
    value = _value(interfaces, command, ifreq.decode_name(content), decision)
    return Return(0, decision, ((args[2] + ifreq.IFNAMSIZ, value),))


def _value(interfaces: Interfaces, command: int, name: bytes, decision: Decision) -> bytes:
    # An alias ("eth0:1") is only a label of an address.
    link = interfaces.by_name(name.partition(b":")[0])
    if link is None:
        raise SyscallError(errno.ENODEV, decision)
    of_link = _LINK_VALUES.get(command)
    if of_link is not None:
        return of_link(link)
    address = interfaces.labelled(link, name)
    if address is None:
        raise SyscallError(errno.EADDRNOTAVAIL, decision)
    return ifreq.encode_address(_ADDRESS_VALUES[command](address))


def _list(interfaces: Interfaces, where: int, content: bytes, decision: Decision) -> Return:
    room, buffer = ifreq.decode_list(content)
    requests = [ifreq.encode_request(address.label, ifreq.encode_address(address.local)) for address in interfaces.in_order()]
    if not buffer:
        return Return(0, decision, ((where, struct.pack("=i", len(requests) * ifreq.IFREQ_BYTES)),))
    fitting = b"".join(requests[: max(room, 0) // ifreq.IFREQ_BYTES])
    length = ((where, struct.pack("=i", len(fitting))),)
    return Return(0, decision, (((buffer, fitting), *length) if fitting else length))


def _interfaces(context: Context, decision: Decision) -> Generator[Action, Outcome, Interfaces]:
    known = context.interfaces
    if known.found is not None and known.clock() - known.at_s < FRESH_S:
        return known.found
    try:
        links = yield from ask(AskRoutes(_LINKS), RouteReplies)
        addresses = yield from ask(AskRoutes(_ADDRESSES), RouteReplies)
    except SyscallError as error:
        raise SyscallError(error.errno, decision) from None
    known.found = Interfaces.parse(links.datagrams, addresses.datagrams)
    known.at_s = known.clock()
    return known.found
