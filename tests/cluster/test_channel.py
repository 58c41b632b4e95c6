"""The way to the agent breaks, and the agent dies: nothing is lost in the first case, nothing hangs in the second."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import build
import pytest
from mirrord_trace.supervisor.errors import EXIT_OWN_FAILURE

from .access import Pod
from .channel_cut import CutServer
from .kubectl import KubectlError, poll
from .product import EPHEMERAL, POD, Ran, Tool, busybox, node_pids

_BULK = 20_000_000
_SOON_S = 20.0

# Sends and receives at the same time, and compares every byte.
_BOTH_WAYS = """
import random, socket, sys, threading
sent = random.Random(1).randbytes(int(sys.argv[2]))
with socket.create_connection((sys.argv[1], 7), timeout=100) as connection:
    def send():
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
    sender = threading.Thread(target=send)
    sender.start()
    back = bytearray()
    while part := connection.recv(1 << 18):
        back += part
    sender.join()
print(len(back), back == sent)
"""


@pytest.fixture
def server(each_tool: Tool, tmp_path: Path) -> Iterator[CutServer]:
    with CutServer(each_tool.cluster.kubectl, tmp_path) as started:
        yield started


def _broken(err: str) -> int:
    return len(re.findall(r"(?m)^mirrord-trace: the connection to the agent of \S+ broke \(.*\); trying to resume it$", err))


def _back(err: str) -> int:
    return len(re.findall(r"(?m)^mirrord-trace: the connection to the agent of \S+ is back$", err))


def _resumed(ended: Ran, cuts: int) -> None:
    assert (_broken(ended.err), _back(ended.err)) == (cuts, cuts), ended


def test_cut_in_the_middle_of_a_transfer(each_tool: Tool, server: CutServer, other_pod: Pod) -> None:
    python = os.path.realpath(sys.executable)
    with each_tool.running(
        busybox(), "sh", "-c", 'read go; exec "$@"', "sh", python, "-ISc", _BOTH_WAYS, other_pod.ip, str(_BULK),
        kubeconfig=server.kubeconfig,
    ) as run:  # fmt: skip
        poll("the program", lambda: _runs_busybox(each_tool) or None, 30)
        # Counted both ways: at the start, in the middle, near the end.
        server.cut_after(100_000, _BULK, 2 * _BULK - 3_000_000)
        run.say("go")
        ended = run.end(100)
    assert ended.status == 0, ended
    assert ended.out == f"{_BULK} True\n"
    assert server.cuts == 3
    _resumed(ended, 3)


def _runs_busybox(tool: Tool) -> bool:
    return any(str(busybox()) in line and " -t " not in line for line in tool.processes())


def test_cut_while_idle(each_tool: Tool, server: CutServer) -> None:
    script = "while read line; do wget -qO- http://other/; done; echo end"
    with each_tool.running(busybox(), "sh", "-c", script, kubeconfig=server.kubeconfig) as run:
        run.say("first")
        run.await_text("pod:other\n")
        assert server.cut() == 1
        run.await_text("is back", "err")
        run.say("second")
        run.await_text("pod:other\npod:other\n")
        # Nobody answers for a while, and the program asks in the meantime.
        server.refuse(True)
        assert server.cut() == 1
        poll("the second break", lambda: _broken(run.err) == 2 or None, 10)
        run.say("third")
        server.refuse(False)
        run.await_text("pod:other\npod:other\npod:other\n")
        ended = run.end()
    assert (ended.status, ended.out) == (0, "pod:other\n" * 3 + "end\n")
    _resumed(ended, 2)


def test_cut_while_serving(each_tool: Tool, server: CutServer, visitor_pod: Pod) -> None:
    """Visitors that come while the connection is away are served when it is back."""
    cluster = each_tool.cluster
    with each_tool.running(build.go_program("server"), ":80", options=["--steal"], kubeconfig=server.kubeconfig) as run:
        run.await_text("ready 80\n")
        server.refuse(True)
        server.cut()
        run.await_text("trying to resume it", "err")
        asked = ["sh", "-c", f"wget -qO- http://{each_tool.pod.ip}/waited & sleep 1; echo waiting; wait"]
        with _later(lambda: server.refuse(False), 1.0):
            answer = cluster.exec(visitor_pod, asked)
        assert answer.splitlines() == ["waiting", f"I am the local Go program: GET /waited from {visitor_pod.ip}"]
        run.process.send_signal(signal.SIGTERM)
        ended = run.end()
    assert ended.status == 0
    _resumed(ended, 1)


@contextlib.contextmanager
def _later(work: Callable[[], None], after_s: float) -> Iterator[None]:
    timer = threading.Timer(after_s, work)
    timer.start()
    try:
        yield
    finally:
        timer.join()


# -- the agent dies ---------------------------------------------------------------------------------------------------


def _agent_processes(tool: Tool, name: str) -> list[int]:
    """The agent's processes of that name (PR_SET_NAME), as this machine numbers them."""
    pod = tool.agents()[0]
    if tool.kind == POD:
        containers = tool.cluster.pod(pod, tool.pod.namespace).container_ids
        identifier = containers["agent"]
    else:
        identifier = tool.cluster.pod(tool.pod.name, tool.pod.namespace).container_ids[pod]
    return [pid for pid in node_pids(identifier) if Path(f"/proc/{pid}/comm").read_text().strip() == name]


def _kill_worker(tool: Tool) -> None:
    (worker,) = _agent_processes(tool, "mirrord-agent")
    os.kill(worker, signal.SIGKILL)


def _kill_guard(tool: Tool) -> None:
    (guard,) = _agent_processes(tool, "mirrord-guard")
    os.kill(guard, signal.SIGKILL)


def _delete_pod(tool: Tool) -> None:
    (name,) = tool.agents()
    tool.cluster.kubectl("delete", "pod", name, "-n", tool.pod.namespace, "--wait=false")


_KILLED = r"the agent ended \(exit status 137"
_ASKED = "the agent was asked to end"

# Accepts and never answers, so that visitors wait.
_SILENT = """
import socket
listener = socket.create_server(("", 80))
print("ready", flush=True)
held = []
while True:
    held.append(listener.accept())
    print("held", flush=True)
"""


@pytest.mark.parametrize(
    ("kind", "kill", "reasons"),
    [
        (POD, _kill_worker, _KILLED),
        (POD, _kill_guard, f"{_KILLED}|{_ASKED}"),  # The worker ends in order, if its container leaves it the time.
        (POD, _delete_pod, _ASKED),
        (EPHEMERAL, _kill_worker, _KILLED),
        (EPHEMERAL, _kill_guard, f"{_KILLED}|{_ASKED}"),
    ],
    ids=["agent-pod-worker", "agent-pod-guard", "agent-pod-deleted", "ephemeral-worker", "ephemeral-guard"],
)
def test_the_agent_is_killed(kind: str, kill: Callable[[Tool], None], reasons: str, tool: Tool, visitor_pod: Pod) -> None:
    """One line that says why, the program is ended, visitors are told, the port is the pod's own again at once."""
    if kill is not _delete_pod and not tool.cluster.is_ours:
        pytest.skip("the agent's processes can be found on a node of our own only")
    tool.kind = kind
    url = f"http://{tool.pod.ip}/"
    with (
        tool.running(os.path.realpath(sys.executable), "-ISc", _SILENT, options=["--steal"]) as run,
        ThreadPoolExecutor() as threads,
    ):
        run.await_text("ready\n")
        waiting = threads.submit(tool.cluster.exec, visitor_pod, ["wget", "-qO-", url], timeout_s=_SOON_S)
        run.await_text("held\n")
        kill(tool)
        began = time.monotonic()
        ended = run.end(_SOON_S)
        taken = time.monotonic() - began
        with pytest.raises(KubectlError, match="exit code 1"):
            waiting.result()
    assert ended.status == EXIT_OWN_FAILURE, ended
    lines = [line for line in ended.err.splitlines() if line.endswith("; ending the program")]
    assert len(lines) == 1, ended
    assert re.search(reasons, lines[0]), ended
    own = f"pod:{tool.pod.name}\n"
    poll("the pod's own answer", lambda: tool.cluster.exec(visitor_pod, ["wget", "-qO-", url]) == own or None, 5)
    print(f"ended after {taken:.1f} s: {lines[0]}")


def test_curl_fails_when_the_agent_dies_under_it(tool: Tool) -> None:
    """A transfer under way ends by an error, not by silence."""
    curl = shutil.which("curl")
    assert curl, "no curl: install it (apt-get install curl)"
    with tool.running(curl, "-sS", "-o", "/dev/null", "--limit-rate", "1M", "http://other/bytes?n=2000000000") as run:
        poll("the transfer", lambda: any(curl in line and " -t " not in line for line in tool.processes()) or None, 30)
        _delete_pod(tool)
        assert run.end(_SOON_S).status == EXIT_OWN_FAILURE
