from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakeapi import FakeApi
from mirrord_trace.supervisor.doctor import cluster
from mirrord_trace.supervisor.targets.kubernetes.settings import AgentSettings, KubeSettings

NAMESPACE = "/api/v1/namespaces/default"
Levels = Callable[..., dict[str, str]]


@pytest.fixture
def levels(fake_api: FakeApi, tmp_path: Path) -> Levels:
    kubeconfig = str(fake_api.kubeconfig(tmp_path))

    def ask(**agent: object) -> dict[str, str]:
        settings = AgentSettings(**agent)  # type: ignore[arg-type]
        return {finding.name: finding.level for finding in cluster.findings(KubeSettings(kubeconfig=kubeconfig), settings)}

    return ask


def test_everything_is_allowed(levels: Levels) -> None:
    assert levels() == {
        "cluster": "ok",
        "find targets": "ok",
        "channel": "ok",
        "agent as a pod": "ok",
        "agent in the pod": "ok",
        "diagnostics": "ok",
    }


def test_one_way_to_run_the_agent_is_enough(levels: Levels, fake_api: FakeApi) -> None:
    fake_api.denied = {("create", "pods"), ("list", "events")}
    found = levels()
    assert (found["agent as a pod"], found["agent in the pod"]) == ("warn", "ok")
    assert found["diagnostics"] == "warn"
    fake_api.denied.add(("patch", "pods/ephemeralcontainers"))
    found = levels()
    assert (found["agent as a pod"], found["agent in the pod"]) == ("missing", "missing")


@pytest.mark.parametrize(("ephemeral", "name"), [(True, "agent in the pod"), (False, "agent as a pod")])
def test_the_way_the_user_insists_on_is_needed(ephemeral: bool, name: str, levels: Levels, fake_api: FakeApi) -> None:
    fake_api.denied = {("patch", "pods/ephemeralcontainers"), ("delete", "pods")}
    found = levels(ephemeral=ephemeral)
    assert found[name] == "missing"
    assert len([each for each in found if each.startswith("agent")]) == 1


def test_port_forward_is_needed(levels: Levels, fake_api: FakeApi) -> None:
    fake_api.denied = {("create", "pods/portforward")}
    assert levels()["channel"] == "missing"


def test_pod_security(levels: Levels, fake_api: FakeApi) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    fake_api.answers["GET", NAMESPACE] = (200, {"metadata": {"labels": labels}})
    assert levels()["agent as a pod"] == "missing"
    found = levels(namespace="agents")
    assert (found["agent as a pod"], found["agent in the pod"]) == ("ok", "warn")


def test_without_the_right_to_read_the_namespace(levels: Levels, fake_api: FakeApi) -> None:
    fake_api.answers["GET", NAMESPACE] = (403, {})
    assert levels()["agent as a pod"] == "ok"


def test_a_server_that_refuses(levels: Levels, fake_api: FakeApi) -> None:
    fake_api.token = "changed"
    assert levels() == {"cluster": "missing"}


def test_no_kubeconfig_is_only_a_warning(tmp_path: Path) -> None:
    settings = KubeSettings(kubeconfig=str(tmp_path / "none"))
    (finding,) = cluster.findings(settings, AgentSettings())
    assert finding.level == "warn"
    assert "no kubeconfig at" in finding.what
