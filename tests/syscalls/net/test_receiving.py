"""UDP servers of the pod by script: who is heard, and where answers go."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from callers import AT, FD, LENGTH_AT, Caller, address, inet, number
from mirrord_trace.agent.wire.messages import Address, Done
from mirrord_trace.syscalls.actions import Decision, Handling, Keep, Reason, Return, Route, Scratch, SyscallError
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.net import receiving
from mirrord_trace.syscalls.net.connecting import connect
from mirrord_trace.syscalls.net.datagrams import recvfrom, sendto
from mirrord_trace.syscalls.net.sockets import Peers
from mirrord_trace.syscalls.requests import ReceiveUdp
from mirrord_trace.syscalls.task import Task
from script import Script, session

PEER = address("10.244.1.9", 5000)
POD_END = address("10.244.0.7", 53)
LOCAL = Decision(Route.LOCAL, Reason.OUTGOING_OFF)


def _receive(context: Context, task: Task, args: Args) -> Handling:
    own = socket.socket(fileno=task.duplicate(FD))
    with own:
        local = address(*own.getsockname()[:2])
        return (yield from receiving.receive(context, os.fstat(own.fileno()).st_ino, local, 53, receiving.DECISION))


class Server:
    """A UDP socket that receives for the pod's port 53; outgoing traffic stays local, so what goes out is an answer."""

    def __init__(self, own: socket.socket) -> None:
        self.own = own
        self.caller = Caller(own, session(outgoing_route=LOCAL))
        self.port = own.getsockname()[1]
        local = address(*own.getsockname()[:2])
        self.caller.calls(_receive).asks(ReceiveUdp(self.caller.inode, local, 53, False)).replies(Done()).returns(0)

    def hears(self, sender: tuple[str, int], room: int = 128) -> Script:
        """recvfrom(2): the kernel has put this sender there."""
        memory = {AT: bytes(128), LENGTH_AT: number(room)}
        script = self.caller.calls(recvfrom, (0x3000, 100, 0, AT, LENGTH_AT), memory).runs()
        self.caller.task.memory[AT][:16] = inet(*sender)
        self.caller.task.memory[LENGTH_AT][:] = number(16)
        return script.gets(5)

    def stands_for(self, port: int, peer: Address | None) -> None:
        """The relay's table says so."""
        self.caller.addresses.entries.pop((False, port, 0), None)
        if peer is not None:
            self.caller.addresses.entries[False, port, 0] = peer, POD_END

    def answers(self, to: tuple[str, int]) -> Script:
        """sendto(2)."""
        return self.caller.calls(sendto, (0x3000, 5, 0, AT, 16), {AT: inet(*to)})


@pytest.fixture
def server() -> Iterator[Server]:
    with socket.socket(type=socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        yield Server(own)


def test_a_peer_of_the_pod_is_answered_through_its_stand_in(server: Server) -> None:
    server.answers(("10.244.1.9", 5000)).continues(Reason.OUTGOING_OFF)  # not heard
    server.stands_for(4000, PEER)
    server.hears(("127.0.0.1", 4000)).returns(5, {AT: inet("10.244.1.9", 5000)})
    stand_in = inet("127.0.0.1", 4000)
    script = server.answers(("10.244.1.9", 5000)).traps("recvmsg", "recvmmsg").gets(0)
    script.runs({4: Scratch(stand_in), 5: 16}).gets(5).keeps(Reason.INCOMING)


def test_a_peer_that_the_relay_has_dropped(server: Server) -> None:
    server.stands_for(4000, PEER)
    server.hears(("127.0.0.1", 4000)).returns(5, {AT: inet("10.244.1.9", 5000)})
    for other in (None, address("10.244.1.10", 1)):
        server.stands_for(4000, other)
        server.answers(("10.244.1.9", 5000)).continues(Reason.OUTGOING_OFF)


def test_a_peer_on_this_machine_is_answered_here(server: Server) -> None:
    server.caller.context.policy.outgoing_route = Decision(Route.REMOTE, Reason.OUTGOING)  # type: ignore[attr-defined]
    for sender in (("127.0.0.1", 4001), ("192.168.1.5", 4002)):
        server.hears(sender).returns(5)
        server.answers(sender).continues(Reason.LOCAL_OBJECT)


def test_a_socket_for_one_client(server: Server) -> None:
    """As DTLS servers have it: bound to the same port, connected to the peer that was heard."""
    with socket.socket(type=socket.SOCK_DGRAM) as stand_in, socket.socket(type=socket.SOCK_DGRAM) as own:
        stand_in.bind(("127.0.0.1", 0))
        port = stand_in.getsockname()[1]
        server.stands_for(port, PEER)
        server.hears(("127.0.0.1", port)).returns(5, {AT: inet("10.244.1.9", 5000)})
        for sock in (server.own, own):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        own.bind(("127.0.0.1", server.port))
        client = Caller(own, server.caller.context)
        script = client.names(connect, inet("10.244.1.9", 5000)).traps("recvmsg", "recvmmsg").gets(0)
        script.returns(0, decision=Reason.INCOMING)
        assert own.getpeername() == ("127.0.0.1", port)
        assert client.context.sockets.datagrams[client.inode].connected == PEER


def test_cut_addresses_are_left_alone(server: Server) -> None:
    server.stands_for(4000, PEER)
    server.hears(("127.0.0.1", 4000), room=7).returns(5)


def test_the_last_heard_are_remembered() -> None:
    peers = Peers()
    for port in range(1, Peers.MOST + 2):
        peers.heard(Address(PEER.ip, port), port)
        peers.heard(Address(PEER.ip, 1), 7)
    assert len(peers.ports) == Peers.MOST
    assert peers.ports[Address(PEER.ip, 1)] == 7
    assert Address(PEER.ip, 2) not in peers.ports


# -- ports that cannot be had -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number_", "text", "said"),
    [
        (errno.EADDRINUSE, "ann has it", "ann has it"),
        (errno.EADDRINUSE, "", "UDP pod port 53 is already taken over by another session"),
        (
            errno.EPERM,
            "",
            "traffic for UDP pod port 53 does not come here: Operation not permitted; "
            "the agent needs CAP_NET_ADMIN in the pod's network",
        ),
        (errno.EINVAL, "no such filter", "traffic for UDP pod port 53 does not come here: no such filter"),
    ],
)
def test_what_is_said(number_: int, text: str, said: str) -> None:
    lines: list[str] = []
    error = SyscallError(number_, text=text)
    final = receiving.not_taken_over(session(notices=lines), "udp", 53, error, receiving.DECISION)
    expected: Any = Keep(receiving.DECISION)
    if number_ == errno.EADDRINUSE:
        expected = Return(-errno.EADDRINUSE, receiving.DECISION)
    assert final == expected
    assert lines == [said]


def test_a_program_that_goes_on_without() -> None:
    lines: list[str] = []
    context = session(notices=lines, fail_if_taken=False)
    error = SyscallError(errno.EADDRINUSE, text="ann has it")
    assert isinstance(receiving.not_taken_over(context, "tcp", 80, error, receiving.DECISION), Keep)
    assert lines == ["ann has it; the program runs on without its traffic"]
