"""What is said when no process or thread may be started."""

from __future__ import annotations

import errno
import os
import threading

import pytest
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.forking import fork, start


def test_they_are_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fork", lambda: 77)
    assert fork() == 77
    thread = threading.Thread(target=lambda: None)
    start(thread)
    thread.join()


def test_a_limit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    with pytest.raises(UsageError, match="limit of processes"):
        fork()
    thread = threading.Thread(target=lambda: None)
    start(thread)
    thread.join()
    with pytest.raises(UsageError, match="limit of processes"):
        start(thread)
