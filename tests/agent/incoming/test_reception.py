"""Ways of a connection that the other tests of this folder do not go."""

from __future__ import annotations

import contextlib
import json
import socket
import threading

import h2.config
import h2.connection
import h2.events
import pytest
from mirrord_trace.agent.wire.messages import Done, GetPod, Subscribe


def greet_first(sock):
    sock.sendall(b"220 the container speaks first\r\n")
    sock.sendall(sock.recv(1000))


def echo(sock):
    while said := sock.recv(65536):
        sock.sendall(said)


def ask_while_the_client_runs(client, work):
    done = []
    thread = threading.Thread(target=lambda: done.append(work()))
    thread.start()
    client.until(lambda: not thread.is_alive())
    thread.join()
    return done[0]


def test_a_server_that_speaks_first_passes_a_filter(pod, traffic, start_agent, whole):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(greet_first) as port:
        assert client.ask(Subscribe(port, False, json.dumps({"filter": {"path": "x"}}), False)) == Done()
        sock = traffic.call(port)
        assert sock.recv(100) == b"220 the container speaks first\r\n"
        sock.sendall(b"QUIT\r\n")
        assert whole(sock) == b"QUIT\r\n"
        assert heard(client) == []


def test_bulk_passes_a_filter_unharmed(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    content = b"\0binary" + b"0123456789" * 400_000
    with traffic.container(echo) as port:
        assert client.ask(Subscribe(port, False, json.dumps({"filter": {"path": "x"}}), False)) == Done()
        sock = traffic.call(port)
        sender = threading.Thread(target=lambda: (sock.sendall(content), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        got = bytearray()
        while part := sock.recv(65536):
            got += part
        sender.join()
        sock.close()
        assert got == content


def test_bulk_goes_to_the_client_through_a_filter(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    body = b"0123456789" * 300_000
    with traffic.container(echo) as port:
        assert client.ask(Subscribe(port, False, json.dumps({"filter": {"method": "PUT"}}), False)) == Done()
        sock = traffic.call(port)
        request = b"PUT / HTTP/1.1\r\nHost: pod\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
        sender = threading.Thread(target=sock.sendall, args=(request,))
        sender.start()
        client.until(lambda: bool(client.incoming))
        ours = client.joined(client.incoming.pop().stream)
        assert client.receive(ours, len(request)) == request
        sender.join()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body
        ours.setblocking(True)
        feeder = threading.Thread(target=ours.sendall, args=(answer,))
        feeder.start()

        def receive():
            got = bytearray()
            while part := sock.recv(65536):
                got += part
            return bytes(got)

        assert ask_while_the_client_runs(client, receive) == answer
        feeder.join()
        ours.close()
        sock.close()


def test_what_is_not_in_the_sample_goes_to_the_container(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(echo) as port:
        assert client.ask(Subscribe(port, False, json.dumps({"sample": {"percent": 0}}), False)) == Done()
        with traffic.call(port) as sock:
            sock.sendall(b"hello")
            assert sock.recv(10) == b"hello"
        assert heard(client) == []


def test_a_container_that_is_not_there_is_a_reset(pod, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(echo) as port:
        pass
    assert client.ask(Subscribe(port, True, "", False)) == Done()

    def talk(sock):
        sock.connect(("127.0.0.1", port))
        sock.sendall(b"hello")
        sock.recv(10)
        sock.recv(10)

    with pod.socket() as sock:
        sock.settimeout(10)
        with pytest.raises(ConnectionError):  # whatever call is first to hear of it
            talk(sock)


def serve_http2(sock):
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    sock.sendall(connection.data_to_send())
    while said := sock.recv(65536):
        for event in connection.receive_data(said):
            if isinstance(event, h2.events.RequestReceived):
                connection.send_headers(event.stream_id, [(":status", "200")])
                connection.send_data(event.stream_id, b"the container", end_stream=True)
        sock.sendall(connection.data_to_send())


def ask_http2(sock, user_agent):
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    headers = [(":method", "POST"), (":path", "/grpc.health.v1.Health/Check"), (":scheme", "http"), (":authority", "pod")]
    connection.send_headers(1, [*headers, ("user-agent", user_agent)], end_stream=True)
    sock.sendall(connection.data_to_send())
    content = b""
    while said := sock.recv(65536):
        for event in connection.receive_data(said):
            if isinstance(event, h2.events.DataReceived):
                content += event.data
            if isinstance(event, h2.events.StreamEnded):
                return content
        with contextlib.suppress(OSError):
            sock.sendall(connection.data_to_send())
    return content


def test_grpc_probes_of_the_node_go_to_the_container(pod, neighbour, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(serve_http2, host="10.9.0.1") as port:
        assert client.ask(Subscribe(port, False, "", False)) == Done()
        with neighbour.socket(socket.SOCK_STREAM, socket.AF_INET, "10.9.0.1", port) as sock:
            assert ask_http2(sock, "kube-probe/1.30 grpc-go/1.65") == b"the container"
        assert heard(client) == []
        with neighbour.socket(socket.SOCK_STREAM, socket.AF_INET, "10.9.0.1", port) as sock:
            thread = threading.Thread(target=ask_http2, args=(sock, "grpc-go/1.65"))
            thread.start()
            client.until(lambda: bool(client.incoming))
            sock.shutdown(socket.SHUT_RDWR)
            thread.join()


def heard(client):
    """Connections that the agent has told of up to now: it answers behind what it had to say."""
    client.ask(GetPod())
    return client.incoming
