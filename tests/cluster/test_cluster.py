"""The cluster itself: every ability of Kubernetes that the product builds on, used here without the product.

When these pass and a test of the product fails, it is the product.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import manifests
from .access import Cluster, Pod, PodExec
from .components import USERS
from .images import BUSYBOX, PYTHON
from .kubectl import Kubectl, KubectlError, poll
from .layout import NODE

_SLEEP = ["sleep", "2147483647"]
_PYTHON_SLEEP = ["python3", "-c", "import signal; signal.pause()"]


@pytest.fixture(scope="module")
def debugger(cluster: Cluster, target_pod: Pod) -> str:
    """An ephemeral container beside the target's Go server: Python, NET_ADMIN."""
    context = {"capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}
    return cluster.add_ephemeral_container(target_pod, PYTHON, _PYTHON_SLEEP, target="app", securityContext=context)


def _python(cluster: Cluster, pod: Pod, container: str, code: str) -> str:
    return cluster.exec(pod, ["python3", "-ISc", code], container=container)


def test_pod_runs_and_serves(pod_exec: PodExec, visitor_pod: Pod, target_pod: Pod) -> None:
    url = f"http://{target_pod.ip}:{manifests.HTTP_PORT}"
    assert pod_exec(visitor_pod, ["wget", "-qO-", url]) == f"pod:{target_pod.name}\n"
    peer = pod_exec(visitor_pod, ["wget", "-qO-", f"{url}/peer"])
    assert peer.rpartition(":")[0] == visitor_pod.ip


def test_pod_to_pod_by_ipv6(pod_exec: PodExec, visitor_pod: Pod, target_pod: Pod) -> None:
    if target_pod.ipv6 is None:
        pytest.skip("the cluster gives its pods no IPv6 addresses")
    assert pod_exec(visitor_pod, ["wget", "-qO-", f"http://[{target_pod.ipv6}]/"]) == f"pod:{target_pod.name}\n"


@pytest.mark.parametrize("name", ["other", "other.default", "other.default.svc.cluster.local"])
def test_names_resolve_to_pods(pod_exec: PodExec, visitor_pod: Pod, name: str) -> None:
    assert pod_exec(visitor_pod, ["wget", "-qO-", f"http://{name}/"]) == "pod:other\n"


def test_exec_runs_in_the_side_container(pod_exec: PodExec, target_pod: Pod) -> None:
    assert pod_exec(target_pod, ["hostname"], container="side") == f"{target_pod.name}\n"
    with pytest.raises(KubectlError, match="exit code 3"):
        pod_exec(target_pod, ["sh", "-c", "exit 3"], container="side")


def test_port_forward(cluster: Cluster, target_pod: Pod) -> None:
    with (
        cluster.forward(target_pod, manifests.HTTP_PORT) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as reply,
    ):
        assert reply.read().decode() == f"pod:{target_pod.name}\n"
    with (
        cluster.forward(target_pod, manifests.ECHO_PORT) as port,
        socket.create_connection(("127.0.0.1", port), timeout=10) as connection,
    ):
        connection.sendall(b"to the pod and back")
        assert connection.recv(64) == b"to the pod and back"


def test_configuration_reaches_the_target(pod_exec: PodExec, visitor_pod: Pod, target_pod: Pod) -> None:
    def get(path: str) -> str:
        return pod_exec(visitor_pod, ["wget", "-qO-", f"http://{target_pod.ip}{path}"])

    assert get("/env/APP_MODE") == "in-cluster"
    assert get("/env/POD_NAME") == target_pod.name
    assert get("/file?path=/etc/app-config/mode") == "in-cluster"
    assert get("/file?path=/config/settings.json") == '{"origin": "cluster"}\n'
    assert "alias.test" in get("/file?path=/etc/hosts")
    last = manifests.DATA_PARTS - 1
    assert get(f"/file?path=/config/data-{last}.bin") == manifests.data_part(last).decode()


def test_ephemeral_container_sees_the_target(cluster: Cluster, target_pod: Pod, debugger: str) -> None:
    environ = _python(cluster, target_pod, debugger, "print(open('/proc/1/environ').read())")
    assert "APP_GREETING=hello from the pod" in environ.split("\0")
    mode = _python(cluster, target_pod, debugger, "print(open('/proc/1/root/etc/app-config/mode').read())")
    assert mode == "in-cluster\n"
    cgroup = _python(cluster, target_pod, debugger, "print(open('/proc/1/cgroup').read())")
    assert target_pod.container_ids["app"] in cgroup


def test_ephemeral_container_may_change_the_network(cluster: Cluster, target_pod: Pod, debugger: str) -> None:
    # Raising the link's own state is a change that only NET_ADMIN may make and that changes nothing.
    code = (
        "import fcntl, socket, struct\n"
        "s = socket.socket()\n"
        "got = fcntl.ioctl(s, 0x8913, struct.pack('16sH22x', b'lo', 0))\n"
        "fcntl.ioctl(s, 0x8914, got)\n"
        "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\n"
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)\n"
        "print('allowed')\n"
    )
    assert _python(cluster, target_pod, debugger, code) == "allowed\n"


def test_without_net_admin_the_network_stays(cluster: Cluster, target_pod: Pod) -> None:
    name = cluster.add_ephemeral_container(target_pod, BUSYBOX, _SLEEP, target="app")
    with pytest.raises(KubectlError, match="not permitted"):
        cluster.exec(target_pod, ["ip", "link", "set", "lo", "down"], container=name)


def test_agent_image_is_a_bare_python(cluster: Cluster, target_pod: Pod, debugger: str) -> None:
    code = "import asyncio, ctypes, json, shutil, ssl, zlib; print(shutil.which('sh'), shutil.which('nft'))"
    assert _python(cluster, target_pod, debugger, code) == "None None\n"


@pytest.fixture
def privileged_pod(cluster: Cluster) -> Iterator[Pod]:
    container = manifests.python_container("agent", _PYTHON_SLEEP)
    container["securityContext"] = {"privileged": True}
    pod = manifests.pod(f"privileged-{uuid.uuid4().hex[:8]}", [container])
    pod["spec"]["hostPID"] = True
    created = cluster.create(pod)
    yield created
    cluster.delete(created)


def test_privileged_pod_finds_the_target(cluster: Cluster, privileged_pod: Pod, target_pod: Pod) -> None:
    code = (
        "import glob, os\n"
        f"wanted = {target_pod.container_ids['app']!r}\n"
        "pids = [path.split('/')[2] for path in glob.glob('/proc/[0-9]*/cgroup') if wanted in open(path).read()]\n"
        "pid = min(pids, key=int)\n"
        "print(open(f'/proc/{pid}/root/etc/hostname').read().strip(), os.readlink(f'/proc/{pid}/exe'))\n"
    )
    assert _python(cluster, privileged_pod, "agent", code) == f"{target_pod.name} /target\n"


def test_strict_namespace_refuses_privileges(cluster: Cluster) -> None:
    container = manifests.server_container("app")
    container["securityContext"] = {"capabilities": {"add": ["NET_ADMIN"]}}
    pod = manifests.pod("refused", [container])
    pod["metadata"]["namespace"] = manifests.STRICT_NAMESPACE
    with pytest.raises(KubectlError, match="violates PodSecurity"):
        cluster.create(pod)


_RIGHTS = {
    "ephemeral-only": {"get pods", "list pods", "patch pods/ephemeralcontainers", "create pods/portforward"},
    "pods-only": {"get pods", "list pods", "create pods", "delete pods", "create pods/portforward"},
    "none": set[str](),
}
_ALL_RIGHTS = sorted({"create pods/exec", "create jobs.batch", "get secrets"}.union(*_RIGHTS.values()))


def _may(kubectl: Kubectl, right: str) -> bool:
    verb, _, resource = right.partition(" ")
    resource, _, subresource = resource.partition("/")
    return kubectl.run("auth", "can-i", verb, resource, f"--subresource={subresource}", check=False).returncode == 0


@pytest.mark.parametrize("user", USERS)
def test_users_may_what_they_should(cluster: Cluster, kubectl: Kubectl, user: str) -> None:
    kubeconfig = cluster.kubeconfig(user)
    if kubeconfig is None:
        pytest.skip(f"this cluster has no user {user}")
    as_user = Kubectl(kubectl.binary, kubeconfig)
    allowed = {right for right in _ALL_RIGHTS if _may(as_user, right)}
    assert allowed == (set(_ALL_RIGHTS) if user == "full" else _RIGHTS[user])


def test_deployment_has_a_pod(kubectl: Kubectl) -> None:
    poll("the deployment", lambda: kubectl.get("deployment", "web")["status"].get("readyReplicas") == 1)


def test_up_is_idempotent_and_quick(cluster: Cluster) -> None:
    if cluster.layout is None:
        pytest.skip("this is the user's own cluster")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "tests.cluster", "up"], cwd=root, text=True, capture_output=True, check=True, timeout=60
    )
    assert done.stdout == f"{cluster.layout.kubeconfig()}\n"
    assert "the cluster is up" in done.stderr
    assert cluster.kubectl.get("node", NODE)["status"]["nodeInfo"]["kubeletVersion"] == cluster.layout.kubernetes_version
