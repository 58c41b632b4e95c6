"""ICMP echo sockets, icmp(7): socket(2) with SOCK_DGRAM and IPPROTO_ICMP or IPPROTO_ICMPV6.

The program gets a UDP socket instead. What is written to and read from either kind is the same: for icmp(7) an ICMP message
without an IP header. So polling, blocking, timeouts and closing are the kernel's, and the messages go the way of UDP
datagrams to an echo socket in the pod, whose kernel sends them. The identifier of the echoes is the port of the socket in
both worlds; the relay puts the program's into the replies. SO_PROTOCOL tells the difference, and IP_RECVTTL sees loopback.
"""

from __future__ import annotations

import errno
import socket as sockets_api

from ...agent.wire.messages import Done
from ..actions import Decision, Handling, Keep, Reason, Route, SyscallError, ask, run, trap
from ..context import Args, Context
from ..requests import ProbePing
from ..task import Task
from . import common
from .sockets import Datagrams

PROTOCOLS = frozenset({sockets_api.IPPROTO_ICMP, sockets_api.IPPROTO_ICMPV6})
_CALLS = frozenset({"sendmsg", "sendmmsg", "recvmsg", "recvmmsg"})
_OUTGOING = Decision(Route.REMOTE, Reason.OUTGOING)


def socket(context: Context, task: Task, args: Args) -> Handling:
    """socket(2) for ICMP echo: a socket of the pod, if its net.ipv4.ping_group_range allows. 2 stops, 1 round trip.

    EACCES if the pod does not allow it.
    """
    family = sockets_api.AF_INET if args[0] == sockets_api.AF_INET else sockets_api.AF_INET6
    protocol = sockets_api.IPPROTO_ICMP if family == sockets_api.AF_INET else sockets_api.IPPROTO_ICMPV6
    if args[2] != protocol:
        raise SyscallError(errno.EPROTONOSUPPORT, _OUTGOING)
    if not context.policy.config.outgoing.udp:
        return common.LOCAL_OBJECT
    try:
        yield from ask(ProbePing(4 if family == sockets_api.AF_INET else 6), Done)
    except SyscallError as error:
        if error.errno == errno.EACCES:
            context.notice("ping", "the pod does not allow ICMP echo sockets (net.ipv4.ping_group_range): EACCES")
        raise SyscallError(error.errno, _OUTGOING) from None
    refused = yield from trap(_CALLS)
    if refused:
        # What sendmsg(2) then names is no UDP peer: echo requests have port 0, for which the kernel has EINVAL.
        context.notice("trap-ping", "the kernel refused a further filter: the senders of ICMP replies may look wrong")
    fd = yield from run({2: sockets_api.IPPROTO_UDP})
    if fd >= 0:
        known = context.sockets.datagrams[common.inode_of(task, fd)] = Datagrams(context.sockets.new_key())
        known.echo = True
    return Keep(_OUTGOING)
