from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakeapi import FakeApi, running_pod, status_object
from mirrord_trace.supervisor.targets.kubernetes import watch as module
from mirrord_trace.supervisor.targets.kubernetes.access import ClusterAccess
from mirrord_trace.supervisor.targets.kubernetes.api import Api
from mirrord_trace.supervisor.targets.kubernetes.settings import KubeSettings
from mirrord_trace.supervisor.targets.kubernetes.watch import PodWatch

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def api(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(module, "_ASK_AGAIN_S", 0.01)
    made = Api(ClusterAccess(KubeSettings(kubeconfig=str(fake_api.kubeconfig(tmp_path)))))
    yield made
    made.close()


def phase(watch: PodWatch) -> str:
    pod = watch.next(5)
    assert pod is not None
    return str(pod["status"]["phase"]) if pod else "gone"


def test_changes_arrive_and_only_the_newest_counts(api: Api, fake_api: FakeApi) -> None:
    pod = running_pod("web")
    fake_api.add_pod(pod)
    watch = PodWatch(api, pod)
    assert watch.next(0) is None
    while not fake_api.watchers:
        watch.next(0.01)
    pod["status"]["phase"] = "Failed"
    fake_api.change(pod)
    assert phase(watch) == "Failed"
    fake_api.change(pod, "DELETED")
    assert phase(watch) == "gone"
    watch.close()


def test_an_old_version_is_no_end(api: Api, fake_api: FakeApi) -> None:
    pod = running_pod("web")
    fake_api.add_pod(pod)
    watch = PodWatch(api, pod)
    while not fake_api.watchers:
        watch.next(0.01)
    fake_api.change(pod, "ERROR")
    assert phase(watch) == "Running"
    watch.close()


def test_without_the_right_to_watch_it_asks(api: Api, fake_api: FakeApi) -> None:
    pod = running_pod("web")
    fake_api.add_pod(pod)
    fake_api.answers["GET", PODS] = (403, status_object(403, "Forbidden", "no watch"))
    watch = PodWatch(api, pod)
    assert phase(watch) == "Running"
    fake_api.pods["default"].clear()
    while phase(watch) != "gone":
        pass
    watch.close()


def test_a_server_that_fails_is_asked_again(api: Api, fake_api: FakeApi) -> None:
    pod = running_pod("web")
    fake_api.add_pod(pod)
    fake_api.answers["GET", PODS] = (500, {})
    fake_api.answers["GET", f"{PODS}/web"] = (500, {})
    watch = PodWatch(api, pod)
    while len(fake_api.requests) < 6:
        assert watch.next(0.01) is None
    del fake_api.answers["GET", f"{PODS}/web"]
    assert phase(watch) == "Running"
    watch.close()
