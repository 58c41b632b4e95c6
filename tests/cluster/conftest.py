"""Fixtures for tests against a real Kubernetes: the user's own if there is one, or else ours.

- MIRRORD_TRACE_TEST_KUBECONFIG: use that cluster (its nodes need the images, see README.md).
- KUBECONFIG: use that cluster, if it can be told to be one for trying things out.
- MIRRORD_TRACE_KEEP_CLUSTER: leave ours up at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import manifests
from .access import Cluster, Pod, PodExec
from .kubectl import Kubectl, find_kubectl
from .layout import HERE, ClusterUnavailable, Layout, current_layout
from .lifecycle import admin, down, is_healthy, up
from .product import KINDS, Tool


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Marks these tests; the limit on their time leaves out the fixtures, for the first may compile Kubernetes."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.cluster)
        if config.pluginmanager.hasplugin("timeout"):
            item.add_marker(pytest.mark.timeout(func_only=True))


@pytest.fixture(scope="session", autouse=True)
def interrupts() -> Iterator[None]:
    """A shell's background job starts with SIGINT ignored, and so would all that the tests start and interrupt."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A Kubernetes with the pods of manifests.py; skips with what is missing where none can be had."""
    layout = current_layout()
    own = _users_kubeconfig(layout)
    with contextlib.ExitStack() as at_end:
        try:
            used = at_end.enter_context(_users_cluster(layout, own) if own else _our_cluster(layout))
        except ClusterUnavailable as reason:
            pytest.skip(f"no Kubernetes to test against: {reason}")
        yield used


@pytest.fixture(scope="session")
def kubectl(cluster: Cluster) -> Kubectl:
    """``kubectl(*args)`` gives the standard output; ``kubectl.get(*args)`` parsed objects."""
    return cluster.kubectl


@pytest.fixture(scope="session")
def pod_exec(cluster: Cluster) -> PodExec:
    """``pod_exec(pod, argv)`` runs a program in a pod and gives its standard output."""
    return cluster.exec


@pytest.fixture(scope="module")
def target_pod(cluster: Cluster) -> Iterator[Pod]:
    """A pod like `target`, of this test module alone."""
    pod = cluster.create(manifests.target(f"target-{uuid.uuid4().hex[:8]}"))
    yield pod
    cluster.delete(pod)


@pytest.fixture(scope="session")
def visitor_pod(cluster: Cluster) -> Pod:
    """A pod with busybox, to call other pods from."""
    return cluster.pod("visitor")


@pytest.fixture(scope="session")
def other_pod(cluster: Cluster) -> Pod:
    """A pod that serves HTTP, for the target to call."""
    return cluster.pod("other")


@pytest.fixture
def tool(cluster: Cluster, target_pod: Pod, tmp_path: Path) -> Iterator[Tool]:
    """The product, with `target_pod` as its target; after the test nothing of it may be left anywhere."""
    used = Tool(cluster, target_pod, tmp_path)
    yield used
    used.assert_nothing_left()


@pytest.fixture(params=KINDS, ids=["agent-pod", "ephemeral"])
def kind(request: pytest.FixtureRequest) -> str:
    """Each way to run the agent, as the tool's option."""
    return str(request.param)


@pytest.fixture
def each_tool(tool: Tool, kind: str) -> Tool:
    """`tool`, with each kind of agent."""
    tool.kind = kind
    return tool


def _users_kubeconfig(layout: Layout) -> Path | None:
    given = os.environ.get("MIRRORD_TRACE_TEST_KUBECONFIG") or os.environ.get("KUBECONFIG")
    # Who works with our cluster by hand has its kubeconfig exported: that is still ours.
    return Path(given) if given and Path(given).parent != layout.state else None


@contextlib.contextmanager
def _users_cluster(layout: Layout, kubeconfig: Path) -> Iterator[Cluster]:
    binary = find_kubectl(layout)
    if binary is None:
        raise ClusterUnavailable("kubectl is missing")
    kubectl = Kubectl(binary, kubeconfig)
    if "MIRRORD_TRACE_TEST_KUBECONFIG" not in os.environ and not _is_for_trying_out(kubectl):
        raise ClusterUnavailable(
            "KUBECONFIG does not look like a test cluster, and these tests create privileged pods; "
            "name it in MIRRORD_TRACE_TEST_KUBECONFIG if they may, or unset KUBECONFIG"
        )
    manifests.create_for_user(kubectl)
    yield Cluster(kubectl, None)
    manifests.delete_for_user(kubectl)


def _is_for_trying_out(kubectl: Kubectl) -> bool:
    """A developer's KUBECONFIG may well be that of production."""
    view = json.loads(kubectl("config", "view", "--minify", "-o", "json"))
    name, server = view["current-context"], view["clusters"][0]["cluster"]["server"]
    host = urllib.parse.urlsplit(server).hostname or ""
    return name.startswith(("kind-", "k3d-", "minikube")) or host in ("localhost", "127.0.0.1", "::1")


@contextlib.contextmanager
def _our_cluster(layout: Layout) -> Iterator[Cluster]:
    """Whoever brought it up, the last session that uses it takes it down, unless it was up before all of them."""
    layout.cache.mkdir(parents=True, exist_ok=True)
    with open(layout.cache / "cluster.users", "w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        if not is_healthy(layout):
            up(layout, _say)
            layout.ends_with_tests.touch()
        yield Cluster(admin(layout), layout)
        if "MIRRORD_TRACE_KEEP_CLUSTER" in os.environ:
            layout.ends_with_tests.unlink(missing_ok=True)
        fcntl.flock(users, fcntl.LOCK_UN)
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if layout.ends_with_tests.exists():
                down(layout, _say)


def _say(text: str) -> None:
    print(f"cluster: {text}")
