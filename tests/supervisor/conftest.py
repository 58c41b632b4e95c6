"""Lets every test below this directory say `from fakeapi import ...`, and gives it a running one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from fakeapi import FakeApi, serve


@pytest.fixture
def fake_api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeApi]:
    """An API server on loopback, without proxies in between."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "NO_PROXY", "no_proxy", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    api = FakeApi()
    server = serve(api)
    yield api
    for watcher in api.watchers:
        watcher.put(b"")
    server.shutdown()
    server.server_close()
