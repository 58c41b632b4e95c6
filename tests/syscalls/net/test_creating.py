"""socket(2) by script: which kinds can be the pod's."""

from __future__ import annotations

import errno
import socket

import pytest
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.net import creating
from script import Script, session

OFF = Decision(Route.LOCAL, Reason.OUTGOING_OFF)


@pytest.mark.parametrize("protocol", [262, 256])
def test_what_is_like_tcp_becomes_tcp(protocol: int) -> None:
    kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
    Script(creating.socket, (socket.AF_INET, kind, protocol)).runs({2: socket.IPPROTO_TCP}).gets(5).keeps(Reason.OUTGOING)
    local = session(outgoing_route=OFF)
    Script(creating.socket, (socket.AF_INET6, kind, protocol), context=local).continues(Reason.OUTGOING_OFF)


@pytest.mark.parametrize(
    ("kind", "protocol", "number"),
    [
        (socket.SOCK_STREAM, creating.IPPROTO_SCTP, errno.EPROTONOSUPPORT),
        (socket.SOCK_SEQPACKET, creating.IPPROTO_SCTP, errno.ESOCKTNOSUPPORT),
        (creating.SOCK_DCCP, 33, errno.ESOCKTNOSUPPORT),
        (socket.SOCK_DGRAM, 136, errno.EPROTONOSUPPORT),
        (socket.SOCK_RAW | socket.SOCK_NONBLOCK, 1, errno.EPERM),
    ],
)
def test_what_cannot_be_the_pods_does_not_exist(kind: int, protocol: int, number: int) -> None:
    lines: list[str] = []
    context = session(notices=lines)
    Script(creating.socket, (socket.AF_INET, kind, protocol), context=context).raises(number, Reason.UNSUPPORTED)
    assert len(lines) == 1
    local = session(outgoing_route=OFF, notices=lines)
    Script(creating.socket, (socket.AF_INET, kind, protocol), context=local).continues(Reason.OUTGOING_OFF)
    assert len(lines) == 1


def test_tcp_and_udp_are_made_by_the_kernel() -> None:
    Script(creating.socket, (socket.AF_INET, socket.SOCK_STREAM, 0)).continues()
    Script(creating.socket, (socket.AF_INET, socket.SOCK_DGRAM, 17)).traps("sendmsg", "sendmmsg").gets(0).continues()
