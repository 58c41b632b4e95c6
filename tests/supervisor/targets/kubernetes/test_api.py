from __future__ import annotations

import base64
import contextlib
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
import yaml
from certificates import self_signed
from fakeapi import FakeApi, kubeconfig, running_pod, serve, status_object
from mirrord_trace.supervisor.targets.kubernetes.access import ClusterAccess
from mirrord_trace.supervisor.targets.kubernetes.api import STRATEGIC_MERGE, Api, ApiError
from mirrord_trace.supervisor.targets.kubernetes.failures import explain
from mirrord_trace.supervisor.targets.kubernetes.settings import KubeSettings

PODS = "/api/v1/namespaces/default/pods"


@pytest.fixture
def api(fake_api: FakeApi, tmp_path: Path) -> Api:
    return Api(ClusterAccess(KubeSettings(kubeconfig=str(fake_api.kubeconfig(tmp_path)))))


def test_objects_are_plain_dictionaries(api: Api, fake_api: FakeApi) -> None:
    fake_api.add_pod(running_pod("web"))
    assert api.get(f"{PODS}/web")["metadata"]["name"] == "web"
    assert [item["metadata"]["name"] for item in api.get(PODS, labelSelector="a!=b,c!=d")["items"]] == ["web"]
    assert fake_api.requests[-1] == ("GET", f"{PODS}?labelSelector=a%21%3Db%2Cc%21%3Dd")
    api.close()


def test_create_patch_and_delete(api: Api, fake_api: FakeApi) -> None:
    assert api.create(PODS, running_pod("web"))["metadata"]["namespace"] == "default"
    api.patch(f"{PODS}/web/ephemeralcontainers", {"spec": {"ephemeralContainers": [{"name": "x"}]}})
    assert fake_api.pods["default"]["web"]["spec"]["ephemeralContainers"] == [{"name": "x"}]
    api.delete(f"{PODS}/web", 1)
    assert fake_api.bodies[-1] == {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 1}
    assert fake_api.pods["default"] == {}
    assert "strategic-merge" in STRATEGIC_MERGE
    api.close()


def test_a_failure_brings_the_servers_words(api: Api) -> None:
    with pytest.raises(ApiError) as error:
        api.get(f"{PODS}/nope")
    assert (error.value.status, error.value.reason) == (404, "NotFound")
    assert error.value.message == 'pods "nope" not found'
    api.close()


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"<html>\nBad Gateway</html>", "<html> Bad Gateway</html>"), (b"[1]", "[1]"), (b"", ""), (b"\xff", "\ufffd")],
)
def test_a_failure_that_is_no_status_object(body: bytes, message: str) -> None:
    error = ApiError.from_body(502, body)
    assert (error.status, error.message, error.status_object) == (502, message, {})


def test_a_status_object() -> None:
    error = ApiError.from_body(403, json.dumps(status_object(403, "Forbidden", "no")).encode())
    assert (error.reason, error.message) == ("Forbidden", "no")


def test_an_answer_that_is_not_json(api: Api, fake_api: FakeApi) -> None:
    fake_api.answers["GET", PODS] = (200, b"<html>")
    with pytest.raises(ApiError, match="is this address a Kubernetes API server"):
        api.get(PODS)
    api.close()


def test_text(api: Api, fake_api: FakeApi) -> None:
    fake_api.answers["GET", f"{PODS}/web/log"] = (200, b"line\n")
    assert api.text(f"{PODS}/web/log", tailLines="1") == "line\n"
    api.close()


def test_a_refused_token_is_renewed_once(fake_api: FakeApi, tmp_path: Path) -> None:
    path = fake_api.kubeconfig(tmp_path, token="old")
    api = Api(ClusterAccess(KubeSettings(kubeconfig=str(path))))
    with pytest.raises(ApiError) as error:
        api.get(PODS)
    assert error.value.status == 401
    fake_api.kubeconfig(tmp_path, token="secret")
    assert api.get(PODS) == {"items": []}
    api.close()


def test_a_watch_gives_events_until_it_is_closed(api: Api, fake_api: FakeApi) -> None:
    pod = running_pod("web")
    fake_api.add_pod(pod)
    watch = api.watch(PODS, 60, fieldSelector="metadata.name=web")
    assert "timeoutSeconds=60" in fake_api.requests[-1][1]
    fake_api.change(pod)
    fake_api.change(pod, "DELETED")
    events = iter(watch)
    assert [next(events)["type"], next(events)["type"]] == ["MODIFIED", "DELETED"]
    ended = threading.Event()

    def read_on() -> None:
        with contextlib.suppress(urllib3.exceptions.HTTPError, OSError, ValueError, AttributeError):
            list(events)
        ended.set()

    threading.Thread(target=read_on).start()
    watch.close()
    assert ended.wait(5)
    api.close()


@pytest.fixture
def tls_kubeconfig(tmp_path: Path) -> Iterator[dict[str, Any]]:
    certificate, key = self_signed()
    (tmp_path / "pem").write_bytes(certificate + key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    fake = FakeApi()
    server = serve(fake, context)
    content = kubeconfig(fake.host, {"token": fake.token})
    content["clusters"][0]["cluster"]["certificate-authority-data"] = base64.b64encode(certificate).decode()  # type: ignore[index]
    yield content
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", [None, "127.0.0.1"])
def test_tls_is_checked_and_the_context_stays_as_it_was(
    name: str | None, tls_kubeconfig: dict[str, Any], tmp_path: Path
) -> None:
    if name:
        tls_kubeconfig["clusters"][0]["cluster"]["tls-server-name"] = name
    (tmp_path / "config").write_text(yaml.safe_dump(tls_kubeconfig))
    access = ClusterAccess(KubeSettings(kubeconfig=str(tmp_path / "config")))
    api = Api(access)
    assert api.get(PODS) == {"items": []}
    context = access.context()
    assert context is not None
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    api.close()


def test_a_certificate_for_another_name(tls_kubeconfig: dict[str, Any], tmp_path: Path) -> None:
    tls_kubeconfig["clusters"][0]["cluster"]["tls-server-name"] = "other.example"
    (tmp_path / "config").write_text(yaml.safe_dump(tls_kubeconfig))
    access = ClusterAccess(KubeSettings(kubeconfig=str(tmp_path / "config")))
    api = Api(access)
    with pytest.raises(urllib3.exceptions.HTTPError) as error:
        api.get(PODS)
    assert "is for another name; set tls-server-name" in explain(error.value, access, "list pods").text
    api.close()


def test_certificates_need_not_be_checked(tls_kubeconfig: dict[str, Any], tmp_path: Path) -> None:
    del tls_kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"]
    (tmp_path / "config").write_text(yaml.safe_dump(tls_kubeconfig))
    path = str(tmp_path / "config")
    api = Api(ClusterAccess(KubeSettings(kubeconfig=path, accept_invalid_certificates=True)))
    assert api.get(PODS) == {"items": []}
    api.close()
