"""Listeners by every way that servers have of coming by one: the pod's traffic finds them, and they answer as natively."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from build import c_program
from mirrord_trace.supervisor.targets.demo import container, network
from runs import Runner, until

_PYTHON = """
import http.server, signal, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"python on {self.server.server_address[1]}, asked by {self.client_address[0]}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
server = http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler)
print("ready", server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def port() -> int:
    """A port that is free on this machine, and by all likelihood in the pod."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _answer(runner: Runner, port: int, host: str = network.POD[0]) -> str:
    try:
        return runner.pod.visit(port, "/", host).decode()
    except OSError:
        return ""


def _config(runner: Runner, **incoming: object) -> list[str | Path]:
    file = runner.folder / "incoming.json"
    file.write_text(json.dumps({"feature": {"network": {"incoming": {"mode": "steal", **incoming}}}}))
    return ["-f", file]


@contextlib.contextmanager
def _holder(port: int) -> Iterator[int]:
    """Another program of this machine that listens on the port; its pid."""
    text = f"import socket; s = socket.create_server(('', {port})); print('ready', flush=True); s.accept()"
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.mark.parametrize("how", ["reuseport", "prefork", "dup", "passed", "twice", "again", "dual", "rebind"])
@pytest.mark.parametrize("flavour", ["glibc", "musl"])
def test_every_way_to_listen(runner: Runner, how: str, flavour: str, port: int) -> None:
    with runner.serving(c_program("listeners", flavour), how, str(port), options=["--steal"]):
        text = f", asked by {'::ffff:' if how == 'dual' else ''}{network.CLIENT[0]}\n"
        until(lambda: _answer(runner, port).endswith(text), "the local program answers")
        workers = {_answer(runner, port).partition(",")[0] for _ in range(20)}
        assert all(worker.startswith(how) for worker in workers)
        if how == "dual":
            assert _answer(runner, port, network.POD[1]).endswith(f", asked by {network.CLIENT[1]}\n")
    until(lambda: not _answer(runner, port), "the pod has the port back")


def test_all_workers_of_a_shared_port_get_work(runner: Runner, port: int) -> None:
    with runner.serving(c_program("listeners"), "reuseport", str(port), options=["--steal"]):
        seen: set[str] = set()

        def all_have() -> bool:
            seen.add(_answer(runner, port).partition(",")[0])
            return len(seen - {""}) == 4

        until(all_have, "each of the four workers has answered")


@pytest.mark.parametrize("how", ["zero", "unbound"])
def test_a_port_that_the_kernel_chose_stays_here(runner: Runner, how: str) -> None:
    command = (c_program("listeners"), how, "0")
    native = runner.native(*command)
    traced = runner.traced(*command, options=["--trace", "--steal"])
    assert native.status == 0, native
    assert (traced.status, traced.out) == (native.status, native.out), traced.err
    assert "the kernel chose the port" in traced.err


def test_a_taken_port_names_who_has_it(runner: Runner, port: int) -> None:
    command = (c_program("server"), str(port))
    with _holder(port) as pid:
        native = runner.native(*command)
        traced = runner.traced(*command, options=["--steal"])
    assert (native.status, native.err) == (1, "server: Address already in use\n")
    assert (traced.status, traced.out) == (1, native.out)
    said, *rest = traced.err.splitlines()
    assert f"port {port} of this machine is taken by " in said
    assert f"(pid {pid})" in said
    assert rest == ["server: Address already in use"]


def test_listen_ports(runner: Runner, port: int) -> None:
    """The pod's port 8080 comes to a program that has another one here."""
    pod_port = network.SECOND_HTTP_PORT
    options = _config(runner, listen_ports=[[pod_port, port]])
    with runner.serving(sys.executable, "-c", _PYTHON, str(pod_port), options=options):
        text = f"python on {pod_port}, asked by {network.CLIENT[0]}"
        until(lambda: _answer(runner, pod_port) == text, "the local program answers")
        with socket.create_connection(("127.0.0.1", port)) as direct:
            direct.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"asked by 127.0.0.1" in b"".join(iter(lambda: direct.recv(4096), b""))
    until(lambda: container.NAME in _answer(runner, pod_port), "the pod answers again")
    with _holder(port):
        refused = runner.traced(sys.executable, "-c", _PYTHON, str(pod_port), options=options)
    assert refused.status == 1
    assert f"port {port} of this machine is taken by " in refused.err
    assert "Address already in use" in refused.err.splitlines()[-1]


def test_port_mapping(runner: Runner, port: int) -> None:
    pod_port = network.SECOND_HTTP_PORT
    options = _config(runner, port_mapping=[[port, pod_port]], ports=[port])
    with runner.serving(c_program("server"), str(port), options=options):
        until(lambda: "local C program" in _answer(runner, pod_port), "the local program answers")
        assert not _answer(runner, port)


@pytest.mark.parametrize("what", ["ignore_ports", "ports", "ignore_localhost", "mode"])
def test_ports_that_stay_the_pods(runner: Runner, port: int, what: str) -> None:
    value = {"ignore_ports": [port], "ports": [1], "ignore_localhost": True, "mode": "off"}[what]
    with runner.serving(c_program("server"), str(port), "127.0.0.1", options=_config(runner, **{what: value})):
        assert not _answer(runner, port)
        with socket.create_connection(("127.0.0.1", port)) as direct:
            direct.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"local C program" in b"".join(iter(lambda: direct.recv(4096), b""))


@pytest.mark.parametrize("ip", [network.POD[0], "127.0.0.1"])
def test_the_pods_address_and_loopback(runner: Runner, port: int, ip: str) -> None:
    with runner.serving(c_program("server"), str(port), ip, options=["--steal"]):
        until(lambda: "local C program" in _answer(runner, port), "the local program answers")


def test_a_port_that_another_session_has(runner: Runner, port: int) -> None:
    """The second program listens elsewhere on this machine, but for the same port of the pod."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        other = int(probe.getsockname()[1])
    mapping = [[other, port]]
    with runner.serving(c_program("server"), str(port), options=["--steal"]):
        until(lambda: "local C program" in _answer(runner, port), "the local program answers")
        refused = runner.traced(c_program("server"), str(other), options=_config(runner, port_mapping=mapping))
        assert (refused.status, refused.out) == (1, "")
        said, *rest = refused.err.splitlines()
        assert str(port) in said
        assert rest == ["server: Address already in use"]
        options = _config(runner, port_mapping=mapping, on_concurrent_steal="continue")
        with runner.serving(c_program("server"), str(other), options=options):
            assert "local C program" in _answer(runner, port)
