"""Sockets of the pod, by a real agent in the pod's namespaces."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from mirrord_trace.agent.net import from_socket_address, to_socket_address
from mirrord_trace.agent.wire.messages import Address, Connected, ConnectTcp, Failed

LOOPBACKS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


def address_of(sock):
    return from_socket_address(sock.getsockname())


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "::1", "fe80::1:2", "::ffff:10.0.0.1"])
def test_addresses_survive_both_conversions(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address = Address(socket.inet_pton(family, host), 8080)
    assert from_socket_address(to_socket_address(address)) == address


def test_the_scope_of_a_link_local_address_is_left_out():
    assert from_socket_address(("fe80::1%eth0", 1, 0, 2)) == Address(socket.inet_pton(socket.AF_INET6, "fe80::1"), 1)


@pytest.mark.parametrize(("family", "host"), LOOPBACKS)
def test_a_connection_carries_bytes_both_ways_and_half_closes(pod, start_agent, family, host):
    _, client = start_agent(pid=pod.pid)
    with pod.socket(family, socket.SOCK_STREAM) as server:
        server.bind((host, 0))
        server.listen()
        stream = client.session.new_stream()
        answer = client.ask(ConnectTcp(stream, address_of(server)))
        with client.joined(stream) as ours:
            accepted, peer = server.accept()
            with accepted:
                assert isinstance(answer, Connected), answer
                assert answer.peer == address_of(server)
                assert answer.local == from_socket_address(peer)
                ours.sendall(b"question")
                ours.shutdown(socket.SHUT_WR)
                assert client.receive(accepted, 100) == b"question"
                accepted.sendall(b"the answer")
                accepted.close()
                assert client.receive(ours, 100) == b"the answer"


@pytest.mark.parametrize(("family", "host"), LOOPBACKS)
def test_a_refused_connection_has_the_errno_of_the_pod(pod, start_agent, family, host):
    _, client = start_agent(pid=pod.pid)
    with pod.socket(family, socket.SOCK_STREAM) as bound:
        bound.bind((host, 0))
        refused = client.ask(ConnectTcp(client.session.new_stream(), address_of(bound)))
    assert isinstance(refused, Failed)
    assert refused.errno == errno.ECONNREFUSED


def test_an_address_without_a_route_fails_at_once(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    for peer in (Address(bytes([192, 0, 2, 1]), 80), Address(socket.inet_pton(socket.AF_INET6, "2001:db8::1"), 80)):
        assert client.ask(ConnectTcp(client.session.new_stream(), peer)) == Failed(errno.ENETUNREACH)


def test_a_reset_in_the_pod_reaches_the_client(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    with pod.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        stream = client.session.new_stream()
        client.ask(ConnectTcp(stream, address_of(server)))
        ended = []
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        client.session.bridge(stream, theirs, ended.append)
        accepted, _ = server.accept()
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        accepted.close()
        client.until(lambda: bool(ended))
        ours.close()
    assert ended == [errno.ECONNRESET]
