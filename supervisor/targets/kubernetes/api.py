"""The Kubernetes API as plain JSON: a dozen requests, dicts in and out, no models."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import urllib3

from .access import ClusterAccess

JSON = "application/json"
STRATEGIC_MERGE = "application/strategic-merge-patch+json"
REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 10.0


class ApiError(Exception):
    """The API server answered with a failure: its HTTP status and, where given, its Status object's fields."""

    def __init__(self, status: int, reason: str, message: str, status_object: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.status_object = status_object or {}

    @staticmethod
    def from_body(status: int, body: bytes) -> ApiError:
        """Read a failure's body: a Status object, or whatever a proxy in between had to say."""
        text = body.decode("utf-8", "replace").strip()
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        if isinstance(parsed, dict) and parsed.get("kind") == "Status":
            return ApiError(status, str(parsed.get("reason") or ""), str(parsed.get("message") or ""), parsed)
        return ApiError(status, "", " ".join(text.split())[:500])


class Api:
    """Requests to one API server over kept-alive connections. Not to be used across fork(2): make a new one."""

    def __init__(self, access: ClusterAccess, request_timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self.access = access
        self._timeout_s = request_timeout_s
        self._pool = _pool(access)

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """GET an object or a list. ApiError; urllib3's HTTPError if the server cannot be reached."""
        return self._json("GET", path, query)

    def create(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST an object."""
        return self._json("POST", path, {}, body)

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """PATCH by strategic merge: lists of objects with a merge key are merged by it."""
        return self._json("PATCH", path, {}, body, STRATEGIC_MERGE)

    def delete(self, path: str, grace_period_s: int) -> dict[str, Any]:
        """DELETE an object."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace_period_s}
        return self._json("DELETE", path, {}, options)

    def text(self, path: str, **query: str) -> str:
        """GET something that is not JSON, a log."""
        response = self._request("GET", path, query, None, JSON, preload=True)
        return bytes(response.data).decode("utf-8", "replace")

    def watch(self, path: str, timeout_s: int, **query: str) -> Watch:
        """Start a watch; its events come until the server's timeout, or until it is closed."""
        query = {**query, "watch": "true", "timeoutSeconds": str(timeout_s)}
        return Watch(self._request("GET", path, query, None, JSON, preload=False, read_timeout_s=timeout_s + 10.0))

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._pool.clear()

    def _json(
        self, method: str, path: str, query: dict[str, str], body: Any = None, content_type: str = JSON
    ) -> dict[str, Any]:
        response = self._request(method, path, query, body, content_type, preload=True)
        try:
            parsed = json.loads(response.data or b"{}")
        except ValueError:
            parsed = None
        if not isinstance(parsed, dict):
            raise ApiError(response.status, "", "the answer is not JSON; is this address a Kubernetes API server?")
        return parsed

    def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Any,
        content_type: str,
        *,
        preload: bool,
        read_timeout_s: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        try:
            return self._send(method, path, query, body, content_type, preload, read_timeout_s)
        except ApiError as error:
            if error.status != 401 or not self.access.renew():
                raise
        self._pool.clear()
        self._pool = _pool(self.access)
        return self._send(method, path, query, body, content_type, preload, read_timeout_s)

    def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str],
        body: Any,
        content_type: str,
        preload: bool,
        read_timeout_s: float | None,
    ) -> urllib3.BaseHTTPResponse:
        host = self.access.host
        name = f"[{host.name}]" if ":" in host.name else host.name
        url = f"{'https' if host.tls else 'http'}://{name}:{host.port}{host.prefix}{path}"
        if query:
            url += "?" + urlencode(query)
        headers = {**self.access.headers(), "Accept": JSON}
        if body is not None:
            headers["Content-Type"] = content_type
        connect_timeout_s = min(CONNECT_TIMEOUT_S, self._timeout_s)
        response = self._pool.request(
            method,
            url,
            body=None if body is None else json.dumps(body).encode(),
            headers=headers,
            timeout=urllib3.Timeout(connect=connect_timeout_s, read=read_timeout_s or self._timeout_s),
            # One repetition, and only where the kept-alive connection turned out to be closed before an answer.
            retries=urllib3.Retry(total=1, connect=0, read=1, redirect=0, status=0, allowed_methods=["GET"]),
            preload_content=preload,
        )
        if response.status >= 300:
            raise ApiError.from_body(response.status, response.data or b"")
        return response


class Watch:
    """The events of one watch, as {"type": ..., "object": ...}."""

    def __init__(self, response: urllib3.BaseHTTPResponse) -> None:
        self._response = response

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rest = b""
        for chunk in self._response.stream(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line.strip():
                    yield json.loads(line)

    def close(self) -> None:
        """Drop the connection; an iteration in another thread ends."""
        connection = self._response.connection
        sock = getattr(connection, "sock", None)
        if sock is not None:
            _shut_down(sock)
        self._response.close()


def _shut_down(sock: Any) -> None:
    # close(2) alone does not wake a thread that is in recv(2).
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _pool(access: ClusterAccess) -> urllib3.PoolManager:
    arguments: dict[str, Any] = {"maxsize": 4}
    context = access.context()
    if context is not None:
        arguments["ssl_context"] = context
        arguments["cert_reqs"] = context.verify_mode
        if context.verify_mode is ssl.CERT_NONE:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # The user has asked for it.
        if access.server_name:
            # Not `assert_hostname`: for that urllib3 would switch off the context's own check, and others use it, too.
            arguments["server_hostname"] = access.server_name
    if access.proxy:
        return urllib3.ProxyManager(access.proxy, **arguments)
    return urllib3.PoolManager(**arguments)
