"""`mirrord-trace ls` and `mirrord-trace doctor` on a real cluster."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from . import manifests
from .access import Cluster
from .product import Ran, tool


def _command(cluster: Cluster, *words: str, kubeconfig: Path | None = None) -> Ran:
    environment = cluster.kubectl.environment()
    if kubeconfig is not None:
        environment["KUBECONFIG"] = str(kubeconfig)
    done = subprocess.run(
        [*tool(), *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def _user(cluster: Cluster, user: str) -> Path:
    kubeconfig = cluster.kubeconfig(user)
    if kubeconfig is None:
        pytest.skip("the users with limited rights exist in our own cluster only")
    return kubeconfig


def test_ls_shows_the_targets(cluster: Cluster) -> None:
    lines = _command(cluster, "ls").ok().splitlines()
    assert lines[0].split() == ["TARGET", "STATUS", "CONTAINERS"]
    rows = {line.split()[0]: line.split(maxsplit=2)[1:] for line in lines[1:]}
    assert rows["pod/target"] == ["Running", "app, side"]
    assert rows["pod/visitor"] == ["Running", "shell"]
    assert any(name.startswith("pod/web-") for name in rows)
    assert not any(name.startswith("pod/mirrord-trace-agent") for name in rows)


def test_ls_as_json_of_another_namespace(cluster: Cluster) -> None:
    found = json.loads(_command(cluster, "ls", "-n", manifests.STRICT_NAMESPACE, "-o", "json").ok())
    assert {"target": "pod/target", "namespace": "strict", "containers": ["app"], "phase": "Running"} in found


def test_ls_of_nothing(cluster: Cluster) -> None:
    listed = _command(cluster, "ls", "-n", "nowhere")
    assert (listed.ok(), listed.err) == ("", "no pods in namespace nowhere; choose another with -n\n")


def test_ls_without_the_right_to(cluster: Cluster) -> None:
    refused = _command(cluster, "ls", kubeconfig=_user(cluster, "none"))
    assert refused.status == 125
    assert "may not list pods in namespace default (403); ask for a Role" in refused.failure


def _levels(cluster: Cluster, *words: str, user: str = "full") -> tuple[int, dict[str, str]]:
    ran = _command(cluster, "doctor", "-o", "json", *words, kubeconfig=_user(cluster, user) if user != "full" else None)
    return ran.status, {finding["name"]: finding["level"] for finding in json.loads(ran.out)}


def test_doctor_of_an_administrator(cluster: Cluster) -> None:
    text = _command(cluster, "doctor")
    assert "Kubernetes v" in text.out
    status, levels = _levels(cluster)
    for name in ("cluster", "find targets", "channel", "agent as a pod", "agent in the pod", "diagnostics"):
        assert levels[name] == "ok"
    assert status == (1 if "missing" in levels.values() else 0)


@pytest.mark.parametrize(
    ("user", "has", "lacks"),
    [
        ("pods-only", "agent as a pod", "agent in the pod"),
        ("ephemeral-only", "agent in the pod", "agent as a pod"),
    ],
)
def test_doctor_of_who_has_one_way(user: str, has: str, lacks: str, cluster: Cluster) -> None:
    """One way is enough, so nothing is missing."""
    status, levels = _levels(cluster, user=user)
    assert (levels["find targets"], levels["channel"]) == ("ok", "ok")
    assert "missing" not in (levels[has], levels[lacks]), levels
    assert levels[lacks] == "warn"
    assert status == (1 if "missing" in levels.values() else 0)


def test_doctor_of_who_has_no_rights(cluster: Cluster) -> None:
    status, levels = _levels(cluster, user="none")
    assert (status, levels["cluster"]) == (1, "ok")
    assert [levels[name] for name in ("find targets", "channel", "agent as a pod", "agent in the pod")] == ["missing"] * 4


def test_doctor_of_a_restricted_namespace(cluster: Cluster) -> None:
    text = _command(cluster, "doctor", "-n", manifests.STRICT_NAMESPACE).out
    assert "restricted" in text
    status, levels = _levels(cluster, "-n", manifests.STRICT_NAMESPACE, "-a", "default")
    assert levels["agent as a pod"] == "ok"
    assert status == (1 if "missing" in levels.values() else 0)
