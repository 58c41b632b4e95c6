from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mirrord_trace.supervisor.holder import port_holder

_HOLD = """
import socket, sys
sock = socket.socket(int(sys.argv[1]), getattr(socket, sys.argv[2]))
sock.bind((sys.argv[3], 0))
if sys.argv[2] == "SOCK_STREAM":
    sock.listen()
print(sock.getsockname()[1], flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_another_process(protocol: str, family: int, host: str) -> None:
    if family == socket.AF_INET6 and not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    kind = {"tcp": "SOCK_STREAM", "udp": "SOCK_DGRAM"}[protocol]
    command = [sys.executable, "-c", _HOLD, str(int(family)), kind, host]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        name = Path(f"/proc/{process.pid}/comm").read_text().strip()
        assert port_holder(protocol, port) == f"{name} (pid {process.pid})"
        process.communicate("")
    assert port_holder(protocol, port) == ""


def test_a_port_of_our_own_that_does_not_listen() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
        assert port_holder("tcp", port) == ""
        sock.listen()
        assert port_holder("tcp", port).endswith(f"(pid {os.getpid()})")
