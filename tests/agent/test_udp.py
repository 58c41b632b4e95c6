"""Datagram sockets of the pod, by a real agent in the pod's namespaces."""

from __future__ import annotations

import errno
import socket

import pytest
from mirrord_trace.agent.net import from_socket_address
from mirrord_trace.agent.wire.frames import pack_datagram, unpack_datagram
from mirrord_trace.agent.wire.messages import Failed, OpenUdp, UdpOpened

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
        opened = client.ask(OpenUdp(stream, 4 if family == socket.AF_INET else 6))
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
        client.ask(OpenUdp(stream, 4))
        client.session.datagrams(stream, lambda payload: None, lambda code: None)
        for peer in (nobody, nobody, address_of(server)):
            client.session.send_datagram(stream, pack_datagram(peer, b"hello"))
        assert _receive(client, server)[0] == b"hello"


def test_an_unknown_address_family_is_refused(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    assert client.ask(OpenUdp(client.session.new_stream(), 5)) == Failed(errno.EAFNOSUPPORT)


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
