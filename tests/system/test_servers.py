"""A local server takes over the pod's port while it listens, and the pod has it back afterwards."""

from __future__ import annotations

import json
import os
import signal

import pytest
from build import c_program, go_program
from mirrord_trace.supervisor.targets.demo import container, network
from runs import Runner, until

_GO = "I am the local Go program"


def _says(runner: Runner, text: str, port: int, host: str = network.POD[0], *, in_pod: bool = False) -> bool:
    try:
        return text in runner.pod.visit(port, "/visit", host, in_pod=in_pod).decode()
    except OSError:
        return False


def test_the_port_is_taken_and_given_back(runner: Runner) -> None:
    port = network.SECOND_HTTP_PORT
    assert _says(runner, container.NAME, port)
    with runner.serving(go_program("server"), f":{port}", options=["--steal"]):
        until(lambda: _says(runner, _GO, port), "the local program answers")
        # The program sees who really asked.
        assert runner.pod.visit(port).decode() == f"{_GO}: GET / from {network.CLIENT[0]}\n"
        assert _says(runner, _GO, port, network.POD[1])
        assert _says(runner, _GO, port, in_pod=True)
        assert _says(runner, _GO, port, "127.0.0.1", in_pod=True)
    until(lambda: _says(runner, container.NAME, port), "the pod answers again")


def test_a_privileged_port_as_any_user(runner: Runner) -> None:
    with runner.serving(go_program("server"), ":80", options=["--steal"]):
        until(lambda: _says(runner, _GO, 80), "the local program answers")
    until(lambda: _says(runner, container.NAME, 80), "the pod answers again")


def test_a_port_where_the_pod_does_not_listen(runner: Runner) -> None:
    with runner.serving(go_program("server"), ":5555", options=["--steal"]):
        until(lambda: _says(runner, _GO, 5555), "the local program answers")


@pytest.mark.parametrize("flavour", ["glibc", "static", "musl"])
def test_a_c_server_learns_the_peer_from_accept(runner: Runner, flavour: str) -> None:
    port = network.SECOND_HTTP_PORT
    with runner.serving(c_program("server", flavour), str(port), options=["--steal"]):
        text = f"I am the local C program, asked by {network.CLIENT[0]}"
        until(lambda: _says(runner, text, port), "the local program answers")
    until(lambda: _says(runner, container.NAME, port), "the pod answers again")


@pytest.mark.parametrize("flush", [False, True])
def test_a_connection_of_before_goes_on_with_the_pod_or_is_cut(runner: Runner, flush: bool) -> None:
    port = network.SECOND_HTTP_PORT
    config = runner.folder / "flush.json"
    config.write_text(json.dumps({"agent": {"flush_connections": flush}, "feature": {"network": {"incoming": "steal"}}}))
    request = b"GET /old HTTP/1.1\r\nHost: pod\r\n\r\n"
    with runner.pod.connect(port) as old:
        old.sendall(request)
        assert container.NAME in old.recv(4096).decode()
        with runner.serving(go_program("server"), f":{port}", options=["-f", config]):
            until(lambda: _says(runner, _GO, port), "the local program answers")
            if flush:
                with pytest.raises(ConnectionResetError):
                    old.recv(4096)
            else:
                old.sendall(request)
                assert container.NAME in old.recv(4096).decode()


def test_sigkill_of_the_tool_gives_the_port_back(runner: Runner) -> None:
    port = network.SECOND_HTTP_PORT
    with runner.serving(go_program("server"), f":{port}", options=["--steal"]) as process:
        until(lambda: _says(runner, _GO, port), "the local program answers")
        session = process.pid
        process.kill()
        process.wait()
        until(lambda: _says(runner, container.NAME, port), "the pod answers again")
        until(lambda: not _processes_of(session), "every process of the session has ended")


# The tool was started as leader of its own session; what it starts stays there unless it makes one of its own.
def _processes_of(session: int) -> list[int]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(int(name))
    return found


def test_sigint_ends_the_program_and_is_its_status(runner: Runner) -> None:
    with runner.serving("busybox", "sh", "-c", "echo ready; exec sleep 60") as process:
        os.killpg(process.pid, signal.SIGINT)
        process.wait(timeout=20)
        assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
