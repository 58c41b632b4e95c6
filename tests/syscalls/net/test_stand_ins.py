from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest
from callers import Caller, address, local_only
from mirrord_trace.syscalls.actions import Decision, Reason, Route, SyscallError
from mirrord_trace.syscalls.net import stand_ins
from mirrord_trace.syscalls.net.sockets import Datagrams
from mirrord_trace.syscalls.requests import UdpPeer
from script import session

REMOTE = Decision(Route.REMOTE, Reason.OUTGOING)


@pytest.fixture
def udp() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as own:
        yield own


@pytest.fixture
def caller(udp: socket.socket) -> Caller:
    return Caller(udp, session(local_only("192.168.0.0/16", "tcp://10.0.0.1")))


def _stand_in(caller: Caller, ip: str, port: int = 9) -> int:
    return stand_ins.stand_in(caller.context, caller.own, address(ip, port), REMOTE, (1, 7))


def test_a_port_of_loopback_for_each_peer(caller: Caller) -> None:
    caller.context.sockets.source_ports[caller.inode] = 40123
    first, second = _stand_in(caller, "10.0.0.1"), _stand_in(caller, "10.0.0.2")
    assert first != second
    assert _stand_in(caller, "10.0.0.1") == first
    assert caller.told() == [UdpPeer(1, 4, address(f"10.0.0.{number}", 9), 40123) for number in (1, 2)]
    assert caller.context.sockets.datagrams[caller.inode].seen_at == (1, 7)


def test_what_sending_natively_refuses(caller: Caller) -> None:
    with pytest.raises(SyscallError) as no_route:
        _stand_in(caller, "2001:db8::1")
    assert no_route.value.errno == errno.ENETUNREACH
    with pytest.raises(SyscallError) as no_broadcast:
        _stand_in(caller, "255.255.255.255")
    assert no_broadcast.value.errno == errno.EACCES
    caller.own.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    assert _stand_in(caller, "255.255.255.255") > 0


def test_decisions(caller: Caller) -> None:
    def decide(ip: str) -> Reason:
        return stand_ins.decide(caller.context, caller.own, address(ip, 9)).reason

    assert decide("10.0.0.1") is Reason.OUTGOING
    assert decide("192.168.0.1") is Reason.OUTGOING_FILTER
    known = caller.context.sockets.datagrams[caller.inode] = Datagrams(1)
    known.echo = True
    assert decide("10.0.0.1") is Reason.OUTGOING
    assert stand_ins.is_echo(caller.context, caller.inode)


def test_who_talks_to_a_socket_of_the_program_is_known_by_its_port(caller: Caller) -> None:
    stand_ins.stay_local(caller.context, caller.own, Decision(Route.LOCAL, Reason.OUTGOING_FILTER))
    assert not caller.context.sockets.own_datagrams
    stand_ins.stay_local(caller.context, caller.own, Decision(Route.LOCAL, Reason.OWN_LISTENER))
    assert caller.context.sockets.own_datagrams[caller.inode] == caller.own.getsockname()[1] != 0
