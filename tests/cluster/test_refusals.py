"""What cannot work, and what the rights of a user or the rules of a namespace leave: one clear line each, or it just works."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import time
from pathlib import Path

import build
import pytest
from mirrord_trace.supervisor.channel.portforward import AgentPort, PortForwardTransport, open_port_forward
from mirrord_trace.supervisor.errors import EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_OWN_FAILURE, EXIT_USAGE
from mirrord_trace.supervisor.targets.kubernetes.access import ClusterAccess
from mirrord_trace.supervisor.targets.kubernetes.settings import KubeSettings

from . import manifests
from .access import Cluster, Pod
from .kubectl import poll
from .product import EPHEMERAL, KINDS, POD, Ran, Tool, busybox

_NO_IMAGE = "registry.invalid/python:3"


def _refused(ran: Ran, *words: str, status: int = EXIT_OWN_FAILURE) -> None:
    """Its last words are one line with all of `words`, and the program did not run."""
    assert ran.status == status, ran
    assert ran.out == "", ran
    assert "Traceback" not in ran.err, ran
    for word in words:
        assert word in ran.failure, ran
    assert ran.err.rstrip("\n").splitlines()[-1] == f"mirrord-trace: {ran.failure}", ran


def _echo(tool: Tool, **more: object) -> Ran:
    return tool.run(busybox(), "echo", "ran", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("pod/targe", [], ["no pod 'targe' in namespace default", "did you mean target"]),
        ("pod/other/container/nope", [], ["no container 'nope'", "it has: app"]),
        ("pod/web", [], ["no pod 'web'", "did you mean web-"]),
        (
            "pod/other",
            ["-n", manifests.STRICT_NAMESPACE],
            ["no pod 'other' in namespace strict", "`mirrord-trace ls -n strict`"],
        ),
        ("pod/other", ["-n", "nowhere"], ["no pod 'other' in namespace nowhere", "choose the namespace with -n"]),
        ("pod/other", ["--context", "nope"], ["there is no context 'nope'", "it has: "]),
        ("pod/other", ["--kubeconfig", "/nonexistent/config"], ["no kubeconfig at /nonexistent/config", "--kubeconfig"]),
    ],
)
def test_no_such_target(target: str, options: list[str], words: list[str], tool: Tool) -> None:
    tool.kind = ""
    _refused(_echo(tool, target=target, options=options), *words)


def test_an_unknown_kind_of_target(tool: Tool) -> None:
    _refused(_echo(tool, target="node/x"), "node/x", status=EXIT_USAGE)


@pytest.mark.parametrize(
    ("program", "status"), [("/nonexistent/program", EXIT_NOT_FOUND), ("/etc/passwd", EXIT_NOT_EXECUTABLE)]
)
def test_a_program_that_cannot_run(program: str, status: int, tool: Tool) -> None:
    _refused(tool.run(program), program, status=status)


def _kubeconfig_for(tool: Tool, server: str) -> Path:
    view = json.loads(tool.cluster.kubectl("config", "view", "--minify", "--flatten", "--raw", "-o", "json"))
    view["clusters"][0]["cluster"]["server"] = server
    file = tool.folder / "kubeconfig"
    file.write_text(json.dumps(view))
    return file


def test_an_api_server_that_is_not_there(tool: Tool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    _refused(
        _echo(tool, kubeconfig=_kubeconfig_for(tool, f"https://127.0.0.1:{port}")),
        f"the API server https://127.0.0.1:{port}",
        "refuses connections; is the cluster running",
    )
    _refused(_echo(tool, kubeconfig=_kubeconfig_for(tool, "https://nowhere.invalid")), "cannot be resolved")


def test_an_api_server_that_is_none(tool: Tool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with tool.running(busybox(), "echo", "ran", kubeconfig=_kubeconfig_for(tool, address)) as run:
            # It says something that is no TLS.
            connection, _ = silent.accept()
            with connection:
                connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
            silent.settimeout(0.2)
            while run.process.poll() is None:  # whoever tries again hears the same
                with contextlib.suppress(TimeoutError):
                    again, _ = silent.accept()
                    again.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                    again.close()
            _refused(run.end(), address)


# -- rights ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "kind", "words"),
    [
        ("none", "", ["may not get pods in namespace default (403)", "ask for a Role"]),
        ("pods-only", "", []),
        ("pods-only", EPHEMERAL, ["may not patch pods/ephemeralcontainers", "ask for a Role that allows patch"]),
        ("ephemeral-only", "", []),
        ("ephemeral-only", POD, ["may not create pods in namespace default (403)", "ask for a Role that allows create"]),
    ],
)
def test_rights(user: str, kind: str, words: list[str], tool: Tool) -> None:
    kubeconfig = tool.cluster.kubeconfig(user)
    if kubeconfig is None:
        pytest.skip("the users with limited rights exist in our own cluster only")
    tool.kind = kind
    ran = _echo(tool, kubeconfig=kubeconfig)
    if words:
        _refused(ran, *words)
    else:
        assert ran.ok() == "ran\n"


# -- the agent's image ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=["agent-pod", "ephemeral"])
def test_an_image_that_is_not_there(kind: str, tool: Tool) -> None:
    # In a pod of its own, since an ephemeral container that cannot start stays in its status for ever.
    tool.kind = kind
    began = time.monotonic()
    ran = _echo(tool, image=_NO_IMAGE)
    _refused(ran, f"cannot get the agent's image {_NO_IMAGE} (", "set agent.image")
    assert re.search(r"ErrImagePull|ImagePullBackOff", ran.failure), ran
    print(f"told after {time.monotonic() - began:.1f} s")


def test_an_image_without_python(tool: Tool) -> None:
    _refused(_echo(tool, image="docker.io/local/busybox:1"), "docker.io/local/busybox:1 has no python3; set agent.image")


# -- a namespace with Pod Security 'restricted' ---------------------------------------------------------------------------


@pytest.fixture
def strict(cluster: Cluster, tmp_path: Path) -> Tool:
    if not cluster.is_ours:
        pytest.skip("the namespace with restricted pods exists in our own cluster only")
    return Tool(cluster, cluster.pod("target", manifests.STRICT_NAMESPACE), tmp_path, "")


@pytest.mark.parametrize("kind", ["", *KINDS], ids=["default", "agent-pod", "ephemeral"])
def test_restricted_namespace_refuses_the_agent(kind: str, strict: Tool) -> None:
    strict.kind = kind
    _refused(_echo(strict), "refuse", "'restricted'", "set agent.namespace to a namespace that allows privileged pods")


def test_restricted_namespace_with_the_agent_elsewhere(strict: Tool, visitor_pod: Pod) -> None:
    """Context, outgoing and incoming traffic of a pod without any right of its own: uid 1000, no capabilities."""
    port = 8000
    script = f"""
        hostname; echo "$APP_GREETING"; wget -qO- http://other.default/
        exec {build.go_program("server")} :{port}
    """
    with strict.running(busybox(), "sh", "-c", script, options=["-a", "default", "--steal"]) as run:
        run.await_text(f"ready {port}\n")
        ask = ["wget", "-qO-", f"http://{strict.pod.ip}:{port}/"]
        answer = strict.cluster.exec(visitor_pod, ask)
        assert answer == f"I am the local Go program: GET / from {visitor_pod.ip}\n"
        run.process.terminate()
        ended = run.end()
    assert ended.ok() == f"target\nhello from the strict pod\npod:other\nready {port}\n"
    poll("the pod's own answer", lambda: strict.cluster.exec(visitor_pod, ask) == "pod:target\n" or None, 10)
    strict.assert_nothing_left()


# -- somebody else at the agent's port ------------------------------------------------------------------------------------

_GARBAGE = (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\0" * 100, b"MTBOOT1\n", b"")


def test_garbage_at_the_agents_port(each_tool: Tool) -> None:
    """Before the client comes, and while it works: whoever cannot prove what they are is dropped, and nobody suffers."""
    tool = each_tool
    script = "echo up; read line; wget -qO- http://other/"
    before = _agent_ports(tool)
    with tool.running(busybox(), "sh", "-c", script) as run:
        port = poll("the agent's port", lambda: _new_port(tool, before), 20)
        # From the moment that somebody answers, in a race with the client: the loader hears it, or the agent.
        poll("the agent's loader", lambda: _speaks(_say(tool, port, bytes(32))) or "up" in run.out or None, 20)
        for garbage in _GARBAGE:
            _say(tool, port, garbage).close()
        idle = [_say(tool, port, b"")]  # It stays and says nothing.
        run.await_text("up\n")
        idle += [_say(tool, port, garbage) for garbage in _GARBAGE]
        run.say("go")
        ended = run.end()
        for connection in idle:
            connection.close()
    assert (ended.status, ended.out) == (0, "up\npod:other\n"), ended


def _agent_ports(tool: Tool) -> dict[str, AgentPort]:
    """Every agent's port by the agent's name, as its specification says: before the cluster knows that it runs."""
    target = f"{tool.pod.namespace}/{tool.pod.name}"
    found = {}
    for pod in tool.cluster.kubectl.get("pods", "-n", tool.pod.namespace)["items"]:
        name = pod["metadata"]["name"]
        if name != tool.pod.name and pod["metadata"].get("annotations", {}).get("mirrord-trace/target") != target:
            continue
        for container in [*pod["spec"]["containers"], *pod["spec"].get("ephemeralContainers", [])]:
            for variable in container.get("env", []):
                if variable["name"] == "MIRRORD_TRACE_BOOT":
                    port = int(variable["value"].partition(":")[0])
                    found[f"{name}/{container['name']}"] = AgentPort(tool.pod.namespace, name, port)
    return found


def _new_port(tool: Tool, before: dict[str, AgentPort]) -> AgentPort | None:
    return next((port for name, port in _agent_ports(tool).items() if name not in before), None)


def _speaks(transport: PortForwardTransport) -> bool:
    try:
        return transport.wait_readable(5)
    except OSError:
        return False
    finally:
        transport.close()


def _say(tool: Tool, port: AgentPort, what: bytes) -> PortForwardTransport:
    kubeconfig = tool.cluster.kubectl.kubeconfig
    access = ClusterAccess(KubeSettings(kubeconfig=str(kubeconfig) if kubeconfig else None))

    def opened() -> PortForwardTransport | None:
        try:
            return open_port_forward(access, port)
        except OSError:
            return None  # The pod does not run yet.

    transport = poll("a connection to the agent", opened, 10)
    with contextlib.suppress(OSError):
        transport.send(what)
        transport.flush()
    return transport
