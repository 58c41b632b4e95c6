from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakeapi import FakeApi, ForwardPeer, greet, refuse, running_pod, status_object
from mirrord_trace.supervisor.channel.portforward import AgentPort, PortForwardChannel
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.targets.kubernetes.access import ClusterAccess
from mirrord_trace.supervisor.targets.kubernetes.agentstart import AgentWait
from mirrord_trace.supervisor.targets.kubernetes.api import Api
from mirrord_trace.supervisor.targets.kubernetes.settings import KubeSettings

FORWARD = "/api/v1/namespaces/default/pods/agent-1/portforward"


@pytest.fixture
def api(fake_api: FakeApi, tmp_path: Path) -> Iterator[Api]:
    pod = running_pod("agent-1", "agent")
    pod["status"] = {"phase": "Pending"}
    fake_api.add_pod(pod)
    made = Api(ClusterAccess(KubeSettings(kubeconfig=str(fake_api.kubeconfig(tmp_path)))))
    yield made
    made.close()


def wait(api: Api, fake_api: FakeApi, timeout_s: float = 5) -> list[str]:
    progress: list[str] = []
    channel = PortForwardChannel(
        api.access, AgentPort("default", "agent-1", 61000), bytes(32), lambda error: error, lambda: ""
    )
    pod = fake_api.pods["default"]["agent-1"]
    AgentWait(api, pod, None, progress.append).until_ready(channel, timeout_s)
    return progress


def test_the_port_decides_even_if_the_status_is_late(api: Api, fake_api: FakeApi) -> None:
    fake_api.forwards = [refuse, refuse, greet]
    assert wait(api, fake_api) == ["agent: waiting for the node"]
    assert fake_api.forward_count == 3


def test_news_are_told_once(api: Api, fake_api: FakeApi) -> None:
    pod = fake_api.pods["default"]["agent-1"]
    seen = threading.Event()

    def peer(side: ForwardPeer) -> None:
        if fake_api.watchers and not seen.is_set():
            pod["status"]["containerStatuses"] = [{"name": "agent", "state": {"running": {}}}]
            fake_api.change(pod)
            fake_api.change(pod)
            seen.set()
        elif seen.is_set() and fake_api.forward_count > 8:
            greet(side)
            return
        refuse(side)

    fake_api.forwards = [peer]
    assert wait(api, fake_api) == ["agent: waiting for the node", "agent: running"]


def test_a_failure_in_the_status_ends_the_wait(api: Api, fake_api: FakeApi) -> None:
    pod = fake_api.pods["default"]["agent-1"]

    def peer(side: ForwardPeer) -> None:
        if fake_api.watchers:
            waiting = {"reason": "ErrImagePull", "message": "no such image"}
            pod["status"]["containerStatuses"] = [{"name": "agent", "state": {"waiting": waiting}}]
            fake_api.change(pod)
        refuse(side)

    fake_api.forwards = [peer]
    with pytest.raises(UsageError, match="ErrImagePull: no such image"):
        wait(api, fake_api)


def test_a_pod_that_vanishes(api: Api, fake_api: FakeApi) -> None:
    pod = fake_api.pods["default"]["agent-1"]

    def peer(side: ForwardPeer) -> None:
        if fake_api.watchers:
            fake_api.change(pod, "DELETED")
        refuse(side)

    fake_api.forwards = [peer]
    with pytest.raises(UsageError, match="was deleted while the agent started"):
        wait(api, fake_api)


def test_the_time_runs_out_with_the_clusters_last_warning(api: Api, fake_api: FakeApi) -> None:
    fake_api.forwards = [refuse]
    events = {"items": [{"message": "old"}, {"message": "failed to\nset up network"}]}
    fake_api.answers["GET", "/api/v1/namespaces/default/events"] = (200, events)
    with pytest.raises(UsageError, match=r"not ready within 0\.1 s \(last state: waiting") as error:
        wait(api, fake_api, 0.1)
    assert "the cluster says: failed to set up network; raise agent.startup_timeout" in error.value.text


def test_without_the_right_to_list_events(api: Api, fake_api: FakeApi) -> None:
    fake_api.forwards = [refuse]
    fake_api.answers["GET", "/api/v1/namespaces/default/events"] = (403, {})
    with pytest.raises(UsageError, match="not ready within"):
        wait(api, fake_api, 0.05)


def test_without_the_right_to_forward(api: Api, fake_api: FakeApi) -> None:
    message = 'pods "agent-1" is forbidden: User "me" cannot create resource "pods/portforward" in API group ""'
    fake_api.answers["GET", FORWARD] = (403, status_object(403, "Forbidden", message))
    with pytest.raises(UsageError, match="may not create pods/portforward"):
        wait(api, fake_api)


def test_without_a_server(api: Api, fake_api: FakeApi) -> None:
    fake_api.answers["GET", FORWARD] = (401, {})
    with pytest.raises(UsageError, match=r"credentials of context 'fake' \(401\)"):
        wait(api, fake_api)
