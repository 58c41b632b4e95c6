from __future__ import annotations

from pathlib import Path

from fakeapi import FakeApi
from mirrord_trace.supervisor.targets.kubernetes import rights
from mirrord_trace.supervisor.targets.kubernetes.access import ClusterAccess
from mirrord_trace.supervisor.targets.kubernetes.api import Api
from mirrord_trace.supervisor.targets.kubernetes.settings import KubeSettings


def test_what_is_missing(fake_api: FakeApi, tmp_path: Path) -> None:
    fake_api.denied = {("create", "pods/portforward")}
    api = Api(ClusterAccess(KubeSettings(kubeconfig=str(fake_api.kubeconfig(tmp_path)))))
    assert rights.allowed(api, rights.Right("get", "pods"), "default")
    assert rights.missing(api, rights.CHANNEL, "shop") == (rights.Right("create", "pods/portforward"),)
    review = fake_api.bodies[-1]
    assert isinstance(review, dict)
    assert review["spec"]["resourceAttributes"] == {
        "namespace": "shop",
        "verb": "create",
        "group": "",
        "resource": "pods",
        "subresource": "portforward",
    }
    assert str(rights.CHANNEL[0]) == "get pods/portforward"
    api.close()
