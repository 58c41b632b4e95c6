"""The way to a pod, on a real cluster: an agent of each kind is started, booted and taken away; bulk both ways at once."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

import pytest
from mirrord_trace.agent.bootstrap import payload
from mirrord_trace.agent.options import Options
from mirrord_trace.supervisor.channel.portforward import AgentPort, PortForwardTransport, open_port_forward
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.targets.kubernetes.access import ClusterAccess
from mirrord_trace.supervisor.targets.kubernetes.manifest import SELECTOR
from mirrord_trace.supervisor.targets.kubernetes.name import PodName
from mirrord_trace.supervisor.targets.kubernetes.settings import AgentSettings, KubeSettings
from mirrord_trace.supervisor.targets.kubernetes.target import KubernetesTarget

from .access import Cluster, Pod
from .images import PYTHON

_BULK = 32 * 1024 * 1024
_ECHO_PORT = 7


def _settings(cluster: Cluster, namespace: str | None = None, user: str = "full") -> KubeSettings:
    path: Path | None = cluster.kubeconfig(user)
    return KubeSettings(namespace=namespace, kubeconfig=str(path) if path else None)


def _target(cluster: Cluster, pod: Pod, user: str = "full", **agent: object) -> KubernetesTarget:
    settings = AgentSettings(image=PYTHON, image_pull_policy="Never", **agent)  # type: ignore[arg-type]
    return KubernetesTarget(PodName(pod.name, "app"), _settings(cluster, pod.namespace, user), settings)


def _wait(transport: PortForwardTransport, writing: bool) -> None:
    poller = select.poll()
    poller.register(transport.fileno(), select.POLLIN | (select.POLLOUT if writing or transport.wants_write() else 0))
    assert transport.pending() or poller.poll(30_000), "nothing moves"


def _boot(target: KubernetesTarget, transport: PortForwardTransport) -> None:
    client = payload.BootClient(target.boot_secret, payload.build(Options(lease_s=1, **target.agent_target())))
    output = memoryview(client.output())
    while not client.done or output or transport.wants_write():
        _wait(transport, bool(output))
        try:
            output = output[transport.send(output) :]
        except BlockingIOError:
            continue
        if not client.done:
            try:
                client.receive(transport.recv(65536))
            except BlockingIOError:
                continue
            output = memoryview(client.output())


@pytest.mark.parametrize("ephemeral", [False, True])
def test_an_agent_is_started_and_booted(ephemeral: bool, cluster: Cluster, target_pod: Pod) -> None:
    target = _target(cluster, target_pod, ephemeral=ephemeral)
    try:
        transport = target.start(lambda _: None).open()
        assert target.agent_target()["container_id"] == target_pod.container_ids["app"]
        _boot(target, transport)
        transport.close()
    finally:
        target.stop()


@pytest.mark.parametrize(("user", "words"), [("ephemeral-only", "using an ephemeral container"), ("pods-only", "agent: pod ")])
def test_rights_decide_how_the_agent_runs(user: str, words: str, cluster: Cluster, target_pod: Pod) -> None:
    if not cluster.is_ours:
        pytest.skip("the users with limited rights exist in our own cluster only")
    target = _target(cluster, target_pod, user)
    progress: list[str] = []
    try:
        target.start(progress.append)
    finally:
        target.stop()
    assert any(words in line for line in progress), progress


def test_pod_security_refuses_both_ways_unless_the_agent_lives_elsewhere(cluster: Cluster) -> None:
    if not cluster.is_ours:
        pytest.skip("the namespace with restricted pods exists in our own cluster only")
    pod = cluster.pod("target", "strict")
    target = _target(cluster, pod)
    with pytest.raises(UsageError, match=r"refuses both ways .*'restricted'"):
        target.start(lambda _: None)
    target.stop()
    target = _target(cluster, pod, namespace="default")
    target.start(lambda _: None)
    target.stop()


def test_no_agent_pod_is_left(cluster: Cluster, target_pod: Pod) -> None:
    target = _target(cluster, target_pod, ephemeral=False)
    with pytest.raises(UsageError, match="no container 'nope'"):
        KubernetesTarget(PodName(target_pod.name, "nope"), _settings(cluster, target_pod.namespace), AgentSettings()).start(
            lambda _: None
        )
    target.start(lambda _: None)
    target.stop()
    left = cluster.kubectl.get("pods", "-n", target_pod.namespace, "-l", SELECTOR)["items"]
    mine = [
        pod
        for pod in left
        if pod["metadata"]["annotations"]["mirrord-trace/target"] == f"{target_pod.namespace}/{target_pod.name}"
    ]
    assert all("deletionTimestamp" in pod["metadata"] for pod in mine)


def test_bulk_both_ways_at_once_arrives_whole(cluster: Cluster, target_pod: Pod) -> None:
    access = ClusterAccess(_settings(cluster))
    transport = open_port_forward(access, AgentPort(target_pod.namespace, target_pod.name, _ECHO_PORT))
    block = os.urandom(1 << 20)
    doubled = block + block
    sent = received = 0
    while received < _BULK:
        _wait(transport, sent < _BULK)
        if sent < _BULK:
            start = sent % len(block)
            with contextlib.suppress(BlockingIOError):
                sent += transport.send(memoryview(block)[start : start + _BULK - sent])
        else:
            transport.send(b"")
        try:
            part = transport.recv(1 << 18)
        except BlockingIOError:
            continue
        start = received % len(block)
        assert part == doubled[start : start + len(part)]
        received += len(part)
    transport.close()
