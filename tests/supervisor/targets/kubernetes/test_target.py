from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakeapi import NODE, FakeApi, greet, running_pod, status_object
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.targets.kubernetes import manifest
from mirrord_trace.supervisor.targets.kubernetes.name import parse
from mirrord_trace.supervisor.targets.kubernetes.settings import AgentSettings, KubeSettings
from mirrord_trace.supervisor.targets.kubernetes.target import KubernetesTarget, near_names

PODS = "/api/v1/namespaces/default/pods"
POD_SECURITY = 'pods "x" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)'
Make = Callable[..., KubernetesTarget]


@pytest.fixture
def make(fake_api: FakeApi, tmp_path: Path) -> Make:
    fake_api.add_pod(running_pod("web", "app", "side"))
    fake_api.forwards = [greet]
    kubeconfig = str(fake_api.kubeconfig(tmp_path))

    def made(text: str = "pod/web", **agent: Any) -> KubernetesTarget:
        settings = AgentSettings(startup_timeout_s=5, **agent)
        return KubernetesTarget(parse(text), KubeSettings(kubeconfig=kubeconfig), settings, ["python3", "-c", ""])

    return made


def agents(fake_api: FakeApi) -> list[str]:
    return [name for name in fake_api.pods["default"] if name.startswith("mirrord-trace-agent-")]


def test_an_agent_pod_is_started_and_deleted(make: Make, fake_api: FakeApi) -> None:
    fake_api.pods["default"]["web"]["status"].update(hostIP="10.0.0.5", hostIPs=[{"ip": "10.0.0.5"}, {"ip": "fd00::5"}])
    target, progress = make(), list[str]()
    channel = target.start(progress.append)
    (name,) = agents(fake_api)
    spec = fake_api.pods["default"][name]["spec"]
    assert spec["nodeName"] == NODE
    variable = spec["containers"][0]["env"][0]
    assert variable["value"].endswith(target.boot_secret.hex())
    assert target.agent_target()["target_is_init"] is False
    assert len(target.agent_target()["container_id"]) == 64
    assert target.agent_target()["nodes"] == ("10.0.0.5", "fd00::5")
    assert target.describe() == "pod/web/container/app"
    assert progress[0].startswith("container app of pod/web")
    assert progress[-1] == "agent: ready"
    channel.open().close()
    target.stop()
    assert agents(fake_api) == []
    target.stop()


def test_an_ephemeral_container_on_request(make: Make, fake_api: FakeApi) -> None:
    target = make("pod/web/container/side", ephemeral=True)
    progress: list[str] = []
    target.start(progress.append)
    (container,) = fake_api.pods["default"]["web"]["spec"]["ephemeralContainers"]
    assert container["targetContainerName"] == "side"
    assert target.agent_target()["target_is_init"] is True
    assert target.describe() == "pod/web/container/side"
    assert not any(line.startswith("container ") for line in progress)
    target.stop()
    assert agents(fake_api) == []
    assert not [path for method, path in fake_api.requests if method == "DELETE"]


def test_a_shared_process_namespace_has_another_init(make: Make, fake_api: FakeApi) -> None:
    fake_api.pods["default"]["web"]["spec"]["shareProcessNamespace"] = True
    target = make(ephemeral=True)
    target.start(lambda _: None)
    assert target.agent_target()["target_is_init"] is False
    target.stop()


def test_without_the_right_to_create_pods_the_ephemeral_container_is_used(make: Make, fake_api: FakeApi) -> None:
    fake_api.denied = {("create", "pods")}
    progress: list[str] = []
    make().start(progress.append)
    assert any("no right to create pods in namespace default; using an ephemeral" in line for line in progress)
    assert not [path for method, path in fake_api.requests if (method, path) == ("POST", PODS)]
    assert "ephemeralContainers" in fake_api.pods["default"]["web"]["spec"]


def test_if_admission_refuses_the_pod_the_ephemeral_container_is_tried(make: Make, fake_api: FakeApi) -> None:
    fake_api.answers["POST", PODS] = (403, status_object(403, "Forbidden", POD_SECURITY))
    progress: list[str] = []
    make().start(progress.append)
    assert any("a privileged pod was refused (Pod Security level 'baseline'" in line for line in progress)
    assert "ephemeralContainers" in fake_api.pods["default"]["web"]["spec"]


def test_if_both_ways_are_refused_both_reasons_are_told(make: Make, fake_api: FakeApi) -> None:
    fake_api.answers["POST", PODS] = (403, status_object(403, "Forbidden", POD_SECURITY))
    fake_api.answers["PATCH", f"{PODS}/web/ephemeralcontainers"] = (403, status_object(403, "Forbidden", "policy"))
    target = make()
    with pytest.raises(UsageError, match=r"refuses both ways .*'baseline'.*\(policy\); set agent\.namespace"):
        target.start(lambda _: None)
    target.stop()


def test_what_the_user_insists_on_is_not_replaced(make: Make, fake_api: FakeApi) -> None:
    fake_api.answers["POST", PODS] = (403, status_object(403, "Forbidden", POD_SECURITY))
    with pytest.raises(UsageError, match=r"privileged pod: refused .*leave agent\.ephemeral unset"):
        make(ephemeral=False).start(lambda _: None)
    assert "ephemeralContainers" not in fake_api.pods["default"]["web"]["spec"]


def test_a_missing_right_to_ephemeral_containers(make: Make, fake_api: FakeApi) -> None:
    message = 'User "me" cannot patch resource "pods/ephemeralcontainers" in API group "" in the namespace "default"'
    fake_api.answers["PATCH", f"{PODS}/web/ephemeralcontainers"] = (403, status_object(403, "Forbidden", message))
    with pytest.raises(UsageError, match="may not patch pods/ephemeralcontainers in namespace default"):
        make(ephemeral=True).start(lambda _: None)


def test_the_agents_namespace(make: Make, fake_api: FakeApi) -> None:
    target = make(namespace="agents")
    target.start(lambda _: None)
    assert len(fake_api.pods["agents"]) == 1
    assert agents(fake_api) == []
    target.stop()
    assert fake_api.pods["agents"] == {}


def test_leftovers_are_deleted(make: Make, fake_api: FakeApi) -> None:
    leftover = running_pod("mirrord-trace-agent-old", labels={manifest.MANAGED_BY: manifest.MANAGER})
    leftover["status"]["phase"] = "Succeeded"
    fake_api.add_pod(leftover)
    fake_api.add_pod(running_pod("mirrord-trace-agent-busy", labels={manifest.MANAGED_BY: manifest.MANAGER}))
    ended = running_pod("job-1")
    ended["status"]["phase"] = "Succeeded"
    fake_api.add_pod(ended)
    target = make()
    target.start(lambda _: None)
    target.stop()
    assert sorted(fake_api.pods["default"]) == ["job-1", "mirrord-trace-agent-busy", "web"]


def test_a_failed_start_is_cleaned_up(make: Make, fake_api: FakeApi) -> None:
    def no_image(pod: dict[str, Any]) -> None:
        state = {"waiting": {"reason": "ErrImagePull"}}
        pod["status"] = {"phase": "Pending", "containerStatuses": [{"name": "agent", "state": state}]}

    fake_api.created = no_image
    target = make()
    with pytest.raises(UsageError, match="ErrImagePull"):
        target.start(lambda _: None)
    assert len(agents(fake_api)) == 1
    target.stop()
    assert agents(fake_api) == []


def test_a_pod_that_cannot_be_deleted_is_named(make: Make, fake_api: FakeApi) -> None:
    target = make()
    target.start(lambda _: None)
    (name,) = agents(fake_api)
    fake_api.answers["DELETE", f"{PODS}/{name}"] = (500, {})
    with pytest.raises(UsageError, match=f"kubectl -n default delete pod {name}"):
        target.stop()


def test_a_pod_that_is_gone_already_is_no_failure(make: Make, fake_api: FakeApi) -> None:
    target = make()
    channel = target.start(lambda _: None)
    (name,) = agents(fake_api)
    assert channel.last_words() == ""
    del fake_api.pods["default"][name]
    assert channel.last_words() == f"pod {name} is gone"
    target.stop()


def test_the_channel_explains_the_end_of_the_agent(make: Make, fake_api: FakeApi) -> None:
    target = make()
    channel = target.start(lambda _: None)
    (name,) = agents(fake_api)
    terminated = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
    fake_api.pods["default"][name]["status"] = {"containerStatuses": [{"name": "agent", "state": terminated}]}
    assert channel.last_words() == "the agent ended (exit status 137, OOMKilled)"
    fake_api.answers["GET", f"{PODS}/{name}"] = (500, {})
    assert channel.last_words() == ""
    fake_api.answers["GET", f"{PODS}/{name}/portforward"] = (404, {})
    with pytest.raises(UsageError, match=f"the agent's pod {name} is gone"):
        channel.open()
    target.stop()


@pytest.mark.parametrize(
    ("name", "words"),
    [("wep", "did you mean web?"), ("zzzzzz", "lists its 1 pods"), ("web-1", "did you mean web?")],
)
def test_no_such_pod(name: str, words: str, make: Make) -> None:
    with pytest.raises(UsageError, match=f"no pod '{name}' in namespace default") as error:
        make(f"pod/{name}").start(lambda _: None)
    assert words in error.value.text


def test_no_such_pod_in_an_empty_namespace(make: Make, fake_api: FakeApi) -> None:
    fake_api.pods["default"].clear()
    with pytest.raises(UsageError, match="which has no pods at all"):
        make().start(lambda _: None)


def test_no_such_pod_and_no_right_to_list(make: Make, fake_api: FakeApi) -> None:
    fake_api.answers["GET", PODS] = (403, {})
    with pytest.raises(UsageError, match="`mirrord-trace ls -n default` lists the targets"):
        make("pod/wep").start(lambda _: None)


def test_no_right_to_read_the_pod(make: Make, fake_api: FakeApi) -> None:
    message = 'pods "web" is forbidden: User "me" cannot get resource "pods" in API group "" in the namespace "default"'
    fake_api.answers["GET", f"{PODS}/web"] = (403, status_object(403, "Forbidden", message))
    with pytest.raises(UsageError, match="cannot read pod web: user 'me' may not get pods"):
        make().start(lambda _: None)


def test_an_unreachable_server(fake_api: FakeApi, tmp_path: Path) -> None:
    fake_api.host = "http://127.0.0.1:1"
    settings = KubeSettings(kubeconfig=str(fake_api.kubeconfig(tmp_path)))
    target = KubernetesTarget(parse("pod/web"), settings, AgentSettings())
    with pytest.raises(UsageError, match="refuses connections; is the cluster running"):
        target.start(lambda _: None)
    target.stop()


def test_near_names() -> None:
    names = ["web-5d4f-abc", "web-5d4f-xyz", "website-1", "db-0"]
    assert near_names("web", names) == ["web-5d4f-abc", "web-5d4f-xyz"]
    assert near_names("db-1", names) == ["db-0"]
    assert near_names("queue", names) == []
