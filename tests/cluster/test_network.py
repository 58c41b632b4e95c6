"""Networking on a real cluster beyond a plain connect and a plain steal: filters, mirrors, probes, datagrams, HTTP/2."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator

import build
import pytest

from . import manifests
from .access import Cluster, Pod
from .product import Tool

_UDP_PORT = 5353
_HTTP2_PORT = 8082
_PROBES_WATCHED_S = 4.0

# Answers every request with a failure, and says who asked.
_FAILS = """
import http.server
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked", self.path, self.headers["User-Agent"], flush=True)
        self.send_error(503)
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("", 80), Handler)
print("ready 80", flush=True)
server.serve_forever()
"""

_ECHOES_UPPERCASE = """
import socket, sys
bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
bound.bind(("0.0.0.0", int(sys.argv[1])))
print("ready", flush=True)
while True:
    datagram, peer = bound.recvfrom(2048)
    bound.sendto(datagram.upper() + b" for " + peer[0].encode(), peer)
"""

_ASKS = """
import socket, sys
asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
asking.settimeout(10)
asking.sendto(b"hello", (sys.argv[1], int(sys.argv[2])))
answer, peer = asking.recvfrom(2048)
print(answer.decode(), "by", f"{peer[0]}:{peer[1]}")
"""


def _options(tool: Tool, name: str, incoming: object, **network: object) -> list[str]:
    config = tool.folder / f"{name}.json"
    config.write_text(json.dumps({"feature": {"network": {"incoming": incoming, **network}}}))
    return ["-f", str(config)]


def _ask(cluster: Cluster, asker: Pod, url: str, *headers: str) -> str:
    return cluster.exec(asker, ["wget", "-qO-", *(f"--header={header}" for header in headers), url])


def _local(peer: str) -> str:
    return f"I am the local Go program: GET / from {peer}\n"


@pytest.fixture
def python() -> list[str]:
    return [os.path.realpath(sys.executable), "-ISc"]


@pytest.fixture(autouse=True)
def leaves_nothing(tool: Tool) -> Iterator[None]:
    yield
    tool.assert_nothing_left()


def test_two_people_share_a_pod_by_filters(each_tool: Tool, visitor_pod: Pod) -> None:
    """Each gets the requests with a header of theirs, the pod's container the rest; a filter outranks none."""
    cluster, own = each_tool.cluster, f"pod:{each_tool.pod.name}\n"
    url = f"http://{each_tool.pod.ip}/"
    server = build.go_program("server")
    colleague = Tool(cluster, each_tool.pod, each_tool.folder, each_tool.kind)

    def options(user: str, port: int) -> list[str]:
        mode = {"mode": "steal", "port_mapping": [[port, 80]], "http_filter": {"header_filter": f"^x-user: {user}$"}}
        return _options(each_tool, user, mode)

    with each_tool.running(server, "127.0.0.1:8083", options=options("ann", 8083)) as first:
        first.await_text("ready 8083")
        with colleague.running(server, "127.0.0.1:8084", options=options("bob", 8084)) as second:
            second.await_text("ready 8084")
            assert _ask(cluster, visitor_pod, url, "X-User: ann") == _local(visitor_pod.ip)
            assert _ask(cluster, visitor_pod, url, "X-User: bob") == _local(visitor_pod.ip)
            assert _ask(cluster, visitor_pod, url, "X-User: eve") == own
            first.process.send_signal(signal.SIGKILL)
            first.end()
            each_tool.await_processes_gone()
            assert _ask(cluster, visitor_pod, url, "X-User: bob") == _local(visitor_pod.ip)
            second.process.send_signal(signal.SIGTERM)
            assert second.end().status == 0
    assert _ask(cluster, visitor_pod, url, "X-User: bob") == own
    colleague.assert_nothing_left()


def test_a_mirror_disturbs_nobody(each_tool: Tool, visitor_pod: Pod, python: list[str]) -> None:
    with each_tool.running(*python, _FAILS) as run:
        run.await_text("ready 80\n")
        for number in range(3):
            url = f"http://{each_tool.pod.ip}/?{number}"
            assert _ask(each_tool.cluster, visitor_pod, url) == f"pod:{each_tool.pod.name}\n"
            run.await_text(rf"asked /\?{number} Wget")


def test_probes_of_the_kubelet_stay_the_pods(cluster: Cluster, visitor_pod: Pod, tool: Tool, python: list[str]) -> None:
    """A local program that fails every request does not make the pod unready."""
    made = manifests.target(f"probed-{uuid.uuid4().hex[:8]}")
    probe = {"httpGet": {"path": "/", "port": 80}, "periodSeconds": 1, "failureThreshold": 1}
    made["spec"]["containers"][0]["readinessProbe"] = probe
    pod = cluster.create(made)
    probed = Tool(cluster, pod, tool.folder)
    try:
        with probed.running(*python, _FAILS, options=["--steal"]) as run:
            run.await_text("ready 80\n")
            end = time.monotonic() + _PROBES_WATCHED_S
            while time.monotonic() < end:
                # busybox's wget shows no body of a failure: it exits with 1.
                asked = ["sh", "-c", f"wget -qO- http://{pod.ip}/ || echo failed"]
                assert cluster.exec(visitor_pod, asked) == "failed\n"
            run.await_text("asked / Wget")
            assert "kube-probe" not in run.out
            conditions = cluster.kubectl.get("pod", pod.name)["status"]["conditions"]
            ready = next(condition for condition in conditions if condition["type"] == "Ready")
            assert ready["status"] == "True", conditions
        probed.assert_nothing_left()
    finally:
        cluster.delete(pod)


def test_grpc_both_ways(each_tool: Tool, other_pod: Pod) -> None:
    """The server is the local program in the pod's place; its client is the same program in the context of another pod."""
    pair = build.go_program("h2pair")
    asker = Tool(each_tool.cluster, other_pod, each_tool.folder, each_tool.kind)
    with each_tool.running(pair, "serve", f":{_HTTP2_PORT}", options=["--steal"]) as run:
        run.await_text("ready")
        called = asker.run(pair, "call", f"http://{each_tool.pod.ip}:{_HTTP2_PORT}")
    assert called.status == 0, called
    assert called.out.splitlines() == [
        f"unary HTTP/2.0 0 bytes  from {other_pod.ip}: 0, fine",
        f"unary HTTP/2.0 3000000 bytes  from {other_pod.ip}: 0, fine",
        "fails 5",
        'stream 100 lines: 0, last "heard line 99"',
    ], called
    asker.assert_nothing_left()


def test_datagrams_for_the_pod(each_tool: Tool, other_pod: Pod, python: list[str]) -> None:
    """Both ends are supervised: the one in the context of `other` asks the one in the target's."""
    asker = Tool(each_tool.cluster, other_pod, each_tool.folder, each_tool.kind)
    with each_tool.running(*python, _ECHOES_UPPERCASE, str(_UDP_PORT), options=["--steal"]) as run:
        run.await_text("ready\n")
        asked = asker.run(*python, _ASKS, each_tool.pod.ip, str(_UDP_PORT))
    assert asked.out == f"HELLO for {other_pod.ip} by {each_tool.pod.ip}:{_UDP_PORT}\n", asked
    asker.assert_nothing_left()


def test_interfaces_and_routes_are_the_pods(each_tool: Tool) -> None:
    entered = ["ip", "-json", "address"]
    traced = each_tool.run(*entered)
    assert traced.status == 0, traced
    shown = {address["local"] for link in json.loads(traced.out) for address in link["addr_info"]}
    assert {*each_tool.pod.ips, "127.0.0.1"} <= shown
    native = subprocess.run(entered, capture_output=True, text=True, check=True)
    assert not set(each_tool.pod.ips) & {
        address["local"] for link in json.loads(native.stdout) for address in link["addr_info"]
    }


def test_a_filter_by_name_sends_the_rest_from_here(tool: Tool) -> None:
    """Only `other` is reached from the pod; its sibling's name leads nowhere from this machine."""
    config = _options(tool, "names", "off", outgoing={"filter": {"remote": ["other"]}})
    client = build.go_program("client")
    reached = tool.run(client, "http://other/", options=config)
    assert (reached.status, reached.out.splitlines()[0][-9:]) == (0, "pod:other"), reached
    # A lost datagram is asked for again after 5 seconds.
    told = tool.run("curl", "-sS", "--max-time", "20", "http://web/", options=[*config, "--trace"])
    assert re.search(r"connect\(.*:80, .*<local: feature.network.outgoing.filter", told.err), told
