"""Resets the connections that the pod's container has on a port (sock_diag(7): SOCK_DESTROY).

A redirect gets new connections only. Those that are kept alive would go on reaching the container for as long as they are
used; once reset, their peers connect again. Connections that come from agents (they carry our marks) are left alone:
behind them are peers that another session passes on.

Needs CAP_NET_ADMIN and a kernel with CONFIG_INET_DIAG_DESTROY, else EPERM or EOPNOTSUPP.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Iterator, Tuple

from .. import nft
from ..netlink import NLM_F_DUMP, Netlink, attributes

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_REQUEST = struct.Struct("=BBBBI")
# Family, state; then the id of the socket: ports, addresses, interface, cookie; then counters.
_ANSWER = struct.Struct("=BBBB48s20x")
_ID = struct.Struct("!HH16s16s12x")
_MARK_ATTRIBUTE = 15
# ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING
_STATES = sum(1 << state for state in (1, 3, 4, 5, 8, 9, 11))


def reset_connections(port: int) -> int:
    """Reset what is connected to `port` of this network namespace; how many that were. OSError: it cannot be done here."""
    netlink = Netlink(_NETLINK_SOCK_DIAG)
    try:
        done = 0
        for family in (socket.AF_INET, socket.AF_INET6):
            ours = {(source, own) for own, _, source, _, mark, _ in _sockets(netlink, family, 0, port) if _is_ours(mark)}
            for own, other, _, destination, _, identity in list(_sockets(netlink, family, port, 0)):
                if own == port and (destination, other) not in ours:
                    done += _destroy(netlink, family, identity)
        return done
    finally:
        netlink.close()


_Found = Tuple[int, int, bytes, bytes, int, bytes]


# (own port, other port, own address, other address, mark, identity) of the connected sockets with such ports.
def _sockets(netlink: Netlink, family: int, own: int, other: int) -> Iterator[_Found]:
    request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + struct.pack("!HH44x", own, other)
    try:
        answers = netlink.exchange([(_SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, request)])
    except OSError as error:
        if family == socket.AF_INET6 and error.errno in (errno.ENOENT, errno.EAFNOSUPPORT):
            return
        raise
    for answer in answers:
        identity = _ANSWER.unpack_from(answer.payload)[4]
        own_port, other_port, source, destination = _ID.unpack(identity)
        if (own and own_port != own) or (other and other_port != other):
            continue
        mark = attributes(answer.payload[_ANSWER.size :]).get(_MARK_ATTRIBUTE, bytes(4))
        yield own_port, other_port, source, destination, struct.unpack("=I", mark[:4])[0], identity


def _destroy(netlink: Netlink, family: int, identity: bytes) -> int:
    try:
        netlink.exchange([(_SOCK_DESTROY, 0, _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + identity)])
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):  # it has ended
            return 0
        raise
    return 1


def _is_ours(mark: int) -> bool:
    return nft.FIRST_MARK < mark <= nft.AGENT_MARK
