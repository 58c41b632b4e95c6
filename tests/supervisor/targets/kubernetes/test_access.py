from __future__ import annotations

import base64
import ssl
import tempfile
from pathlib import Path

import pytest
import yaml
from certificates import self_signed
from fakeapi import kubeconfig
from mirrord_trace.supervisor.channel.dial import Host
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.targets.kubernetes.access import ClusterAccess
from mirrord_trace.supervisor.targets.kubernetes.settings import KubeSettings

SERVER = "https://api.example:6443"


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def write(folder: Path, content: object, name: str = "config") -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


def access(folder: Path, content: object, **settings: object) -> ClusterAccess:
    return ClusterAccess(KubeSettings(kubeconfig=write(folder, content), **settings))  # type: ignore[arg-type]


def test_a_token(tmp_path: Path) -> None:
    made = access(tmp_path, kubeconfig(SERVER + "/", {"token": "abc"}))
    assert made.host == Host("api.example", 6443, True, "")
    assert made.headers()["authorization"] == "Bearer abc"
    assert (made.context_name, made.namespace, made.proxy, made.server_name) == ("fake", "default", None, None)
    assert made.context() is not None
    assert not made.in_cluster


def test_a_name_and_a_password(tmp_path: Path) -> None:
    made = access(tmp_path, kubeconfig(SERVER, {"username": "me", "password": "x"}))
    assert made.headers()["authorization"] == "Basic " + base64.b64encode(b"me:x").decode()


def test_the_namespace_is_the_users_else_the_contexts(tmp_path: Path) -> None:
    content = kubeconfig(SERVER, {"token": "abc"}, "shop")
    assert access(tmp_path, content).namespace == "shop"
    assert access(tmp_path, content, namespace="other").namespace == "other"


def test_another_context(tmp_path: Path) -> None:
    content = kubeconfig(SERVER, {"token": "abc"})
    content["contexts"].append({"name": "b", "context": {"cluster": "fake", "user": "me", "namespace": "n"}})  # type: ignore[attr-defined]
    assert access(tmp_path, content, context="b").namespace == "n"
    with pytest.raises(UsageError, match=r"no context 'c' in .*; it has: b, fake"):
        access(tmp_path, content, context="c")


def test_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write(tmp_path, {"current-context": "fake"}, "one")
    two = write(tmp_path, kubeconfig(SERVER, {"token": "abc"}), "two")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/missing:{one}:{two}")
    assert ClusterAccess(KubeSettings()).context_name == "fake"


def test_the_default_place(tmp_path: Path) -> None:
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube", kubeconfig(SERVER, {"token": "abc"}))
    assert ClusterAccess(KubeSettings()).context_name == "fake"


def test_no_kubeconfig() -> None:
    with pytest.raises(UsageError, match=r"no kubeconfig at .*--kubeconfig or KUBECONFIG"):
        ClusterAccess(KubeSettings())


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("", "empty"),
        ("just words", "is not a kubeconfig"),
        ("[1, 2]", "is not a kubeconfig"),
        ("a: [", "cannot be read"),
        ({"apiVersion": "v1"}, "names no current context"),
    ],
)
def test_a_bad_kubeconfig(content: object, line: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=line) as error:
        access(tmp_path, content)
    assert "\n" not in error.value.text


@pytest.mark.parametrize("kind", ["clusters", "users"])
def test_a_context_that_refers_to_nothing(kind: str, tmp_path: Path) -> None:
    content = kubeconfig(SERVER, {"token": "abc"})
    content[kind] = []
    with pytest.raises(UsageError, match=f"refers to {kind[:-1]} .* which is not there"):
        access(tmp_path, content)


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="server is wrong"):
        access(tmp_path, kubeconfig("ftp://x", {"token": "abc"}))


def test_a_certificate_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be used: .*nowhere\.crt"):
        access(tmp_path, kubeconfig(SERVER, {"client-certificate": "/nowhere.crt", "client-key": "/nowhere.key"}))


def test_a_certificate_that_is_none(tmp_path: Path) -> None:
    nonsense = base64.b64encode(b"nonsense").decode()
    user: dict[str, object] = {"client-certificate-data": nonsense, "client-key-data": nonsense}
    with pytest.raises(UsageError, match="certificates in the kubeconfig cannot be used"):
        access(tmp_path, kubeconfig(SERVER, user))


def test_keys_in_the_kubeconfig_leave_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    certificate, key = self_signed()
    user: dict[str, object] = {
        "client-certificate-data": base64.b64encode(certificate).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    made = access(tmp_path, kubeconfig(SERVER, user))
    assert made.client_certificate == certificate
    assert list(folder.iterdir()) == []
    assert not made.renew()
    assert list(folder.iterdir()) == []


def test_certificates_need_not_be_checked(tmp_path: Path) -> None:
    content = kubeconfig(SERVER, {"token": "abc"})
    strict = access(tmp_path, content).context()
    assert strict is not None
    assert strict.verify_mode is ssl.CERT_REQUIRED
    lax = access(tmp_path, content, accept_invalid_certificates=True).context()
    assert lax is not None
    assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)
    content["clusters"][0]["cluster"]["insecure-skip-tls-verify"] = True  # type: ignore[index]
    lax = access(tmp_path, content).context()
    assert lax is not None
    assert lax.verify_mode is ssl.CERT_NONE


def test_the_name_in_the_servers_certificate(tmp_path: Path) -> None:
    content = kubeconfig(SERVER, {"token": "abc"})
    content["clusters"][0]["cluster"]["tls-server-name"] = "kubernetes"  # type: ignore[index]
    assert access(tmp_path, content).server_name == "kubernetes"


def test_a_plain_server_has_no_tls(tmp_path: Path) -> None:
    assert access(tmp_path, kubeconfig("http://127.0.0.1:8001", {"token": "abc"})).context() is None


def test_proxies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = kubeconfig(SERVER, {"token": "abc"})
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert access(tmp_path, content).proxy == "http://proxy.example:3128"
    monkeypatch.setenv("NO_PROXY", "localhost,.example")
    assert access(tmp_path, content).proxy is None
    monkeypatch.delenv("NO_PROXY")
    content["clusters"][0]["cluster"]["proxy-url"] = "http://other.example:3128"  # type: ignore[index]
    assert access(tmp_path, content).proxy == "http://other.example:3128"


def plugin(folder: Path, script: str) -> dict[str, object]:
    path = folder / "plugin"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path), "interactiveMode": "Never"}}


def credential(token: str) -> str:
    return (
        '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}' % token  # noqa: UP031
    )


def test_a_plugin_is_run_and_run_again_when_its_token_is_refused(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text(credential("one"))
    made = access(tmp_path, kubeconfig(SERVER, plugin(tmp_path, f"cat {token}")))
    assert made.headers()["authorization"] == "Bearer one"
    assert not made.renew()
    token.write_text(credential("two"))
    assert made.renew()
    assert made.headers()["authorization"] == "Bearer two"


def test_a_plugin_that_fails_is_a_failure(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match=r"auth plugin failed: .*log in first"):
        access(tmp_path, kubeconfig(SERVER, plugin(tmp_path, "echo please log in first >&2; exit 1")))
    assert capfd.readouterr().out == ""
