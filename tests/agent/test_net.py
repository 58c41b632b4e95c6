"""Sockets of the pod, by a real agent in the pod's namespaces."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from mirrord_trace.agent.net import _prepared, from_socket_address, to_socket_address
from mirrord_trace.agent.wire.messages import Address, Connected, ConnectTcp, Failed, GiveUpConnect

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


def test_what_was_said_before_a_reset_arrives(pod, start_agent):
    """Bytes and the reset come in one piece; the server still reads the bytes first."""
    _, client = start_agent(pid=pod.pid)
    with pod.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        for _ in range(20):
            stream = client.session.new_stream()
            client.ask(ConnectTcp(stream, address_of(server)))
            client.session.connection.send_data(stream, b"last words")
            client.session.reset(stream, errno.ECONNRESET)
            client.ask(ConnectTcp(client.session.new_stream(), Address(bytes(4), 0)))  # until it has all come
            accepted, _ = server.accept()
            with accepted:
                assert client.receive(accepted, 10) == b"last words"
                with pytest.raises(ConnectionResetError):
                    accepted.recv(1)


def test_the_source_that_was_asked_for(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    with pod.socket() as server, pod.socket() as taken:
        server.bind(("127.0.0.1", 0))
        server.listen()
        taken.bind(("127.0.0.1", 0))
        peer, source = address_of(server), address_of(taken)
        asked = ConnectTcp(client.session.new_stream(), peer, source, True)
        assert client.ask(asked) == Failed(errno.EADDRINUSE)
        lenient = client.ask(ConnectTcp(client.session.new_stream(), peer, source, False))
        assert lenient.local.ip == source.ip
        assert lenient.local.port != source.port
        taken.close()
        assert client.ask(ConnectTcp(client.session.new_stream(), peer, source, True)).local == source
        elsewhere = Address(bytes((127, 0, 0, 9)), 0)
        assert client.ask(ConnectTcp(client.session.new_stream(), peer, elsewhere)).local.ip == elsewhere.ip
        foreign = Address(bytes((192, 0, 2, 1)), 0)
        assert client.ask(ConnectTcp(client.session.new_stream(), peer, foreign)) == Failed(errno.EADDRNOTAVAIL)


def test_options_of_the_programs_socket():
    options = (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1, socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 42, 77, 77, 77)
    with _prepared(ConnectTcp(1, Address(bytes((127, 0, 0, 1)), 1), options=options)) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 42


def test_a_connect_that_is_given_up_is_answered(pod, start_agent):
    """Nobody answers at the peer: a listener whose queue is full."""
    _, client = start_agent(pid=pod.pid)
    with pod.socket() as full, pod.socket() as filler:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filler.connect(full.getsockname())
        replies = []
        stream = client.session.new_stream()
        client.session.request(ConnectTcp(stream, address_of(full)), replies.append)
        client.ask(ConnectTcp(client.session.new_stream(), Address(bytes((192, 0, 2, 1)), 80)))
        assert replies == []
        client.session.notify(GiveUpConnect(stream))
        client.session.reset(stream, 0)
        client.until(lambda: bool(replies))
        client.session.notify(GiveUpConnect(stream))  # once more does nothing
    assert replies == [Failed(errno.ECANCELED)]
