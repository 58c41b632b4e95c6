"""TCP connections under supervision: the same verdicts, events, addresses and bytes as without."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from build import FLAVOURS, c_program, go_program
from mirrord_trace.supervisor.targets.demo import network, services
from runs import Runner


def _static(flavour: str) -> str:
    return "static" if flavour == "glibc" else flavour


@pytest.fixture(scope="module")
def loopback() -> Iterator[tuple[int, int, int]]:
    """Ports on 127.0.0.1: HTTP, refused, echo."""
    http, echo = services.listen("127.0.0.1", 0), services.listen("127.0.0.1", 0)
    services.serve_tcp(http, services.http("this machine"))
    services.serve_tcp(echo, services.echo)
    with socket.socket() as bound:
        # Bound and not listening: nobody else can take it meanwhile.
        bound.bind(("127.0.0.1", 0))
        yield http.getsockname()[1], bound.getsockname()[1], echo.getsockname()[1]


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_local_connections_are_as_without_supervision(runner: Runner, loopback: tuple[int, int, int], flavour: str) -> None:
    http, refused, echo = (str(port) for port in loopback)
    command = (c_program("connect", flavour), "127.0.0.1", http, refused, "127.0.0.1", echo)
    native = runner.native(*command)
    local = runner.local(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_pod_connections_are_as_for_a_process_of_the_pod(runner: Runner, flavour: str, family: int) -> None:
    version = family == 6
    arguments = (
        network.GREETER[version],
        str(network.HTTP_PORT),
        str(network.REFUSED_PORT),
        network.ECHO[version],
        str(network.ECHO_PORT),
        network.UNREACHABLE[version],
        network.BLACK_HOLE[version],
    )
    inside = runner.inside(c_program("connect", _static(flavour)), *arguments)
    traced = runner.traced(c_program("connect", flavour), *arguments)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def test_a_storm_of_goroutines(runner: Runner) -> None:
    storm = runner.traced(go_program("dials"), f"{network.ECHO[0]}:{network.ECHO_PORT}", "500", GOGC="1")
    assert (storm.status, storm.out) == (0, "500 of 500\n"), storm.err
