from __future__ import annotations

import json
import socket
import ssl
from dataclasses import dataclass

import pytest
import urllib3
from certificates import self_signed
from fakeapi import status_object
from mirrord_trace.supervisor.channel.dial import Host, ProxyRefused
from mirrord_trace.supervisor.channel.websocket import UpgradeRefused
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.targets.kubernetes.api import ApiError
from mirrord_trace.supervisor.targets.kubernetes.failures import (
    admission_reason,
    certificate_expiry,
    explain,
    is_admission,
)

HOST = Host("api.example", 6443, True, "")


@dataclass
class Access:
    """As much of ClusterAccess as the texts need."""

    host: Host = HOST
    context_name: str = "prod"
    client_certificate: bytes = b""


def line(error: BaseException, access: Access | None = None) -> str:
    made = explain(error, access or Access(), "read pod web")  # type: ignore[arg-type]
    assert isinstance(made, UsageError)
    assert "\n" not in made.text
    return made.text


FORBIDDEN = 'pods "web" is forbidden: User "me" cannot {verb} resource "{what}" in API group "" in the namespace "shop"'
POD_SECURITY = 'pods "web" is forbidden: violates PodSecurity "baseline:latest": host namespaces (hostPID=true)'


def forbidden(verb: str, what: str) -> ApiError:
    return ApiError(403, "Forbidden", FORBIDDEN.format(verb=verb, what=what))


def test_a_missing_right_is_named() -> None:
    text = line(forbidden("get", "pods"))
    assert "user 'me' may not get pods in namespace shop (403)" in text
    assert "ask for a Role that allows get on pods" in text


def test_port_forward_needs_two_rights() -> None:
    body = json.dumps(status_object(403, "Forbidden", FORBIDDEN.format(verb="create", what="pods/portforward")))
    text = line(UpgradeRefused(403, body.encode()))
    assert "may not create pods/portforward" in text
    assert "get and create on pods/portforward" in text


def test_admission_is_told_from_rights() -> None:
    assert not is_admission(forbidden("create", "pods"))
    refused = ApiError(403, "Forbidden", POD_SECURITY)
    assert is_admission(refused)
    assert "Pod Security level 'baseline' of the namespace does not allow it" in line(refused)
    assert admission_reason(ApiError(403, "", "policy\nsays no")) == "policy says no"
    assert admission_reason(ApiError(403, "", "")) == "no reason given"


def test_unauthorized() -> None:
    assert "credentials of context 'prod' (401)" in line(ApiError(401, "Unauthorized", "Unauthorized"))


def test_unauthorized_with_an_expired_certificate() -> None:
    certificate, _ = self_signed(days=-1)
    assert "client certificate of context 'prod' expired on" in line(
        ApiError(401, "Unauthorized", ""), Access(client_certificate=certificate)
    )
    valid, _ = self_signed(days=1)
    assert "expired" not in line(ApiError(401, "Unauthorized", ""), Access(client_certificate=valid))


def test_certificate_expiry() -> None:
    assert certificate_expiry(b"") is None
    assert certificate_expiry(b"nonsense") is None
    assert certificate_expiry(self_signed()[0]) is not None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ApiError(404, "", "404 page not found"), "is it a Kubernetes API server?"),
        (ApiError(404, "NotFound", "gone", {"kind": "Status"}), "the API server answered 404: gone"),
        (ApiError(400, "", "Client sent an HTTP request to an HTTPS server."), "wants https; correct clusters"),
        (ApiError(429, "", ""), "too many requests"),
        (ApiError(503, "", "etcd is down"), "the API server failed (503): etcd is down"),
        (ApiError(422, "Invalid", "bad name"), "answered 422: bad name"),
    ],
)
def test_other_answers(error: ApiError, words: str) -> None:
    assert words in line(error)


def verification(code: int, message: str) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, message)
    error.verify_code, error.verify_message = code, message
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionRefusedError(111, "refused"), "refuses connections; is the cluster running"),
        (socket.gaierror(-2, "unknown"), "cannot be resolved; check the kubeconfig's server"),
        (TimeoutError("timed out"), "does not answer; check your network"),
        (OSError(113, "No route to host"), "No route to host"),
        (ssl.SSLError(1, "wrong version number"), "no TLS connection"),
        (ProxyRefused("proxy p refused: 407"), "check HTTPS_PROXY"),
        (verification(10, "certificate has expired"), "has expired; renew"),
        (verification(9, "not yet"), "not valid yet; check this machine's clock"),
        (verification(62, "mismatch"), "is for another name; set tls-server-name"),
        (verification(20, "unable to get local issuer certificate"), "is not trusted: unable to get local issuer"),
    ],
)
def test_ways_not_to_reach_the_server(error: OSError, words: str) -> None:
    text = line(error)
    assert words in text
    assert "https://api.example:6443" in text


def test_urllib3s_wrappings_are_taken_off() -> None:
    pool = urllib3.HTTPSConnectionPool("api.example", 1)
    connection = urllib3.connection.HTTPSConnection("api.example", 1)
    refused = urllib3.exceptions.NewConnectionError(connection, "no")
    refused.__cause__ = ConnectionRefusedError(111, "refused")
    assert "refuses connections" in line(urllib3.exceptions.MaxRetryError(pool, "/", refused))
    late = urllib3.exceptions.ConnectTimeoutError(connection, "late")
    assert "does not answer" in line(urllib3.exceptions.MaxRetryError(pool, "/", late))
    untrusted = urllib3.exceptions.SSLError(verification(10, "certificate has expired"))
    assert "has expired" in line(urllib3.exceptions.MaxRetryError(pool, "/", untrusted))


def test_a_line_stays_what_it_is() -> None:
    made = UsageError("as it is")
    assert explain(made, Access(), "x") is made  # type: ignore[arg-type]


def test_addresses_of_ipv6() -> None:
    assert "https://[::1]:6443/k8s" in line(ConnectionRefusedError(), Access(Host("::1", 6443, True, "/k8s")))
