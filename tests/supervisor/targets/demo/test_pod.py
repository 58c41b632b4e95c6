from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.targets.demo import container, network, pod
from mirrord_trace.supervisor.targets.demo.pod import DemoPod


def test_a_visit_comes_from_another_address(pod: DemoPod) -> None:
    for host, client in zip(network.POD, network.CLIENT, strict=True):
        assert pod.visit(host=host).decode() == f"{container.NAME}: GET / from {client}\n"
    assert pod.visit(8080, "/path", in_pod=True).decode() == f"{container.NAME}: GET /path from {network.POD[0]}\n"


def test_two_pods_do_not_meet_and_each_ends_by_stop(pod: DemoPod) -> None:
    with DemoPod() as other:
        pid = other.pid
        assert pid != pod.pid
        assert os.readlink(f"/proc/{pid}/ns/net") != os.readlink(f"/proc/{pod.pid}/ns/net")
    other.stop()
    assert other.pid == 0
    with pytest.raises((FileNotFoundError, ProcessLookupError, PermissionError)):
        os.readlink(f"/proc/{pid}/ns/net")
    assert pod.visit()


def test_a_chunked_body_is_put_together() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert pod._body(head + b"5\r\nhello\r\n6\r\n there\r\n0\r\n\r\n") == b"hello there"
    assert pod._body(b"HTTP/1.1 200 OK\r\n\r\nplain") == b"plain"
    with pytest.raises(OSError, match="no HTTP response"):
        pod._body(b"nonsense")


def test_a_refusal_tells_the_remedy() -> None:
    assert "sysctl" in pod._refusal("unshare: Operation not permitted", errno.EPERM)
    assert "run as root" in pod._refusal("unshare: No space left on device", errno.ENOSPC)
    assert pod._refusal("something else", errno.EIO) == "the demo pod did not start: something else"


def test_a_node_that_cannot_start_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pod, "_LAUNCH", "raise SystemExit")
    with pytest.raises(UsageError, match="its process ended at once"):
        DemoPod().start()
