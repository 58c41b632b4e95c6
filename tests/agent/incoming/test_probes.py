from __future__ import annotations

import socket

import pytest
from mirrord_trace.agent.incoming import probes
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.wire.messages import Done, GetPod, Subscribe

PROBE = b"GET /healthz HTTP/1.1\r\nHost: 10.9.0.1\r\nUser-Agent: kube-probe/1.30\r\nConnection: close\r\n\r\n"
OTHER = PROBE.replace(b"kube-probe", b"curl")


@pytest.mark.parametrize(
    ("said", "ended", "verdict"),
    [
        (PROBE, False, probes.PROBE),
        (PROBE.lower().replace(b"get", b"GET"), False, probes.PROBE),
        (PROBE[:70], False, probes.PROBE),
        (PROBE[:60], False, None),
        (PROBE[:60], True, probes.OTHER),
        (b"", True, probes.PROBE),
        (b"", False, None),
        (b"G", False, None),
        (OTHER, False, probes.OTHER),
        (b"POST / HTTP/1.1\r\nUser-Agent: kube-probe/1\r\n", False, probes.OTHER),
        (b"GET / HTTP/1.1\r\n\r\nUser-Agent: kube-probe/1\r\n", False, probes.OTHER),
        (b"GET /" + b"x" * 4096, False, probes.OTHER),
        (b"PRI * HT", False, None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", False, probes.HTTP2),
        (b"\x16\x03\x01", False, probes.OTHER),
    ],
)
def test_a_probe_is_known_by_its_first_packet(said, ended, verdict):
    assert probes.judge(said, ended) == verdict


def watch(*parts, close=False):
    loop = Loop()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    verdicts = []

    def on_verdict(verdict):
        verdicts.append(verdict)
        loop.stop()

    probes.ProbeWatch(loop, theirs, on_verdict)
    for number, part in enumerate(parts):
        loop.call_later(0.01 * number, lambda part=part: ours.sendall(part))
    if close:
        loop.call_later(0.01 * len(parts), ours.close)
    loop.run()
    left = theirs.recv(4096) if parts else b""
    for sock in (ours, theirs):
        sock.close()
    loop.close()
    return verdicts, left


def test_nothing_is_taken_away_from_who_gets_the_connection():
    assert watch(PROBE[:20], PROBE[20:60], PROBE[60:]) == ([probes.PROBE], PROBE)
    assert watch(OTHER[:20], OTHER[20:]) == ([probes.OTHER], OTHER)


def test_silence_is_no_probe_but_going_away_is():
    assert watch() == ([probes.OTHER], b"")
    assert watch(close=True) == ([probes.PROBE], b"")


def serve(sock):
    sock.recv(1000)
    sock.sendall(b"the container's own")


def test_the_nodes_probes_go_to_the_container_and_all_else_is_stolen(pod, neighbour, traffic, start_agent, whole):
    # The neighbour is the pod's default gateway, as the node is.
    _, client = start_agent(pid=pod.pid)
    with traffic.container(serve, host="10.9.0.1") as port:
        assert client.ask(Subscribe(port, False, "", False)) == Done()

        def call(said):
            sock = neighbour.socket(socket.SOCK_STREAM, socket.AF_INET, "10.9.0.1", port)
            sock.sendall(said)
            return sock

        assert whole(call(PROBE)) == b"the container's own"
        assert heard(client) == []
        stolen = call(OTHER)
        client.until(lambda: bool(client.incoming))
        incoming = client.incoming.pop()
        ours = client.joined(incoming.stream)
        assert client.receive(ours, len(OTHER)) == OTHER
        ours.close()
        stolen.close()

        # From inside the pod nobody is looked at.
        inside = traffic.call(port, host="10.9.0.1")
        inside.sendall(PROBE)
        client.until(lambda: bool(client.incoming))
        inside.close()


def test_probes_are_taken_on_request(pod, neighbour, traffic, start_agent):
    _, client = start_agent(pid=pod.pid)
    with traffic.container(serve, host="10.9.0.1") as port:
        assert client.ask(Subscribe(port, False, '{"probes": "take"}', False)) == Done()
        with neighbour.socket(socket.SOCK_STREAM, socket.AF_INET, "10.9.0.1", port) as sock:
            sock.sendall(PROBE)
            client.until(lambda: bool(client.incoming))


def heard(client):
    """Connections that the agent has told of up to now: it answers behind what it had to say."""
    client.ask(GetPod())
    return client.incoming
