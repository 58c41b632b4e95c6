"""Datagram sockets of the pod, by a real agent in the pod's namespaces."""

from __future__ import annotations

import errno
import socket

import pytest
from mirrord_trace.agent.net import from_socket_address
from mirrord_trace.agent.wire.frames import pack_datagram, unpack_datagram
from mirrord_trace.agent.wire.messages import DatagramFailed, Failed, OpenUdp, UdpOpened

LOOPBACKS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


def address_of(sock):
    return from_socket_address(sock.getsockname())


@pytest.mark.parametrize(("family", "host"), LOOPBACKS)
def test_datagrams_go_out_of_the_pod_and_answers_come_back(pod, start_agent, family, host):
    _, client = start_agent(pid=pod.pid)
    with pod.socket(family, socket.SOCK_DGRAM) as first, pod.socket(family, socket.SOCK_DGRAM) as second:
        for server in (first, second):
            server.bind((host, 0))
        stream = client.session.new_stream()
        opened = client.ask(OpenUdp(stream, 4 if family == socket.AF_INET else 6, 0))
        assert isinstance(opened, UdpOpened)
        came, ended = [], []
        client.session.datagrams(stream, came.append, ended.append)
        for number, server in enumerate((first, second)):
            assert client.session.send_datagram(stream, pack_datagram(address_of(server), b"ask %d" % number))
        for number, server in enumerate((first, second)):
            question, peer = _receive(client, server)
            assert question == b"ask %d" % number
            assert peer[1] == opened.local.port
            server.sendto(b"" if number else b"x" * 60000, peer)
        client.until(lambda: len(came) == 2)
        answers = dict(unpack_datagram(each) for each in came)
        assert answers == {address_of(first): b"x" * 60000, address_of(second): b""}
        client.session.reset(stream, 0)


def test_a_datagram_socket_survives_a_peer_that_is_not_there(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    with pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as server, pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        server.bind(("127.0.0.1", 0))
        gone.bind(("127.0.0.1", 0))
        nobody = address_of(gone)
        gone.close()
        stream = client.session.new_stream()
        client.ask(OpenUdp(stream, 4, 0))
        client.session.datagrams(stream, lambda payload: None, lambda code: None)
        for peer in (nobody, nobody, address_of(server)):
            client.session.send_datagram(stream, pack_datagram(peer, b"hello"))
        assert _receive(client, server)[0] == b"hello"


def test_an_unknown_address_family_is_refused(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    assert client.ask(OpenUdp(client.session.new_stream(), 5, 0)) == Failed(errno.EAFNOSUPPORT)


def _receive(client, server):
    # One datagram; the client's loop runs until it is there.
    got = []

    def arrived():
        try:
            got.append(server.recvfrom(70000, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False
        return True

    client.until(arrived)
    return got[0]


def test_the_wanted_port_or_another_one(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    with pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        other = client.ask(OpenUdp(client.session.new_stream(), 4, taken.getsockname()[1]))
        assert other.local.port not in (0, taken.getsockname()[1])
        free = taken.getsockname()[1]
    assert client.ask(OpenUdp(client.session.new_stream(), 4, free)).local.port == free


@pytest.mark.parametrize(("family", "host"), LOOPBACKS)
def test_what_the_kernel_reports_is_told_with_its_peer(pod, start_agent, family, host):
    _, client = start_agent(pid=pod.pid)
    with pod.socket(family, socket.SOCK_DGRAM) as gone, pod.socket(family, socket.SOCK_DGRAM) as server:
        gone.bind((host, 0))
        server.bind((host, 0))
        nobody = address_of(gone)
        gone.close()
        stream = client.session.new_stream()
        client.ask(OpenUdp(stream, 4 if family == socket.AF_INET else 6, 0))
        client.session.datagrams(stream, lambda payload: None, lambda code: None)
        client.session.send_datagram(stream, pack_datagram(nobody, b"hello"))
        client.until(lambda: DatagramFailed(stream, nobody, errno.ECONNREFUSED) in client.notices)
        client.session.send_datagram(
            stream, pack_datagram(address_of(server), bytes(65508 if family == socket.AF_INET else 65528))
        )
        client.until(lambda: DatagramFailed(stream, address_of(server), errno.EMSGSIZE) in client.notices)
        client.session.send_datagram(stream, pack_datagram(address_of(server), b"fine"))
        assert _receive(client, server)[0] == b"fine"
