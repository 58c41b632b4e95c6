"""socket(2) for the internet families: what kind of socket can be the pod's.

TCP, UDP and ICMP echo can. Multipath TCP and SMC are TCP to a peer that speaks nothing else, and become TCP here: a
program that asks for them has to be content with that anyway. Everything else would leave from this machine unnoticed,
so it does not exist, as on a kernel that was built without it.
"""

from __future__ import annotations

import errno
import socket as sockets_api

from ..abi.flags import to_int32
from ..actions import Continue, Decision, Handling, Keep, Reason, Route, SyscallError, run
from ..context import Args, Context
from ..task import Task
from . import common, datagrams

SOCK_TYPE_MASK = 0xF
SOCK_DCCP = 6
SOCK_PACKET = 10
IPPROTO_SCTP = 132
IPPROTO_SMC = 256

_DATAGRAMS = frozenset({0, sockets_api.IPPROTO_UDP, sockets_api.IPPROTO_ICMP, sockets_api.IPPROTO_ICMPV6})
_LIKE_TCP = frozenset({common.IPPROTO_MPTCP, IPPROTO_SMC})
_PLAIN_TCP = frozenset({0, sockets_api.IPPROTO_TCP})


def socket(context: Context, task: Task, args: Args) -> Handling:
    """socket(2), internet families: UDP and ICMP as they are, multipath TCP and SMC as TCP (2 stops), others not at all.

    EPERM for raw sockets, ESOCKTNOSUPPORT and EPROTONOSUPPORT for SCTP, DCCP and UDP-Lite, with a line for the user. If all
    outgoing traffic is local, they are the kernel's.
    """
    kind = args[1] & SOCK_TYPE_MASK
    protocol = to_int32(args[2])
    if kind == sockets_api.SOCK_DGRAM and protocol in _DATAGRAMS:
        return (yield from datagrams.socket(context, task, args))
    decision = context.policy.other_protocols()
    if decision.route is not Route.REMOTE or (kind == sockets_api.SOCK_STREAM and protocol in _PLAIN_TCP):
        return Continue(decision)
    if kind == sockets_api.SOCK_STREAM and protocol in _LIKE_TCP:
        yield from run({2: sockets_api.IPPROTO_TCP})
        return Keep(decision)
    context.notice(
        f"socket-{kind}-{protocol}",
        f"sockets of type {kind}, protocol {protocol} (raw, SCTP, DCCP, UDP-Lite...) cannot be the pod's and are refused",
    )
    raise SyscallError(_ERRNO.get(kind, errno.ESOCKTNOSUPPORT), Decision(Route.REMOTE, Reason.UNSUPPORTED))


_ERRNO = {
    sockets_api.SOCK_STREAM: errno.EPROTONOSUPPORT,
    sockets_api.SOCK_DGRAM: errno.EPROTONOSUPPORT,
    sockets_api.SOCK_RAW: errno.EPERM,
    SOCK_PACKET: errno.EPERM,
}
