"""Mirrored traffic: the pod's container answers, the local program gets a copy, and what it answers goes nowhere."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

import pytest
from mirrord_trace.supervisor.targets.demo import container, network
from runs import Runner

# Says for each connection who came and what, and answers what nobody must see.
_SERVER = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = socket.create_server(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    connection, peer = server.accept()
    request = connection.makefile("rb").readline()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 11\\r\\nConnection: close\\r\\n\\r\\nI am a copy")
    connection.close()
    print(peer[0], request.decode().strip(), flush=True)
"""
_UDP_SERVER = """
import signal, socket, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = socket.socket(type=socket.SOCK_DGRAM)
server.bind(("", int(sys.argv[1])))
print("ready", flush=True)
while True:
    content, peer = server.recvfrom(1000)
    server.sendto(b"I am a copy", peer)
    print(peer[0], content.decode(), flush=True)
"""


def _options(runner: Runner, **incoming: Any) -> list[Any]:
    file = runner.folder / "mirror.json"
    file.write_text(json.dumps({"feature": {"network": {"incoming": {"mode": "mirror", **incoming}}}}))
    return ["-f", file]


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_requests_are_copied(runner: Runner) -> None:
    port = network.SECOND_HTTP_PORT
    with runner.serving(sys.executable, "-c", _SERVER, str(port), options=_options(runner)) as process:
        for number in range(3):
            assert container.NAME in runner.pod.visit(port, f"/{number}").decode()
            assert _line(process) == f"{network.CLIENT[0]} GET /{number} HTTP/1.1"
        assert container.NAME in runner.pod.visit(port, "/six", network.POD[1]).decode()


def test_only_what_the_filter_wants_is_copied(runner: Runner) -> None:
    port = network.SECOND_HTTP_PORT
    options = _options(runner, http_filter={"path_filter": "^/wanted"})
    with runner.serving(sys.executable, "-c", _SERVER, str(port), options=options) as process:
        for path in ("/other", "/wanted/1", "/other", "/wanted/2"):
            assert container.NAME in runner.pod.visit(port, path).decode()
        lines = [_line(process), _line(process)]
        assert lines == [f"{network.CLIENT[0]} GET /wanted/{number} HTTP/1.1" for number in (1, 2)]


def test_only_so_much_is_copied(runner: Runner) -> None:
    """One at once, the next after a quarter of an hour."""
    port = network.SECOND_HTTP_PORT
    options = _options(runner, sample={"per_second": 0.001})
    with runner.serving(sys.executable, "-c", _SERVER, str(port), options=options) as process:
        for number in range(10):
            assert container.NAME in runner.pod.visit(port, f"/{number}").decode()
        first = _line(process)
        process.terminate()
        rest, _ = process.communicate(timeout=30)
    assert (first, rest) == (f"{network.CLIENT[0]} GET /0 HTTP/1.1", "")


def test_the_pod_goes_on_when_the_copy_is_refused(runner: Runner) -> None:
    port = network.SECOND_HTTP_PORT
    program = f"import socket, time; s = socket.create_server(('', {port})); print('ready', flush=True); time.sleep(60)"
    with runner.serving(sys.executable, "-c", program, options=_options(runner)):
        for _ in range(5):
            assert container.NAME in runner.pod.visit(port).decode()


def test_a_port_where_the_pod_does_not_listen(runner: Runner) -> None:
    with runner.serving(sys.executable, "-c", _SERVER, "5556", options=_options(runner)), pytest.raises(OSError):
        runner.pod.visit(5556)


@pytest.mark.parametrize("version", [0, 1])
def test_datagrams_are_copied(runner: Runner, version: int) -> None:
    if version:
        server = _UDP_SERVER.replace("socket.socket(", "socket.socket(socket.AF_INET6, ")
    else:
        server = _UDP_SERVER
    family = socket.AF_INET6 if version else socket.AF_INET
    with (
        runner.serving(sys.executable, "-c", server, str(network.ECHO_PORT), options=_options(runner)) as process,
        runner.pod.open_socket(family, socket.SOCK_DGRAM) as sock,
    ):
        sock.settimeout(20)
        sock.bind((network.CLIENT[version], 0))
        sock.connect((network.POD[version], network.ECHO_PORT))
        for number in range(3):
            sock.send(b"datagram %d" % number)
            assert sock.recv(100) == b"datagram %d" % number
            assert _line(process) == f"{network.CLIENT[version]} datagram {number}"
