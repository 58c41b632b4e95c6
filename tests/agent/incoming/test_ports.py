"""Stealing, by a real agent: from inside the pod, from another pod, and what is left afterwards."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import socket
import subprocess
import threading

import pytest
from mirrord_trace.agent.net import from_socket_address
from mirrord_trace.agent.wire.messages import Address, Connected, ConnectTcp, Done, Failed, GetPod, Subscribe, Unsubscribe

LOOPBACKS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@contextlib.contextmanager
def container(pod, family=socket.AF_INET, host="127.0.0.1"):
    """The pod's own server: answers every connection with a greeting. Yields its port."""
    with pod.socket(family, socket.SOCK_STREAM) as server:
        server.bind((host, 0))
        server.listen()
        port = server.getsockname()[1]

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    sock, _ = server.accept()
                    sock.sendall(b"the container's own")
                    sock.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield port
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def read_all(sock):
    sock.settimeout(10)
    with sock:
        parts = []
        while part := sock.recv(1000):
            parts.append(part)
    return b"".join(parts)


def call(pod, host, port, family=socket.AF_INET):
    sock = pod.socket(family, socket.SOCK_STREAM)
    sock.connect((host, port))
    return sock


def take(client):
    """The next stolen connection: (what the agent says about it, a socket joined to it)."""
    client.until(lambda: bool(client.incoming))
    incoming = client.incoming.pop(0)
    return incoming, client.joined(incoming.stream)


@pytest.mark.parametrize(("family", "host"), LOOPBACKS)
def test_a_port_is_stolen_and_given_back_while_a_connection_lives_on(pod, start_agent, family, host):
    _, client = start_agent(pid=pod.pid)
    with container(pod, family, host) as port:
        assert read_all(call(pod, host, port, family)) == b"the container's own"
        assert client.ask(Subscribe(port, False, "", False)) == Done()
        caller = call(pod, host, port, family)
        incoming, ours = take(client)
        assert incoming.port == port
        assert incoming.peer == from_socket_address(caller.getsockname())
        assert incoming.local == Address(socket.inet_pton(family, host), port)
        caller.sendall(b"to whom?")
        assert client.receive(ours, 8) == b"to whom?"

        assert client.ask(Unsubscribe(port)) == Done()
        assert read_all(call(pod, host, port, family)) == b"the container's own"
        ours.sendall(b"still to the client")
        ours.close()
        client.until(lambda: len(peek(caller)) == 19)
        assert read_all(caller) == b"still to the client"


def peek(sock):
    try:
        return sock.recv(1000, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""


def test_the_agents_own_connections_reach_the_container(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    with container(pod) as port:
        assert client.ask(Subscribe(port, False, "", False)) == Done()
        stream = client.session.new_stream()
        answer = client.ask(ConnectTcp(stream, Address(bytes([127, 0, 0, 1]), port)))
        assert isinstance(answer, Connected)
        ours = client.joined(stream)
        assert client.receive(ours, 19) == b"the container's own"
        ours.close()
        assert heard(client) == []


def test_stealing_twice_and_giving_back_what_was_not_stolen_are_harmless(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    with container(pod) as port:
        assert client.ask(Unsubscribe(port)) == Done()
        assert client.ask(Subscribe(port, False, "", False)) == Done()
        assert client.ask(Subscribe(port, False, "", False)) == Done()
        assert client.ask(Unsubscribe(port)) == Done()
        assert read_all(call(pod, "127.0.0.1", port)) == b"the container's own"
        assert client.ask(Subscribe(port, False, "", False)) == Done()
        caller = call(pod, "127.0.0.1", port)
        _, ours = take(client)
        ours.close()
        caller.close()


def test_two_sessions_cannot_steal_one_port(pod, start_agent):
    _, first = start_agent(pid=pod.pid)
    _, second = start_agent(pid=pod.pid)
    assert first.ask(Subscribe(8080, False, "", False)) == Done()
    refused = second.ask(Subscribe(8080, False, "", False))
    assert isinstance(refused, Failed)
    assert refused.errno == errno.EADDRINUSE
    assert "another session" in refused.text
    assert second.ask(Subscribe(8081, False, "", False)) == Done()
    assert first.ask(Unsubscribe(8080)) == Done()
    assert second.ask(Subscribe(8080, False, "", False)) == Done()


def test_a_connection_to_the_agents_own_listener_is_dropped(pod, start_agent):
    _, client = start_agent(pid=pod.pid)
    assert client.ask(Subscribe(8080, False, "", False)) == Done()
    with open(f"/proc/{pod.pid}/net/tcp") as table:
        listening = [line.split()[1] for line in table if " 0A " in line]
    port = int(listening[0].partition(":")[2], 16)
    caller = call(pod, "127.0.0.1", port)
    caller.settimeout(10)
    with caller, pytest.raises(ConnectionResetError):
        caller.recv(1)
    assert heard(client) == []


def test_without_the_right_to_steal_the_remedy_is_told(start_agent):
    if os.geteuid() == 0:
        pytest.skip("root may steal: this needs an ordinary user")
    _, client = start_agent()
    refused = client.ask(Subscribe(8080, False, "", False))
    assert isinstance(refused, Failed)
    assert refused.errno == errno.EPERM
    assert "CAP_NET_ADMIN" in refused.text


@pytest.mark.parametrize(
    ("family", "pod_ip", "caller_ip", "mask"),
    [(socket.AF_INET, "10.9.0.1", "10.9.0.2", 24), (socket.AF_INET6, "fd00:9::1", "fd00:9::2", 64)],
)
def test_another_pod_reaches_the_client_under_its_own_address(pod, start_agent, family, pod_ip, caller_ip, mask):
    joined = join_by_a_wire(pod, f"{pod_ip}/{mask}", f"{caller_ip}/{mask}")
    _, client = start_agent(pid=pod.pid)
    with joined as neighbour, container(pod, family, pod_ip) as port:
        assert read_all(neighbour.socket(family, pod_ip, port)) == b"the container's own"
        assert client.ask(Subscribe(port, False, "", False)) == Done()
        caller = neighbour.socket(family, pod_ip, port)
        incoming, ours = take(client)
        assert incoming.peer == from_socket_address(caller.getsockname())
        assert incoming.peer.ip == socket.inet_pton(family, caller_ip)
        assert incoming.local == Address(socket.inet_pton(family, pod_ip), port)
        ours.close()
        client.until(lambda: not client.session.connection.is_open(incoming.stream) or not peek(caller))
        caller.close()
        assert client.ask(Unsubscribe(port)) == Done()
        assert read_all(neighbour.socket(family, pod_ip, port)) == b"the container's own"


class Neighbour:
    """A network namespace below the pod's user namespace, joined to the pod's by a veth pair."""

    def __init__(self, pod, holder):
        self._pod = pod
        self._holder = holder

    def socket(self, family, host, port):
        """A connection from there."""
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                self._pod.enter()
                fd = os.open(f"/proc/{self._holder}/ns/net", os.O_RDONLY)
                from mirrord_trace.agent import kernel

                kernel.setns(fd, kernel.CLONE_NEWNET)
                sock = socket.socket(family, socket.SOCK_STREAM)
                sock.connect((host, port))
                socket.send_fds(theirs, [b"s"], [sock.fileno()])
            finally:
                os._exit(0)
        theirs.close()
        with ours:
            _, fds, _, _ = socket.recv_fds(ours, 1, 1)
        os.waitpid(child, 0)
        assert fds, "the neighbour could not connect"
        return socket.socket(fileno=fds[0])


@contextlib.contextmanager
def join_by_a_wire(pod, pod_network, caller_network):
    program = shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    unshare = shutil.which("unshare")
    if program is None or unshare is None:
        pytest.skip("ip (iproute2) or unshare (util-linux) is not installed")
    reader, writer = os.pipe()
    ready_reader, ready_writer = os.pipe()
    holder = os.fork()
    if holder == 0:
        try:
            pod.enter()
            os.dup2(reader, 0)
            os.dup2(ready_writer, 1)
            os.execv(unshare, ["unshare", "-n", "sh", "-c", "echo ready; exec cat >&2"])
        finally:
            os._exit(1)
    os.close(reader)
    os.close(ready_writer)
    os.read(ready_reader, 10)
    script = f"""
        set -e
        ip link add inside type veth peer name outside netns {holder}
        ip addr add {pod_network} dev inside nodad && ip link set inside up
        nsenter -t {holder} -n sh -c '
            ip addr add {caller_network} dev outside nodad; ip link set outside up'
    """
    try:
        done = pod.run(lambda: subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False))
        assert done.returncode == 0, done.stderr
        yield Neighbour(pod, holder)
    finally:
        os.close(writer)
        os.close(ready_reader)
        os.waitpid(holder, 0)


def heard(client):
    """Connections that the agent has told of up to now: it answers behind what it had to say."""
    client.ask(GetPod())
    return client.incoming
