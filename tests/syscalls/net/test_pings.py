"""ICMP echo sockets by script: UDP sockets that the program takes for something else."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator

import pytest
from callers import AT, Caller, address, inet, local_only
from mirrord_trace.agent.wire.messages import Done
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.net.creating import socket as make
from mirrord_trace.syscalls.net.datagrams import recvfrom, sendto
from mirrord_trace.syscalls.network_rules import OutgoingConfig
from mirrord_trace.syscalls.policy import Policy, PolicyConfig
from mirrord_trace.syscalls.requests import ProbePing, UdpPeer
from script import FakeTask, Script, session

CALLS = ("sendmsg", "sendmmsg", "recvmsg", "recvmmsg")
FD = 7


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as own:
        yield own


@pytest.fixture
def caller(udp: socket.socket) -> Caller:
    caller = Caller(udp, session(local_only("192.168.0.0/16")))
    args = (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    script = Script(make, args, task=caller.task, context=caller.context).asks(ProbePing(4)).replies(Done())
    script.traps(*CALLS).gets(0).runs({2: socket.IPPROTO_UDP}).gets(FD).keeps(Reason.OUTGOING)
    return caller


def test_requests_and_replies(caller: Caller) -> None:
    peer = inet("10.1.1.1", 0)
    script = caller.calls(sendto, (0x9000, 8, 0, AT, len(peer)), {AT: peer})
    script.traps("recvmsg", "recvmmsg").gets(0)
    known = caller.context.sockets.datagrams[caller.inode]
    stand_in = inet("127.0.0.1", known.ports[address("10.1.1.1", 0)])
    script.runs({4: Scratch(stand_in), 5: 16}).gets(8).keeps(Route.REMOTE)
    assert caller.told() == [UdpPeer(1, 4, address("10.1.1.1", 0), 0, True)]
    script = caller.calls(recvfrom, (0x9000, 100, 0, AT, 0x2000), {AT: stand_in, 0x2000: b"\x10\0\0\0"})
    script.runs().gets(8).returns(8, writes={AT: peer})


def test_any_port_is_the_same_peer(caller: Caller) -> None:
    for port in (0, 1025):
        peer = inet("10.1.1.1", port)
        script = caller.calls(sendto, (0x9000, 8, 0, AT, len(peer)), {AT: peer}).traps("recvmsg", "recvmmsg").gets(0)
        known = caller.context.sockets.datagrams[caller.inode]
        stand_in = inet("127.0.0.1", known.ports[address("10.1.1.1", 0)])
        script.runs({4: Scratch(stand_in), 5: 16}).gets(8).keeps(Route.REMOTE)
    assert len(caller.told()) == 1


def test_a_local_peer_cannot_be_pinged(caller: Caller) -> None:
    peer = inet("192.168.1.1", 0)
    caller.calls(sendto, (0x9000, 8, 0, AT, len(peer)), {AT: peer}).raises(errno.EACCES)


def test_a_pod_that_does_not_allow_it() -> None:
    lines: list[str] = []
    args = (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
    for code in (errno.EACCES, errno.ENETDOWN):
        context = session(local_only(), notices=lines)
        Script(make, args, context=context).asks(ProbePing(6)).fails(code).raises(code)
    assert len(lines) == 1


def test_the_other_version_does_not_exist() -> None:
    args = (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6)
    Script(make, args, context=session(local_only())).raises(errno.EPROTONOSUPPORT)


def test_without_outgoing_udp_it_is_the_kernels() -> None:
    policy = Policy(PolicyConfig(outgoing=OutgoingConfig(udp=False)))
    args = (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    Script(make, args, context=session(policy)).continues(Reason.LOCAL_OBJECT)


def test_a_failure_of_the_kernel_and_a_refused_filter() -> None:
    lines: list[str] = []
    context = session(local_only(), notices=lines)
    args = (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
    script = Script(make, args, task=FakeTask(), context=context).asks(ProbePing(4)).replies(Done())
    script.traps(*CALLS).gets(-errno.EACCES).runs({2: socket.IPPROTO_UDP}).gets(-errno.EMFILE).keeps(Route.REMOTE)
    assert len(lines) == 1
    assert not context.sockets.datagrams
    assert os.getpid()
