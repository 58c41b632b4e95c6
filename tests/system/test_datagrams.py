"""UDP under supervision: connected or not, by every call, with the right addresses."""

from __future__ import annotations

import pytest
from build import FLAVOURS, c_program
from mirrord_trace.supervisor.targets.demo import network, services
from runs import Runner


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_local_datagrams_are_as_without_supervision(runner: Runner, flavour: str, unused_udp_port: int) -> None:
    services.serve_udp("127.0.0.1", unused_udp_port, services.same)
    command = (c_program("udp", flavour), "127.0.0.1", str(unused_udp_port), "1")
    native = runner.native(*command)
    local = runner.local(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err


@pytest.mark.parametrize("version", [0, 1], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_pod_datagrams_are_as_for_a_process_of_the_pod(runner: Runner, flavour: str, version: int) -> None:
    arguments = (network.ECHO[version], str(network.ECHO_PORT), str(network.REFUSED_PORT))
    inside = runner.inside(c_program("udp", "static" if flavour == "glibc" else flavour), *arguments)
    traced = runner.traced(c_program("udp", flavour), *arguments)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err
