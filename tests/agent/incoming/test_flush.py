from __future__ import annotations

import socket

import pytest
from mirrord_trace.agent.wire.messages import Done, Subscribe


def echo(sock):
    while True:
        said = sock.recv(1000)
        if not said:
            return
        sock.sendall(said)


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_established_connections_are_reset_when_asked_for(pod, traffic, start_agent, family, host):
    _, client = start_agent(pid=pod.pid)
    how = {"family": family, "host": host}
    with traffic.container(echo, **how) as port, traffic.container(echo, **how) as other_port:
        kept, other = traffic.call(port, **how), traffic.call(other_port, **how)
        for sock in (kept, other):
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"
        assert client.ask(Subscribe(port, False, "", True)) == Done()
        with kept, pytest.raises(ConnectionResetError):
            kept.recv(10)
        with other:
            other.sendall(b"still")
            assert other.recv(10) == b"still"
    assert client.notices == []


def test_without_being_asked_for_they_go_on(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(echo) as port, traffic.call(port) as kept:
        kept.sendall(b"hello")
        assert kept.recv(10) == b"hello"
        assert client.ask(Subscribe(port, False, "", False)) == Done()
        kept.sendall(b"still")
        assert kept.recv(10) == b"still"


def test_what_another_session_passes_on_is_left_alone(pod, traffic, start_agent):
    _, mirror = start_agent(pid=pod.pid)
    _, thief = start_agent(pid=pod.pid)
    with traffic.container(echo) as port:
        assert mirror.ask(Subscribe(port, True, "", False)) == Done()
        with traffic.call(port) as passing:
            passing.sendall(b"hello")
            assert passing.recv(10) == b"hello"
            assert thief.ask(Subscribe(port, False, "", True)) == Done()
            passing.sendall(b"still")
            assert passing.recv(10) == b"still"
