from __future__ import annotations

from pathlib import Path

import pytest
from mirrord_trace.supervisor.targets.demo import container, network, rootfs
from mirrord_trace.supervisor.targets.demo.pod import DemoPod


@pytest.mark.parametrize("port", [network.HTTP_PORT, network.SECOND_HTTP_PORT])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1", *network.POD])
def test_it_answers_at_every_address(pod: DemoPod, port: int, host: str) -> None:
    assert pod.visit(port, "/", host, in_pod=True).decode().startswith(f"{container.NAME}: GET / from ")


def test_it_echoes(pod: DemoPod) -> None:
    with pod.connect(network.ECHO_PORT) as connection:
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"


def test_its_environment_is_the_pods(pod: DemoPod) -> None:
    entries = Path(f"/proc/{pod.pid}/environ").read_bytes().decode().rstrip("\0").split("\0")
    assert dict(entry.split("=", 1) for entry in entries) == rootfs.ENVIRONMENT


def test_it_is_process_1_of_its_own_namespace(pod: DemoPod) -> None:
    status = Path(f"/proc/{pod.pid}/status").read_text()
    assert f"NSpid:\t{pod.pid}\t1\n" in status
