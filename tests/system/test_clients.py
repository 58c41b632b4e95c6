"""Real clients of every kind reach services that only the pod can reach."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from build import HERE, go_program
from mirrord_trace.supervisor.targets.demo import cluster, network, rootfs
from runs import Runner

_ANSWER = f"{cluster.GREETER_NAME}: GET / from {network.POD[0]}\n"


@pytest.fixture(autouse=True)
def needs_programs() -> None:
    for program in ("busybox", "curl"):
        assert shutil.which(program), f"{program} is not installed (apt-get install {program})"


def test_a_static_go_client(runner: Runner) -> None:
    url = f"http://{network.GREETER[0]}/"
    traced = runner.traced(go_program("client"), url)
    assert (traced.status, traced.out) == (0, f"{url}: 200 {_ANSWER}"), traced.err


def test_curl(runner: Runner) -> None:
    traced = runner.traced("curl", "-sS", "-4", "http://greeter/")
    assert (traced.status, traced.out) == (0, _ANSWER), traced.err


def test_curl_learns_what_the_pod_would(runner: Runner) -> None:
    port = network.REFUSED_PORT
    traced = runner.traced("curl", "-sS", "--max-time", "10", f"http://{network.GREETER[0]}:{port}/")
    assert traced.status == 7, traced


def test_static_busybox(runner: Runner) -> None:
    traced = runner.traced("busybox", "wget", "-q", "-O", "-", f"http://{network.GREETER[0]}/")
    assert (traced.status, traced.out) == (0, _ANSWER), traced.err


def test_bulk_over_http_is_whole(runner: Runner) -> None:
    size = 30_000_000
    target = runner.folder / "bulk"
    traced = runner.traced("curl", "-sS", "-o", target, f"http://{network.GREETER[0]}/bytes/{size}")
    assert traced.status == 0, traced
    assert target.stat().st_size == size


def test_python_with_asyncio_and_children(runner: Runner) -> None:
    program = HERE / "asynchronous.py"
    traced = runner.traced(sys.executable, program, network.ECHO[0], str(network.ECHO_PORT), "/app/big.bin")
    expected = [
        "asyncio 30",
        f"subprocess {list(range(10))}",
        f"threads 10 {{{rootfs.BIG_BYTES}}}",
        "peer True",
        "fork 3",
        "",
    ]
    assert (traced.status, traced.out.split("\n")) == (0, expected), traced.err


def test_observe_sees_the_pod(runner: Runner) -> None:
    program: Path = go_program("observe")
    inside = runner.inside(program)
    traced = runner.traced(program)
    assert f"hostname: {rootfs.HOSTNAME}" in inside.out, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err
