from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import (
    Address,
    Bye,
    ConnectTcp,
    ConnectUnix,
    DatagramFailed,
    Done,
    Failed,
    FileStat,
    GetPod,
    Incoming,
    LinkTarget,
    Log,
    Message,
    Opened,
    OpenFile,
    OpenPing,
    OpenUdp,
    ReadLink,
    Subscribe,
    UdpOpened,
    UnixConnected,
)
from mirrord_trace.supervisor.errors import InternalError
from mirrord_trace.supervisor.relay.addresses import AddressTable
from mirrord_trace.supervisor.relay.connects import open_listeners
from mirrord_trace.supervisor.relay.dispatch import Dispatch, Outward
from mirrord_trace.supervisor.relay.link import ASK, TELL, Packet
from mirrord_trace.syscalls.name_rules import DnsConfig
from mirrord_trace.syscalls.requests import (
    Counts,
    GetCounts,
    JoinUnix,
    Listen,
    OpenUnix,
    PeerRefused,
    ProbePing,
    StartConnect,
    UdpPeer,
    UnixOpened,
    Verdict,
)

STAT = FileStat(1, 2, 0o100644, 1, 0, 0, 0, 5, 4096, 8, 0, 0, 0, -1)
NOWHERE = Address(bytes(4), 0)


class Relay:
    """A dispatch over a fake pod; what goes to the tracer is kept."""

    def __init__(self, pod: Any) -> None:
        self.pod = pod
        self.replies: list[tuple[int, Message, int]] = []
        self.told: list[Message] = []
        self.listeners = open_listeners()
        outward = Outward(lambda *reply: self.replies.append(reply), self.told.append)
        self.dispatch = Dispatch(pod.loop, pod.session, AddressTable(), self.listeners, outward)

    def ask(self, message: Message, id: int = 9) -> None:
        self.dispatch.from_tracer(Packet(ASK, id, message, -1))

    def answer(self, message: Message) -> tuple[int, Message, int]:
        self.ask(message)
        self.pod.until(lambda: self.replies)
        return self.replies.pop()


@pytest.fixture
def relay(pod: Any) -> Iterator[Relay]:
    relay = Relay(pod)
    yield relay
    relay.dispatch.fail_all(errno.ENETDOWN)
    for listener in relay.listeners.values():
        listener.close()


def test_agent_requests_are_passed_on(relay: Relay) -> None:
    relay.pod.answers[ReadLink] = lambda message, reply: reply(LinkTarget(message.path + b"/there"))
    assert relay.answer(ReadLink(b"/link")) == (9, LinkTarget(b"/link/there"), -1)


def test_files_are_opened_here(relay: Relay) -> None:
    relay.pod.answers[OpenFile] = lambda message, reply: reply(Opened(STAT, b"hello", False))
    id, message, fd = relay.answer(OpenFile(b"/etc/config", 0, 0, 1))
    assert (id, message) == (9, Opened(STAT, b"", False))
    assert os.pread(fd, 10, 0) == b"hello"
    os.close(fd)


def test_ports_are_stolen(relay: Relay) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        local = Address(bytes([127, 0, 0, 1]), sock.getsockname()[1])
        assert relay.answer(Listen(os.fstat(sock.fileno()).st_ino, local, 80, False, False, "", False)) == (9, Done(), -1)
    assert Subscribe(80, False, "", False) in relay.pod.asked


def test_connects(relay: Relay) -> None:
    relay.pod.answers[ConnectTcp] = lambda message, reply: reply(Failed(errno.ECONNREFUSED))
    for listener in relay.listeners.values():
        listener.close()
    relay.listeners.clear()  # there is no socket to settle
    relay.dispatch.from_tracer(Packet(TELL, 0, StartConnect(3, Address(bytes([10, 0, 0, 1]), 1), NOWHERE), -1))
    relay.pod.until(lambda: relay.told)
    assert relay.told == [Verdict(3, errno.ECONNREFUSED, NOWHERE, Address(bytes([10, 0, 0, 1]), 1))]


def test_datagrams(relay: Relay) -> None:
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    address = sock.getsockname()
    relay.dispatch.from_tracer(Packet(TELL, 0, UdpPeer(1, 4, Address(bytes([10, 0, 0, 1]), 53)), sock.detach()))
    with socket.socket(type=socket.SOCK_DGRAM) as tracee:
        tracee.sendto(b"q", address)
        relay.pod.until(lambda: any(isinstance(message, OpenUdp) for message in relay.pod.asked))


def test_unix_sockets(relay: Relay) -> None:
    relay.pod.answers[ConnectUnix] = lambda message, reply: reply(UnixConnected(b"/x"))
    _, opened, _ = relay.answer(OpenUnix(b"/x", 1, 0))
    assert isinstance(opened, UnixOpened)
    program, near = socket.socketpair()
    with program:
        relay.dispatch.from_tracer(Packet(TELL, 0, JoinUnix(opened.stream, 1), near.detach()))
        relay.pod.agent.reset(opened.stream, 0)
        relay.pod.settle()
        assert program.recv(1) == b""


def test_counts(relay: Relay) -> None:
    relay.answer(ReadLink(b"/"))
    _, message, _ = relay.answer(GetCounts())
    assert isinstance(message, Counts)
    assert message.round_trips == 1
    assert message.bytes_sent > 0
    assert message.bytes_received > 0


def test_a_tell_that_is_none_is_our_bug(relay: Relay) -> None:
    with pytest.raises(InternalError):
        relay.dispatch.from_tracer(Packet(TELL, 0, GetPod(), -1))


def test_a_lost_session_answers_everything(relay: Relay) -> None:
    late: list[Any] = []
    relay.pod.answers[OpenFile] = lambda message, reply: late.append(reply)
    relay.ask(OpenFile(b"/slow", 0, 0, 1), 1)
    relay.pod.until(lambda: late)
    relay.dispatch.fail_all(errno.ENETDOWN)
    assert [(id, message.errno) for id, message, _ in relay.replies] == [(1, errno.ENETDOWN)]
    relay.ask(ReadLink(b"/"), 2)
    assert relay.replies[1][:1] == (2,)
    before = len(os.listdir("/proc/self/fd"))
    late[0](Opened(STAT, b"too late", False))
    relay.pod.settle()
    assert len(relay.replies) == 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_notices_of_the_agent(relay: Relay, capfd: pytest.CaptureFixture[str]) -> None:
    reasons: list[str] = []
    relay.dispatch.from_agent(Log(logging.INFO, "quiet"), reasons.append)
    relay.dispatch.from_agent(Log(logging.WARNING, "iptables is used"), reasons.append)
    assert capfd.readouterr().err == "mirrord-trace: agent: iptables is used\n"
    relay.dispatch.from_agent(Bye("the container has ended"), reasons.append)
    assert reasons == ["the container has ended"]
    stream = relay.pod.agent.new_stream()
    relay.pod.settle()
    relay.dispatch.from_agent(Incoming(stream, 80, NOWHERE, NOWHERE), reasons.append)
    relay.pod.until(lambda: relay.pod.agent.connection.open_streams == 0)


def test_whether_the_pod_allows_pings(relay: Relay) -> None:
    relay.pod.answers[OpenPing] = lambda message, reply: reply(Failed(errno.EACCES))
    assert relay.answer(ProbePing(4)) == (9, Failed(errno.EACCES), -1)
    relay.pod.answers[OpenPing] = lambda message, reply: reply(UdpOpened(NOWHERE))
    assert relay.answer(ProbePing(6)) == (9, Done(), -1)


def test_a_refused_datagram_is_told(relay: Relay) -> None:
    peer = Address(bytes((10, 0, 0, 1)), 9)
    streams: list[int] = []

    def opened(message: OpenUdp, reply: Any) -> None:
        streams.append(message.stream)
        reply(UdpOpened(NOWHERE))

    relay.pod.answers[OpenUdp] = opened
    with socket.socket(type=socket.SOCK_DGRAM) as tracee, socket.socket(type=socket.SOCK_DGRAM) as stand_in:
        stand_in.bind(("127.0.0.1", 0))
        address = stand_in.getsockname()
        relay.dispatch.from_tracer(Packet(TELL, 0, UdpPeer(1, 4, peer), stand_in.detach()))
        tracee.sendto(b"x", address)
        relay.pod.until(lambda: streams)
        relay.dispatch.from_agent(DatagramFailed(streams[0], peer, errno.ECONNREFUSED), lambda reason: None)
    assert relay.told == [PeerRefused(1, peer)]


def test_what_filters_by_name_need_is_asked_first(pod: Any) -> None:
    prepared: list[str] = []
    outward = Outward(lambda *reply: None, lambda message: None)
    pod.answers[OpenFile] = lambda message, reply: reply(Failed(errno.ENOENT))
    for config, asked in ((DnsConfig(), 0), (DnsConfig(learn=True), 2)):
        listeners = open_listeners()
        dispatch = Dispatch(pod.loop, pod.session, AddressTable(), listeners, outward, dns=config)
        prepared.clear()
        dispatch.prepare(lambda: prepared.append("now"))
        pod.until(lambda: prepared)
        assert sum(isinstance(message, OpenFile) for message in pod.asked) == asked
        dispatch.finish()
        for listener in listeners.values():
            listener.close()
