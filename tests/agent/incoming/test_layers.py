"""Several agents on one port: who gets what, and who the peer is."""

from __future__ import annotations

import errno
import json
import os
import re
import socket
import threading

import pytest
from mirrord_trace.agent.incoming import layers
from mirrord_trace.agent.net import from_socket_address
from mirrord_trace.agent.nft import AGENT_MARK, FIRST_MARK
from mirrord_trace.agent.wire.messages import Done, Failed, GetPod, Subscribe, Unsubscribe

REQUEST = b"GET /%s HTTP/1.1\r\nHost: pod\r\nConnection: close\r\n\r\n"


def answer(text):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(text), text)


def serve(sock):
    said = b""
    while not said.endswith(b"\r\n\r\n"):
        said += sock.recv(1000)
    sock.sendall(answer(b"the container"))


def header(value):
    return json.dumps({"filter": {"path": value}})


def test_marks_are_within_their_range():
    assert layers.mark_of(1) == FIRST_MARK + 1
    assert layers.mark_of(layers.STEAL_NUMBER) < AGENT_MARK


class Caller(threading.Thread):
    """One request from inside the pod; `got` when it is over."""

    def __init__(self, traffic, port, path, **how):
        super().__init__()
        self.sock = traffic.call(port, **how)
        self.got = b""
        self._request = REQUEST % path
        self.start()

    def run(self):
        self.sock.sendall(self._request)
        self.sock.settimeout(10)
        with self.sock:
            while part := self.sock.recv(1000):
                self.got += part


def finish(client, caller):
    client.until(lambda: not caller.is_alive())
    caller.join()
    return caller.got.rpartition(b"\n")[2]


def serve_one(client, caller, name):
    """Answer the connection that comes to the client."""
    peer = from_socket_address(caller.sock.getsockname())
    client.until(lambda: bool(client.incoming))
    incoming = client.incoming.pop(0)
    assert incoming.peer == peer
    ours = client.joined(incoming.stream)
    client.receive(ours, 10)
    ours.setblocking(True)
    ours.sendall(answer(name))
    ours.shutdown(socket.SHUT_WR)
    got = finish(client, caller)
    ours.close()
    return got


@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_mirror_then_filters_in_order_then_one_thief_then_the_container(pod, traffic, start_agent, family, host):
    how = {"family": family, "host": host}
    _, thief = start_agent(pid=pod.pid, holder="eve@laptop")
    _, first = start_agent(pid=pod.pid)
    _, second = start_agent(pid=pod.pid)
    _, mirror = start_agent(pid=pod.pid)
    with traffic.container(serve, family, host) as port:
        # Whoever comes first, a thief is behind the filters, and a mirror before them.
        assert thief.ask(Subscribe(port, False, "", False)) == Done()
        assert first.ask(Subscribe(port, False, header("first|both"), False)) == Done()
        assert second.ask(Subscribe(port, False, header("second|both"), False)) == Done()
        assert mirror.ask(Subscribe(port, True, "", False)) == Done()

        for path, client, name in (
            (b"first", first, b"client one"),
            (b"both", first, b"client one"),
            (b"second", second, b"client two"),
            (b"other", thief, b"thief"),
        ):
            caller = Caller(traffic, port, path, **how)
            assert serve_one(client, caller, name) == name
            mirror.until(lambda: bool(mirror.incoming))
            copied = mirror.incoming.pop(0)
            assert copied.peer.ip == socket.inet_pton(family, host)
            assert mirror.content(copied.stream) == REQUEST % path
            assert mirror.incoming == []

        assert thief.ask(Unsubscribe(port)) == Done()
        caller = Caller(traffic, port, b"other", **how)
        assert finish(mirror, caller) == b"the container"
        for client in (first, second, thief):
            client.ask(GetPod())  # answered behind all that the agent had to say
            assert client.incoming == []


def test_a_second_thief_is_told_who_has_the_port(pod, start_agent):
    _, eve = start_agent(pid=pod.pid, holder="eve@laptop")
    _, bob = start_agent(pid=pod.pid, holder="bob@desk")
    assert eve.ask(Subscribe(8080, False, "", False)) == Done()
    refused = bob.ask(Subscribe(8080, False, "", False))
    assert isinstance(refused, Failed)
    assert refused.errno == errno.EADDRINUSE
    assert re.fullmatch(r"port 8080 of this pod is stolen by eve@laptop since \d\d:\d\d UTC", refused.text)
    # Not so a filter, or a mirror.
    assert bob.ask(Subscribe(8080, False, header("x"), False)) == Done()
    assert bob.ask(Subscribe(8080, True, "", False)) == Done()


def test_rules_that_make_no_sense_are_refused(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    refused = client.ask(Subscribe(8080, False, '{"filter": {"colour": "red"}}', False))
    assert isinstance(refused, Failed)
    assert refused.errno == errno.EINVAL
    assert "colour" not in os.environ
    assert "header, path" in refused.text
    assert pod.ruleset() == ""
