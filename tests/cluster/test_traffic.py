"""A local server takes the place of the pod's own, for as long as it listens, and the pod's answers again afterwards.

Afterwards means: however it ends. Orders by a terminal or a signal; SIGKILL of the tool; SIGKILL of all of it at once, where
nobody is left to tell the agent, whose lease ends it; and the program that only closes its listener and goes on.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import build
import pytest
from mirrord_trace.supervisor.errors import EXIT_OWN_FAILURE

from . import manifests
from .access import Cluster, Pod
from .channel_cut import CutServer
from .kubectl import KubectlError, poll
from .product import EPHEMERAL, POD, Running, Tool

_LEASE_S = 60
_SIDE = "side"

# Serves until it is told a line, then goes on without its listener until its input ends.
_STOPS_LISTENING = """
import socket, sys, threading
listener = socket.create_server(("", 80))
def serve():
    while True:
        try:
            connection, peer = listener.accept()
        except OSError:
            return
        connection.recv(65536)
        body = f"local python for {peer[0]}".encode()
        connection.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
        connection.close()
threading.Thread(target=serve, daemon=True).start()
print("ready 80", flush=True)
sys.stdin.readline()
listener.shutdown(socket.SHUT_RDWR)
listener.close()
print("closed", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def _serving(tool: Tool, kubeconfig: Path | None = None) -> Iterator[Running]:
    with tool.running(build.go_program("server"), ":80", options=["--steal"], kubeconfig=kubeconfig) as run:
        run.await_text(r"ready 80\n")
        yield run


def _ask(cluster: Cluster, asker: Pod, address: str, container: str | None = None) -> str:
    """What a busybox of the cluster gets from there."""
    url = f"http://[{address}]/asked" if ":" in address else f"http://{address}/asked"
    try:
        return cluster.exec(asker, ["wget", "-qO-", url], container=container)
    except KubectlError as error:
        return str(error)


def _own(pod: Pod) -> str:
    return f"pod:{pod.name}\n"


def _local(peer: str) -> str:
    return f"I am the local Go program: GET /asked from {peer}\n"


def _await_own_answer(tool: Tool, visitor: Pod, limit_s: float = 10.0) -> float:
    """Until the pod itself answers again, on each of its addresses; the seconds that took."""
    began = time.monotonic()
    for address in tool.pod.ips:
        expected = _own(tool.pod)
        poll(f"the answer of {address}", lambda: _ask(tool.cluster, visitor, address) == expected or None, limit_s)  # noqa: B023
    return time.monotonic() - began


def test_everybody_reaches_the_local_program(each_tool: Tool, visitor_pod: Pod) -> None:
    cluster, pod = each_tool.cluster, each_tool.pod
    assert _ask(cluster, visitor_pod, pod.ip) == _own(pod)
    with _serving(each_tool) as run:
        # From another pod, with that pod's own address as the peer.
        for target, peer in zip(pod.ips, visitor_pod.ips, strict=True):
            assert _ask(cluster, visitor_pod, target) == _local(peer)
        # By name, as a service is called.
        assert _ask(cluster, visitor_pod, pod.name) in [_local(peer) for peer in visitor_pod.ips]
        # From inside the target pod: loopback, and its own addresses.
        assert _ask(cluster, pod, "127.0.0.1", _SIDE) == _local("127.0.0.1")
        for own in pod.ips:
            assert _ask(cluster, pod, own, _SIDE) == _local(own)
        # Other ports stay the pod's.
        assert cluster.exec(visitor_pod, ["wget", "-qO-", f"http://{pod.ip}:8080/"]) == f"{pod.name}\n"
        run.process.send_signal(signal.SIGTERM)
        assert run.end().status == 0
    _await_own_answer(each_tool, visitor_pod)


def test_ctrl_c_gives_the_port_back(each_tool: Tool, visitor_pod: Pod) -> None:
    controller, terminal = pty.openpty()

    process = subprocess.Popen(
        ["setsid", "--ctty", *each_tool.command(build.go_program("server"), ":80", options=["--steal"])],
        cwd=each_tool.folder,
        env=each_tool.environment(),
        stdin=terminal,
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
    )
    os.close(terminal)
    try:
        run = Running(process)
        run.await_text(r"ready 80\n")
        assert _ask(each_tool.cluster, visitor_pod, each_tool.pod.ip) == _local(visitor_pod.ip)
        os.write(controller, b"\x03")
        assert run.end().status == 0  # The server's own, which ends in order at SIGINT.
    finally:
        process.kill()
        process.wait()
        os.close(controller)
    _await_own_answer(each_tool, visitor_pod)


def test_a_killed_tool_gives_the_port_back(each_tool: Tool, visitor_pod: Pod) -> None:
    with _serving(each_tool) as run:
        assert _ask(each_tool.cluster, visitor_pod, each_tool.pod.ip) == _local(visitor_pod.ip)
        run.process.kill()
        assert run.end().status == -signal.SIGKILL
    _await_own_answer(each_tool, visitor_pod)


def test_a_program_that_stops_listening_gives_the_port_back(each_tool: Tool, visitor_pod: Pod) -> None:
    with each_tool.running(os.path.realpath(sys.executable), "-ISc", _STOPS_LISTENING, options=["--steal"]) as run:
        run.await_text("ready 80\n")
        assert _ask(each_tool.cluster, visitor_pod, each_tool.pod.ip) == f"local python for {visitor_pod.ip}"
        run.say("stop")
        run.await_text("closed\n")
        _await_own_answer(each_tool, visitor_pod)
        assert run.end().status == 0


def test_a_port_is_stolen_once(tool: Tool, visitor_pod: Pod) -> None:
    """The second session is told, and the first goes on."""
    config = tool.folder / "mirrord.json"
    config.write_text('{"feature": {"network": {"incoming": {"mode": "steal", "port_mapping": [[8081, 80]]}}}}')
    with _serving(tool) as run:
        # Another port of this machine, for the same one of the pod.
        mapped = tool.run(build.go_program("server"), "127.0.0.1:8081", options=["-f", config])
        assert mapped.status == 1, mapped
        assert "address already in use" in mapped.err
        assert "port 80 of this pod is stolen by " in mapped.err
        assert _ask(tool.cluster, visitor_pod, tool.pod.ip) == _local(visitor_pod.ip)
        run.process.send_signal(signal.SIGTERM)
        assert run.end().status == 0
    _await_own_answer(tool, visitor_pod)


@pytest.mark.timeout(240)
def test_the_lease_ends_what_nobody_can_end(
    cluster: Cluster, visitor_pod: Pod, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All at the same time, because they wait for the same minute.

    Tool and relay killed, for each kind of agent; and a connection that broke and stays away: the program is ended with a
    clear line.
    """
    tools = {}
    for kind, name in ((POD, "pod"), (EPHEMERAL, "ephemeral"), ("cut", "cut")):
        pod = cluster.create(manifests.target(f"target-{name}-{uuid.uuid4().hex[:8]}"))
        tools[kind] = Tool(cluster, pod, tmp_path, POD if kind == "cut" else kind)
    began = {}
    try:
        for kind in (POD, EPHEMERAL):
            with _serving(tools[kind]) as run:
                assert _ask(cluster, visitor_pod, tools[kind].pod.ip) == _local(visitor_pod.ip)
                relay = run.relay
                # The relay must not see the tool's end, so it is stopped first.
                os.kill(relay, signal.SIGSTOP)
                run.process.kill()
                os.kill(relay, signal.SIGKILL)
                began[kind] = time.monotonic()
                tools[kind].await_processes_gone()
        with (
            CutServer(cluster.kubectl, tmp_path) as server,
            _serving(tools["cut"], server.kubeconfig) as run,
        ):
            server.refuse(True)
            server.cut()
            began["cut"] = time.monotonic()
            ended = run.end(_LEASE_S + 30)
            taken = {"cut: the tool's end": time.monotonic() - began["cut"]}
        assert len(re.findall(rf"could not be resumed within {_LEASE_S} s: .*; ending the program", ended.err)) == 1, ended
        assert "delete it: kubectl -n default delete pod mirrord-trace-agent-" in ended.failure, ended
        assert ended.status == EXIT_OWN_FAILURE, ended
        for kind, used in tools.items():
            _await_own_answer(used, visitor_pod, _LEASE_S + 20)
            taken[f"{kind}: the port"] = time.monotonic() - began[kind]
        with capsys.disabled():
            print("\nlease:", ", ".join(f"{what} after {seconds:.1f} s" for what, seconds in taken.items()))
        for kind, used in tools.items():
            if kind == EPHEMERAL:
                used.assert_nothing_left()
            else:
                _assert_only_an_ended_pod_is_left(used)
    finally:
        for kind, used in tools.items():
            for name in used.agents() if kind != EPHEMERAL else ():
                cluster.kubectl("delete", "pod", name, "-n", "default", "--wait=false", "--ignore-not-found")
            cluster.delete(used.pod)


def _assert_only_an_ended_pod_is_left(tool: Tool) -> None:
    """Nobody was left who could delete it; the next session in the namespace does."""
    tool.await_processes_gone()
    assert tool.rules() == []

    def phases() -> set[str]:
        return {tool.cluster.kubectl.get("pod", name, "-n", "default")["status"]["phase"] for name in tool.agents()}

    poll("the agent's end", lambda: phases() <= {"Succeeded", "Failed"}, 10)
