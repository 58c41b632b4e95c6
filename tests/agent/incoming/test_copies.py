"""Mirroring by a real agent: what the client gets, and that it never holds back the original."""

from __future__ import annotations

import threading

from mirrord_trace.agent.net import from_socket_address
from mirrord_trace.agent.wire.messages import Done, Log, Subscribe


def echo(sock):
    while True:
        said = sock.recv(65536)
        if not said:
            return
        sock.sendall(said)


def on_thread(client, work):
    """The result of `work`, done while the client's loop runs."""
    done = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()
    client.until(lambda: not thread.is_alive())
    thread.join()
    return done[0]


def test_the_client_gets_what_the_peer_says_and_the_peer_what_the_container_says(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(echo) as port:
        assert client.ask(Subscribe(port, True, "", False)) == Done()
        caller = traffic.call(port)
        peer = from_socket_address(caller.getsockname())
        caller.sendall(b"hello")
        assert caller.recv(10) == b"hello"
        client.until(lambda: bool(client.incoming))
        incoming = client.incoming.pop()
        assert (incoming.port, incoming.peer) == (port, peer)
        ours = client.joined(incoming.stream)
        ours.sendall(b"to nobody")
        assert client.receive(ours, 5) == b"hello"
        caller.sendall(b"more")
        assert caller.recv(10) == b"more"
        assert client.receive(ours, 4) == b"more"
        caller.close()
        assert client.receive(ours, 1) == b""
        ours.close()


def test_a_client_that_does_not_read_loses_the_copy_and_nothing_else(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    content = b"x" * 65536
    with traffic.container(echo) as port:
        assert client.ask(Subscribe(port, True, "", False)) == Done()
        caller = traffic.call(port)

        def send_all():
            for _ in range(80):  # 5 MiB, beyond any window
                caller.sendall(content)
                left = len(content)
                while left:
                    left -= len(caller.recv(left))
            return True

        assert on_thread(client, send_all)
        client.until(lambda: bool(client.notices))
        (log,) = client.notices
        assert isinstance(log, Log)
        assert f"mirroring port {port}" in log.text
        assert len(client.incoming) == 1
        caller.sendall(b"still")
        assert caller.recv(10) == b"still"
        caller.close()


def test_a_client_that_closes_its_copy_changes_nothing(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(echo) as port:
        assert client.ask(Subscribe(port, True, "", False)) == Done()
        with traffic.call(port) as caller:
            client.until(lambda: bool(client.incoming))
            client.session.reset(client.incoming[0].stream, 0)
            for _ in range(3):
                caller.sendall(b"hello")
                assert caller.recv(10) == b"hello"


def test_sampling_takes_a_share_of_the_connections(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(echo) as port:
        assert client.ask(Subscribe(port, True, '{"sample": {"per_second": 1}}', False)) == Done()
        for _ in range(5):
            with traffic.call(port) as caller:
                caller.sendall(b"hello")
                assert caller.recv(10) == b"hello"
        assert client.ask(Subscribe(port, True, '{"sample": {"percent": 0}}', False)) == Done()
        with traffic.call(port) as caller:
            caller.sendall(b"hello")
            assert caller.recv(10) == b"hello"
        assert client.ask(Subscribe(port, True, '{"sample": {"percent": 0}}', False)) == Done()
        assert 1 <= len(client.incoming) <= 3


def test_a_passing_connection_may_end_in_peace_after_the_session(pod, traffic, start_agent, whole):
    go_on = threading.Event()

    def slow(sock):
        sock.recv(1000)
        go_on.wait(10)
        sock.sendall(b"late answer")

    agent, client = start_agent(pid=pod.pid)
    with traffic.container(slow) as port:
        assert client.ask(Subscribe(port, True, "", False)) == Done()
        caller = traffic.call(port)
        caller.sendall(b"hello")
        client.until(lambda: bool(client.incoming))
        client.cut()
        go_on.set()
        assert whole(caller) == b"late answer"
        assert agent.wait() == 0
        assert pod.ruleset() == ""
