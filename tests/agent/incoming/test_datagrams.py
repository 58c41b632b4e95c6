"""UDP by a real agent: stolen and mirrored, from inside the pod and from another one, and given back."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading

import pytest
from mirrord_trace.agent import claims
from mirrord_trace.agent.net import from_socket_address
from mirrord_trace.agent.wire.frames import pack_datagram, unpack_datagram
from mirrord_trace.agent.wire.messages import Address, DatagramFailed, Done, Failed, SubscribeUdp

FAMILIES = [(socket.AF_INET, "127.0.0.1", "10.9.0.1"), (socket.AF_INET6, "::1", "fd00:9::1")]


@contextlib.contextmanager
def container(pod, family):
    """The pod's own UDP server: answers each datagram with itself, and "!" behind it. Yields its port."""
    reader, writer = os.pipe()
    with pod.socket(family, socket.SOCK_DGRAM) as server:
        server.bind(("", 0))
        port = server.getsockname()[1]

        def serve():
            while server in select.select([server, reader], [], [])[0]:
                datagram, peer = server.recvfrom(65536)
                server.sendto(datagram + b"!", peer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port
        finally:
            os.close(writer)
            thread.join()
            os.close(reader)


def take(client, got):
    client.until(lambda: bool(got))
    return unpack_datagram(got.pop(0))


def subscribe(client, port, mirror=False):
    stream = client.session.new_stream()
    got, ended = [], []
    client.session.datagrams(stream, got.append, ended.append)
    return client.ask(SubscribeUdp(port, mirror, stream)), stream, got


def ask(sock, datagram, where):
    sock.settimeout(10)
    sock.sendto(datagram, where)
    return sock.recvfrom(65536)


@pytest.mark.parametrize(("family", "loopback", "pod_ip"), FAMILIES)
def test_datagrams_come_to_the_client_and_answers_leave_from_the_port(pod, neighbour, start_agent, family, loopback, pod_ip):
    _, client = start_agent(pid=pod.pid)
    with (
        container(pod, family) as port,
        pod.socket(family, socket.SOCK_DGRAM) as inside,
        pod.socket(family, socket.SOCK_DGRAM) as by_own_ip,
        neighbour.socket(socket.SOCK_DGRAM, family) as outside,
    ):
        callers = [(inside, loopback), (by_own_ip, pod_ip), (outside, pod_ip)]
        for sock, host in callers:
            # Flows that the kernel knows already come to the client as well.
            assert ask(sock, b"hello", (host, port))[0] == b"hello!"
        said, stream, got = subscribe(client, port)
        assert said == Done()
        for sock, host in callers:
            for size in (1, 1400, 40000):
                sock.sendto(b"x" * size, (host, port))
                peer, datagram = take(client, got)
                assert len(datagram) == size
                assert peer.port == sock.getsockname()[1]
                sock.setblocking(False)
                assert client.session.send_datagram(stream, pack_datagram(peer, b"answer %d" % size))
                client.until(lambda sock=sock: bool(peek(sock)))
                answer, origin = sock.recvfrom(1000)
                assert answer == b"answer %d" % size
                assert origin[:2] == (host, port)
        assert from_socket_address(("10.9.0.2" if family == socket.AF_INET else "fd00:9::2", peer.port)) == peer
        client.session.reset(stream, 0)
        client.until(lambda: "redirect" not in pod.ruleset())
        for sock, host in callers:
            assert ask(sock, b"again", (host, port))[0] == b"again!"


def peek(sock):
    try:
        return sock.recv(1000, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def test_one_session_at_a_time_has_a_port(pod, start_agent):
    _, eve = start_agent(pid=pod.pid, holder="eve@laptop")
    _, bob = start_agent(pid=pod.pid)
    said, stream, _ = subscribe(eve, 5353)
    assert said == Done()
    refused, _, _ = subscribe(bob, 5353)
    assert isinstance(refused, Failed)
    assert refused.errno == errno.EADDRINUSE
    assert "UDP port 5353 of this pod is stolen by eve@laptop" in refused.text
    eve.session.reset(stream, 0)
    eve.until(lambda: not pod.run(lambda: claims.is_claimed("mirrord_trace_udp_5353")))
    assert subscribe(bob, 5353)[0] == Done()


def test_who_never_spoke_cannot_be_answered(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    _, stream, _ = subscribe(client, 5353)
    stranger = Address(bytes([127, 0, 0, 1]), 9)
    client.session.send_datagram(stream, pack_datagram(stranger, b"hello"))
    client.until(lambda: bool(client.notices))
    assert client.notices == [DatagramFailed(stream, stranger, errno.EHOSTUNREACH)]


@pytest.mark.parametrize(("family", "loopback", "pod_ip"), FAMILIES)
def test_a_mirror_gets_copies_of_what_the_container_answers(pod, neighbour, start_agent, family, loopback, pod_ip):
    _, client = start_agent(pid=pod.pid)
    with (
        container(pod, family) as port,
        pod.socket(family, socket.SOCK_DGRAM) as inside,
        neighbour.socket(socket.SOCK_DGRAM, family) as outside,
    ):
        said, stream, got = subscribe(client, port, mirror=True)
        assert said == Done()
        assert pod.ruleset() == ""
        for sock, host in ((inside, loopback), (outside, pod_ip)):
            for size in (1, 1400, 5000):  # the last in fragments
                assert ask(sock, b"y" * size, (host, port))[0] == b"y" * size + b"!"
                peer, datagram = take(client, got)
                assert datagram == b"y" * size
                assert peer.port == sock.getsockname()[1]
                client.session.send_datagram(stream, pack_datagram(peer, b"to nobody"))
        assert got == []
        client.session.reset(stream, 0)


def test_everything_is_given_back_at_the_end(pod, start_agent):
    agent, client = start_agent(pid=pod.pid)
    with container(pod, socket.AF_INET) as port:
        said, _, _ = subscribe(client, port)
        assert said == Done()
        client.cut()
        assert agent.wait() == 0
        assert pod.ruleset() == ""
        with pod.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            assert ask(sock, b"back", ("127.0.0.1", port))[0] == b"back!"
