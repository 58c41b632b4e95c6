"""UDP by script: every call exchanges addresses and nothing else."""

from __future__ import annotations

import contextlib
import errno
import socket as sockets_api
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from callers import AT, FD, LENGTH_AT, Caller, address, inet, local_only, number
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.net.connecting import connect
from mirrord_trace.syscalls.net.datagrams import recvfrom, recvmmsg, recvmsg, sendmmsg, sendmsg, sendto, socket
from mirrord_trace.syscalls.net.sockets import Datagrams
from mirrord_trace.syscalls.requests import UdpPeer
from script import Script, session

DNS = inet("10.96.0.10", 53)
OTHER = inet("10.96.0.11", 53)
RECEIVING = ("recvmsg", "recvmmsg")
NAMES = 0x4000
IOVECS = 0x6000


@pytest.fixture
def udp() -> Iterator[sockets_api.socket]:
    with sockets_api.socket(type=sockets_api.SOCK_DGRAM) as own:
        yield own


@pytest.fixture
def caller(udp: sockets_api.socket) -> Caller:
    """192.168.0.0/16 is local, all else leaves from the pod."""
    return Caller(udp, session(local_only("192.168.0.0/16")))


def _known(caller: Caller) -> Datagrams:
    return caller.context.sockets.datagrams[caller.inode]


def _stand_in(caller: Caller, peer: str, port: int) -> bytes:
    """The sockaddr that stands for a peer, by what the relay was told."""
    family = caller.own.family
    loopback = "::1" if ":" in peer else "127.0.0.1" if family == sockets_api.AF_INET else "::ffff:127.0.0.1"
    return inet(loopback, _known(caller).ports[address(peer, port)])


def _sends(caller: Caller, peer: bytes, flags: int = 0) -> Script:
    return caller.calls(sendto, (0x9000, 5, flags, AT, len(peer)), {AT: peer})


def _header(name: int, length: int, iovec: int = 0, count: int = 0) -> bytes:
    return struct.pack("=QI4xQQQQI4x", name, length, iovec, count, 0x8000, 0, 0)


def _away(caller: Caller, peer: bytes) -> None:
    """A datagram to this peer has been sent from the pod."""
    script = _sends(caller, peer).traps(*RECEIVING).gets(0)
    decoded = sockets_api.inet_ntop(sockets_api.AF_INET, peer[4:8])
    stand_in = _stand_in(caller, decoded, int.from_bytes(peer[2:4], "big"))
    script.runs({4: Scratch(stand_in), 5: len(stand_in)}).gets(5).keeps(Route.REMOTE)


# -- making and connecting ------------------------------------------------------------------------------------------


def test_the_first_socket_lets_sendmsg_stop(udp: sockets_api.socket) -> None:
    lines: list[str] = []
    caller = Caller(udp, session(notices=lines))
    caller.calls(socket).traps("sendmsg", "sendmmsg").gets(0).continues(Route.LOCAL)
    assert not lines
    # What it would send by sendmsg(2) could not be led to the pod.
    caller.calls(socket).traps("sendmsg", "sendmmsg").gets(-errno.EPERM).raises(errno.EACCES)
    assert len(lines) == 1


def test_connect_and_reconnect(caller: Caller, udp: sockets_api.socket) -> None:
    caller.names(connect, DNS).returns(0, decision=Reason.DNS)
    ((message, fds),) = caller.relay.told
    assert message == UdpPeer(1, 4, address("10.96.0.10", 53))
    assert len(fds) == 1
    assert udp.getpeername() == ("127.0.0.1", _known(caller).ports[address("10.96.0.10", 53)])
    assert _known(caller).connected == address("10.96.0.10", 53)
    caller.told()
    caller.names(connect, DNS).returns(0)
    assert caller.told() == [], "the peer is known"
    caller.names(connect, OTHER).returns(0)
    assert caller.told() == [UdpPeer(1, 4, address("10.96.0.11", 53))]
    caller.names(connect, bytes(16)).continues(Reason.NOT_INTERNET)
    assert _known(caller).connected is None


def test_connecting_to_anything_but_a_name_server_lets_recvmsg_stop(caller: Caller) -> None:
    caller.names(connect, inet("10.1.1.1", 443)).traps(*RECEIVING).gets(0).returns(0, decision=Reason.OUTGOING)
    assert _known(caller).seen_at == (caller.task.tgid, FD)


def test_a_local_peer_ends_a_connection_from_the_pod(caller: Caller) -> None:
    caller.names(connect, inet("192.168.7.7", 99)).continues(Reason.OUTGOING_FILTER)
    assert not caller.context.sockets
    caller.names(connect, DNS).returns(0)
    caller.names(connect, inet("192.168.7.7", 99)).continues(Reason.OUTGOING_FILTER)
    assert _known(caller).connected is None


def test_names_that_the_kernel_refuses(caller: Caller) -> None:
    for name in (DNS[:10], inet("fd00::1", 53), inet("::ffff:10.96.0.10", 53)):
        caller.names(connect, name).continues(Reason.BAD_ARGUMENT)


@pytest.mark.parametrize("peer", [inet("10.96.0.10", 53), inet("::ffff:10.96.0.10", 53)])
def test_ipv4_from_an_ipv6_socket(peer: bytes) -> None:
    with sockets_api.socket(sockets_api.AF_INET6, sockets_api.SOCK_DGRAM) as own:
        caller = Caller(own)
        caller.names(connect, peer).returns(0)
        assert caller.told() == [UdpPeer(1, 6, address("10.96.0.10", 53))]
        assert own.getpeername()[0] == "::ffff:127.0.0.1"


def test_ipv6_needs_a_pod_that_has_it() -> None:
    with sockets_api.socket(sockets_api.AF_INET6, sockets_api.SOCK_DGRAM) as own:
        caller = Caller(own)
        caller.names(connect, inet("fd00::10", 53)).raises(errno.ENETUNREACH, Route.REMOTE)
        assert not caller.context.sockets
        caller.names(connect, inet("::1", 53)).returns(0)  # every pod has its loopback
        caller.context.pod = replace(caller.context.pod, addresses=(address("fd00::7", 0).ip,))
        caller.names(connect, inet("fd00::10", 53)).returns(0)
        caller.names(connect, inet("::ffff:10.96.0.10", 53)).raises(errno.ENETUNREACH)
        caller.context.pod = replace(caller.context.pod, addresses=())
        caller.names(connect, inet("::ffff:10.96.0.10", 53)).returns(0)


def test_other_datagram_sockets_are_not_udp() -> None:
    with _datagram_socket_that_is_not_udp() as own:
        caller = Caller(own)
        caller.names(connect, inet("10.96.0.10", 0)).continues(Reason.UNSUPPORTED)
        _sends(caller, inet("10.96.0.10", 0)).continues(Route.LOCAL)


def _datagram_socket_that_is_not_udp() -> sockets_api.socket:
    # ICMP's need net.ipv4.ping_group_range, UDP-Lite's a kernel that has them.
    for protocol in (sockets_api.IPPROTO_ICMP, 136):
        with contextlib.suppress(OSError):
            return sockets_api.socket(sockets_api.AF_INET, sockets_api.SOCK_DGRAM, protocol)
    pytest.skip("this kernel has no UDP-Lite, and net.ipv4.ping_group_range allows no ping sockets")


# -- sending --------------------------------------------------------------------------------------------------------


def test_sendto_goes_to_the_stand_in(caller: Caller) -> None:
    _away(caller, DNS)
    _away(caller, OTHER)
    assert caller.told() == [UdpPeer(1, 4, address("10.96.0.10", 53)), UdpPeer(1, 4, address("10.96.0.11", 53))]
    _away(caller, DNS)
    assert caller.told() == []


def test_sendto_of_others_is_untouched(caller: Caller) -> None:
    _sends(caller, inet("192.168.7.7", 99)).continues(Reason.OUTGOING_FILTER)
    _sends(caller, struct.pack("=H", 16) + bytes(10)).continues(Reason.NOT_INTERNET)
    _sends(caller, inet("fd00::1", 53)).continues(Reason.BAD_ARGUMENT)
    _sends(caller, DNS[:12]).continues(Reason.BAD_ARGUMENT)
    caller.calls(sendto, (0, 0, 0, 1, 16)).continues(Reason.BAD_ARGUMENT)
    with sockets_api.socket() as tcp:
        _sends(Caller(tcp), DNS).continues(Reason.LOCAL_OBJECT)


def test_unspec_means_ipv4_to_an_ipv4_socket_alone(caller: Caller) -> None:
    unspecified = bytes(2) + DNS[2:]
    script = _sends(caller, unspecified).traps(*RECEIVING).gets(0)
    stand_in = _stand_in(caller, "10.96.0.10", 53)
    script.runs({4: Scratch(stand_in), 5: len(stand_in)}).gets(5).keeps()
    _sends(caller, bytes(8)).continues(Reason.BAD_ARGUMENT)
    with sockets_api.socket(sockets_api.AF_INET6, sockets_api.SOCK_DGRAM) as own:
        _sends(Caller(own), unspecified).continues(Reason.LOCAL_OBJECT)


def test_a_filter_that_the_kernel_refuses_is_told(udp: sockets_api.socket) -> None:
    lines: list[str] = []
    caller = Caller(udp, session(notices=lines))
    script = _sends(caller, DNS).traps(*RECEIVING).gets(-errno.EINVAL)
    stand_in = _stand_in(caller, "10.96.0.10", 53)
    script.runs({4: Scratch(stand_in), 5: len(stand_in)}).gets(5).keeps()
    assert len(lines) == 1


@pytest.mark.parametrize("length", [16, 28, 128, 300])
def test_sendmsg(caller: Caller, length: int) -> None:
    memory = {AT: _header(NAMES, length, 7, 8), NAMES: DNS + bytes(300)}
    script = caller.calls(sendmsg, (AT, 0), memory).traps(*RECEIVING).gets(0)
    stand_in = _stand_in(caller, "10.96.0.10", 53)
    expected = _header(NAMES, len(stand_in), 7, 8) + stand_in
    script.runs({1: Scratch(expected, ((0, 56),))}).gets(5).keeps(Route.REMOTE)


def test_sendmsg_without_a_remote_name_is_untouched(caller: Caller) -> None:
    caller.calls(sendmsg, (AT, 0), {AT: _header(0, 0)}).continues(Reason.LOCAL_OBJECT)
    caller.calls(sendmsg, (AT, 0), {AT: _header(NAMES, 0)}).continues(Reason.LOCAL_OBJECT)
    caller.calls(sendmsg, (AT, 0), {AT: _header(NAMES, 2**31), NAMES: DNS}).continues(Reason.BAD_ARGUMENT)
    caller.calls(sendmsg, (AT, 0), {AT: _header(1, 16)}).continues(Reason.BAD_ARGUMENT)
    caller.calls(sendmsg, (AT, 0), {AT: _header(NAMES, 16)[:40]}).continues(Reason.BAD_ARGUMENT)
    memory = {AT: _header(NAMES, 16), NAMES: inet("192.168.7.7", 99)}
    caller.calls(sendmsg, (AT, 0), memory).continues(Reason.OUTGOING_FILTER)


def _sendmmsg(caller: Caller, peers: Sequence[bytes], count: int | None = None) -> Script:
    """Message N has the N-th peer (b"": none) and an iovec of N + 1 and 10 bytes."""
    messages = names = iovecs = b""
    for index, peer in enumerate(peers):
        name = NAMES + len(names) if peer else 0
        messages += _header(name, len(peer), IOVECS + len(iovecs), 2) + bytes(8)
        names += peer
        iovecs += struct.pack("=4Q", 0x8000, index + 1, 0x8000, 10)
    memory = {AT: messages, NAMES: names, IOVECS: iovecs}
    return caller.calls(sendmmsg, (AT, len(peers) if count is None else count, 0), memory)


def _lengths(*lengths: int) -> dict[int, bytes]:
    return {AT + 64 * index + 56: number(length) for index, length in enumerate(lengths)}


def test_sendmmsg_to_several_pod_peers(caller: Caller) -> None:
    script = _sendmmsg(caller, [DNS, OTHER]).traps(*RECEIVING).gets(0).traps(*RECEIVING).gets(0)
    first, second = _stand_in(caller, "10.96.0.10", 53), _stand_in(caller, "10.96.0.11", 53)
    messages = _header(NAMES, 16, IOVECS, 2) + bytes(8) + _header(NAMES + 16, 16, IOVECS + 32, 2) + bytes(8)
    scratch = Scratch(messages + first + second, ((0, 128), (64, 144)))
    script.runs({1: scratch, 2: 2}).gets(2).returns(2, _lengths(11, 12), Route.REMOTE)


def test_sendmmsg_may_stop_early(caller: Caller) -> None:
    script = _sendmmsg(caller, [DNS] * 7)
    for _ in range(5):
        script.traps(*RECEIVING).gets(0)
    stand_in = _stand_in(caller, "10.96.0.10", 53)
    messages = b"".join(_header(NAMES + 16 * n, 16, IOVECS + 32 * n, 2) + bytes(8) for n in range(5))
    pointers = tuple((64 * n, 320 + 16 * n) for n in range(5))
    scratch = Scratch(messages + stand_in * 5, pointers)
    script.runs({1: scratch, 2: 5}).gets(3).returns(3, _lengths(11, 12, 13))


def test_sendmmsg_never_sends_a_pod_peers_datagram_from_here(caller: Caller) -> None:
    local = inet("192.168.7.7", 99)
    _sendmmsg(caller, [local, b"", DNS]).traps(*RECEIVING).gets(0).runs({2: 2}).gets(2).keeps(Reason.OUTGOING_FILTER)
    _sendmmsg(caller, [b"", b"", b"", b"", b"", b"", DNS]).traps(*RECEIVING).gets(0).runs({2: 6}).gets(6).keeps()
    script = _sendmmsg(caller, [DNS, local, DNS]).traps(*RECEIVING).gets(0)
    scratch = Scratch(_header(NAMES, 16, IOVECS, 2) + bytes(8) + _stand_in(caller, "10.96.0.10", 53), ((0, 64),))
    script.runs({1: scratch, 2: 1}).gets(1).returns(1, _lengths(11))


def test_sendmmsg_of_local_datagrams_is_untouched(caller: Caller) -> None:
    local = inet("192.168.7.7", 99)
    _sendmmsg(caller, [local] * 8).continues(Reason.OUTGOING_FILTER)
    _sendmmsg(caller, [b""] * 3).continues(Reason.LOCAL_OBJECT)
    _sendmmsg(caller, []).continues(Reason.LOCAL_OBJECT)
    _sendmmsg(caller, [DNS], 2).continues(Reason.BAD_ARGUMENT)
    _sendmmsg(caller, [DNS], 0xFFFFFFFF).continues(Reason.BAD_ARGUMENT)


def test_sendmmsg_ends_before_an_error() -> None:
    with sockets_api.socket(sockets_api.AF_INET6, sockets_api.SOCK_DGRAM) as own:
        caller = Caller(own)
        _sendmmsg(caller, [inet("fd00::1", 53)]).raises(errno.ENETUNREACH)
        script = _sendmmsg(caller, [inet("::1", 53), inet("fd00::1", 53)]).traps(*RECEIVING).gets(0)
        scratch = Scratch(_header(NAMES, 28, IOVECS, 2) + bytes(8) + _stand_in(caller, "::1", 53), ((0, 64),))
        script.runs({1: scratch, 2: 1}).gets(1).returns(1, _lengths(11))


# -- receiving ------------------------------------------------------------------------------------------------------


def _receives(caller: Caller, room: int = 128) -> Script:
    return caller.calls(recvfrom, (0x9000, 5, 0, AT, LENGTH_AT), {AT: bytes(128), LENGTH_AT: number(room)})


def _filled(caller: Caller, name: bytes, room: int = 128) -> None:
    """The kernel has received a datagram from this address."""
    caller.task.memory[AT][: min(room, len(name))] = name[:room]
    caller.task.memory[LENGTH_AT] = bytearray(number(len(name)))


@pytest.mark.parametrize("room", [128, 16, 9, 4])
def test_recvfrom_names_the_pods_peer(caller: Caller, room: int) -> None:
    _away(caller, DNS)
    script = _receives(caller, room).runs()
    _filled(caller, _stand_in(caller, "10.96.0.10", 53), room)
    script.gets(5).returns(5, {AT: DNS[:room]}, Route.REMOTE)


def test_recvfrom_with_hardly_any_room(caller: Caller) -> None:
    _away(caller, DNS)
    for room in (0, 2):
        script = _receives(caller, room).runs()
        _filled(caller, _stand_in(caller, "10.96.0.10", 53), room)
        script.gets(5).returns(5)


def test_recvfrom_of_ipv6_and_mapped_ipv4() -> None:
    with sockets_api.socket(sockets_api.AF_INET6, sockets_api.SOCK_DGRAM) as own:
        caller = Caller(own)
        for peer, text in ((inet("::1", 53), "::1"), (inet("::ffff:10.96.0.10", 53), "10.96.0.10")):
            caller.names(connect, peer).returns(0)
            script = _receives(caller).runs()
            _filled(caller, _stand_in(caller, text, 53))
            script.gets(1).returns(1, {AT: peer})


def test_one_port_number_may_stand_for_two_peers() -> None:
    with sockets_api.socket(sockets_api.AF_INET6, sockets_api.SOCK_DGRAM) as own:
        caller = Caller(own)
        known = caller.context.sockets.datagrams[caller.inode] = Datagrams(1)
        known.add(address("10.0.0.1", 1), 5000)
        known.add(address("fd00::1", 2), 5000)
        for stand_in, peer in (("::1", inet("fd00::1", 2)), ("::ffff:127.0.0.1", inet("::ffff:10.0.0.1", 1))):
            script = _receives(caller).runs()
            _filled(caller, inet(stand_in, 5000))
            script.gets(1).returns(1, {AT: peer})


def test_recvfrom_of_a_peer_that_was_not_asked(caller: Caller) -> None:
    _away(caller, DNS)
    caller.addresses.entries[False, 6000, 0] = (address("10.96.0.99", 1069), address("10.244.0.7", 1))
    script = _receives(caller).runs()
    _filled(caller, inet("127.0.0.1", 6000))
    script.gets(5).returns(5, {AT: inet("10.96.0.99", 1069)})


@pytest.mark.parametrize("sender", [inet("127.0.0.1", 6001), inet("192.168.7.7", 53), inet("127.0.0.1", 0), bytes(16)])
def test_recvfrom_of_local_senders(caller: Caller, sender: bytes) -> None:
    _away(caller, DNS)
    script = _receives(caller).runs()
    _filled(caller, sender)
    script.gets(5).returns(5)


def test_recvfrom_that_is_the_kernels(caller: Caller) -> None:
    _receives(caller).continues(Reason.LOCAL_OBJECT)
    _away(caller, DNS)
    _receives(caller).runs().gets(-errno.EAGAIN).keeps()
    _receives(caller, 2**32 - 1).runs().gets(-errno.EINVAL).keeps()
    caller.calls(recvfrom, (0, 0, 0, AT, 1)).runs().gets(-errno.EFAULT).keeps()
    with sockets_api.socket(type=sockets_api.SOCK_DGRAM) as other:
        _receives(Caller(other, caller.context)).continues(Reason.LOCAL_OBJECT)


def test_recvmsg_names_the_pods_peer(caller: Caller) -> None:
    _away(caller, DNS)
    memory = {AT: _header(NAMES, 128), NAMES: bytes(128)}
    script = caller.calls(recvmsg, (AT, 0), memory).runs()
    caller.task.memory[AT] = bytearray(_header(NAMES, 16))
    caller.task.memory[NAMES][:16] = _stand_in(caller, "10.96.0.10", 53)
    script.gets(5).returns(5, {NAMES: DNS}, Route.REMOTE)


def test_recvmsg_that_is_the_kernels(caller: Caller) -> None:
    caller.calls(recvmsg, (AT, 0), {AT: _header(NAMES, 128)}).continues(Reason.LOCAL_OBJECT)
    _away(caller, DNS)
    caller.calls(recvmsg, (AT, 0), {AT: _header(0, 0)}).runs().gets(5).keeps()
    caller.calls(recvmsg, (AT, 0), {AT: _header(NAMES, 128)}).runs().gets(-errno.EINTR).keeps()
    caller.calls(recvmsg, (0, 0)).continues(Reason.BAD_ARGUMENT)


def test_recvmmsg_names_each_peer(caller: Caller) -> None:
    _away(caller, DNS)
    _away(caller, OTHER)
    first, second = NAMES, NAMES + 0x100
    array = b"".join(_header(name, 28 if name else 0) + bytes(8) for name in (first, 0, second, second))
    memory = {AT: array, first: bytes(28), second: bytes(28)}
    script = caller.calls(recvmmsg, (AT, 4, 0), memory).runs()
    caller.task.memory[AT] = bytearray(
        b"".join(
            _header(name, length) + number(3) + bytes(4) for name, length in ((first, 16), (0, 0), (second, 16), (second, 28))
        )
    )
    caller.task.memory[first][:16] = _stand_in(caller, "10.96.0.10", 53)
    caller.task.memory[second][:16] = _stand_in(caller, "10.96.0.11", 53)
    script.gets(3).returns(3, {first: DNS, second: OTHER}, Route.REMOTE)


def test_recvmmsg_that_is_the_kernels(caller: Caller) -> None:
    caller.calls(recvmmsg, (AT, 1, 0), {AT: bytes(64)}).continues(Reason.LOCAL_OBJECT)
    _away(caller, DNS)
    caller.calls(recvmmsg, (AT, 1, 0), {AT: bytes(64)}).runs().gets(-errno.EAGAIN).returns(-errno.EAGAIN)
    caller.calls(recvmmsg, (AT, 2, 0), {AT: bytes(64)}).continues(Reason.BAD_ARGUMENT)
    # Linux sets no limit; no more than this is looked at.
    caller.calls(recvmmsg, (AT, 0xFFFFFFFF, 0), {AT: bytes(64 * 1024)}).runs({2: 1024}).gets(1).returns(1)
