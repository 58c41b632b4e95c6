"""What the cluster or the way to it answered, as one line for the user with the remedy.

The API server names the missing right only inside its message ('User "u" cannot create resource "pods/portforward"
in API group "" in the namespace "n"'); that form is as old as RBAC and is what kubectl shows.
"""

from __future__ import annotations

import re
import socket
import ssl
from datetime import datetime, timezone

import urllib3.exceptions

from ...channel.dial import ProxyRefused
from ...channel.websocket import UpgradeRefused
from ...errors import UsageError
from .access import ClusterAccess
from .api import ApiError

_CANNOT = re.compile(
    r'[Uu]ser "(?P<user>[^"]*)" cannot (?P<verb>\w+) resource "(?P<resource>[^"]+)"'
    r'(?:.*?in the namespace "(?P<namespace>[^"]*)")?'
)
_POD_SECURITY = re.compile(r'violates PodSecurity "([^":]+)')
_EXPIRED = 10  # X509_V_ERR_CERT_HAS_EXPIRED
_NOT_YET = 9  # X509_V_ERR_CERT_NOT_YET_VALID
_NAME_MISMATCH = 62  # X509_V_ERR_HOSTNAME_MISMATCH


def explain(error: BaseException, access: ClusterAccess, doing: str) -> UsageError:
    """Turn a failed request into its line. `doing` is a verb phrase: "read pod x"."""
    if isinstance(error, UsageError):
        return error
    if isinstance(error, UpgradeRefused):
        error = ApiError.from_body(error.status, error.body)
    if isinstance(error, ApiError):
        return UsageError(_refused(error, access, doing))
    return UsageError(_unreachable(_root(error), access))


def is_admission(error: ApiError) -> bool:
    """True if an admission plugin (Pod Security, a policy webhook) refused the object, not RBAC."""
    return error.status == 403 and _CANNOT.search(error.message) is None


def _refused(error: ApiError, access: ClusterAccess, doing: str) -> str:
    said = f": {error.message}" if error.message else ""
    if error.status == 401:
        return _unauthorized(access)
    if error.status == 403:
        return _forbidden(error, doing)
    if error.status == 404 and not error.status_object:
        return f"cannot {doing}: {_server(access)} answered 404{said}; is it a Kubernetes API server?"
    if error.status == 400 and "HTTP request to an HTTPS server" in error.message:
        return f"cannot {doing}: {_server(access)} wants https; correct clusters[].cluster.server in the kubeconfig"
    if error.status == 429:
        return f"cannot {doing}: the API server has too many requests (429){said}; try again later"
    if error.status >= 500:
        return f"cannot {doing}: the API server failed ({error.status}){said}; try again, or look at the cluster"
    return f"cannot {doing}: the API server answered {error.status}{said}"


def admission_reason(error: ApiError) -> str:
    """Why an object was refused, in a few words: Pod Security counts up every field."""
    match = _POD_SECURITY.search(error.message)
    if match is not None:
        return f"Pod Security level {match[1]!r} of the namespace does not allow it"
    return " ".join(error.message.split()) or "no reason given"


def _unauthorized(access: ClusterAccess) -> str:
    expired = certificate_expiry(access.client_certificate)
    who = f"context {access.context_name!r}"
    if expired is not None and expired < datetime.now(timezone.utc):
        return f"the client certificate of {who} expired on {expired:%Y-%m-%d %H:%M} UTC; get a new kubeconfig"
    return f"the API server does not accept the credentials of {who} (401); log in again or get a new kubeconfig"


def _forbidden(error: ApiError, doing: str) -> str:
    match = _CANNOT.search(error.message)
    if match is None:
        return f"cannot {doing}: refused (403): {admission_reason(error)}"
    resource = match["resource"]
    where = f" in namespace {match['namespace']}" if match["namespace"] else ""
    needed = "get and create" if resource == "pods/portforward" else match["verb"]
    return (
        f"cannot {doing}: user {match['user']!r} may not {match['verb']} {resource}{where} (403); "
        f"ask for a Role that allows {needed} on {resource} (`mirrord-trace doctor` lists all rights needed)"
    )


def certificate_expiry(pem: bytes) -> datetime | None:
    """notAfter of the first certificate of a PEM text, None if there is none that can be read."""
    if not pem:
        return None
    from cryptography import x509

    try:
        return x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except ValueError:
        return None


def _root(error: BaseException) -> BaseException:
    # urllib3 wraps what happened: MaxRetryError(reason=NewConnectionError(__cause__=ConnectionRefusedError)).
    seen = 0
    while seen < 10:
        seen += 1
        inner = getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            inner = error.__cause__
        if inner is None and isinstance(error, urllib3.exceptions.HTTPError) and error.args:
            inner = error.args[-1]
        if not isinstance(inner, BaseException) or inner is error:
            break
        error = inner
    return error


def _server(access: ClusterAccess) -> str:
    host = access.host
    name = f"[{host.name}]" if ":" in host.name else host.name
    return f"{'https' if host.tls else 'http'}://{name}:{host.port}{host.prefix}"


def _unreachable(error: BaseException, access: ClusterAccess) -> str:
    server = f"the API server {_server(access)} (context {access.context_name!r})"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _bad_certificate(error, server)
    if isinstance(error, ssl.SSLError):
        why = getattr(error, "reason", None) or error
        return f"no TLS connection to {server}: {why}; check the kubeconfig's server and certificates"
    if isinstance(error, ProxyRefused):
        return f"no way to {server}: {error}; check HTTPS_PROXY, NO_PROXY and the kubeconfig's proxy-url"
    if isinstance(error, socket.gaierror):
        return f"the name of {server} cannot be resolved; check the kubeconfig's server, your network or VPN"
    if isinstance(error, ConnectionRefusedError):
        return f"{server} refuses connections; is the cluster running, and is this the right context?"
    if isinstance(error, (TimeoutError, urllib3.exceptions.TimeoutError)):
        return f"{server} does not answer; check your network or VPN, and whether the cluster is running"
    text = " ".join(str(error).split()) or type(error).__name__
    return f"the connection to {server} failed: {text}; check your network and whether the cluster is running"


def _bad_certificate(error: ssl.SSLCertVerificationError, server: str) -> str:
    if error.verify_code == _EXPIRED:
        return f"the certificate of {server} has expired; renew the cluster's certificates (and check this clock)"
    if error.verify_code == _NOT_YET:
        return f"the certificate of {server} is not valid yet; check this machine's clock"
    if error.verify_code == _NAME_MISMATCH:
        return f"the certificate of {server} is for another name; set tls-server-name in the kubeconfig's cluster"
    return (
        f"the certificate of {server} is not trusted: {error.verify_message}; "
        "check certificate-authority in the kubeconfig's cluster"
    )
