"""Bad pointers and lengths get the kernel's errno, whoever answers the call."""

from __future__ import annotations

from pathlib import Path

import pytest
from build import FLAVOURS, c_program
from mirrord_trace.supervisor.targets.demo import network, services
from runs import Runner

pytestmark = pytest.mark.usefixtures("every_way")


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_here(runner: Runner, tree: Path, flavour: str) -> None:
    listener = services.listen("127.0.0.1", 0)
    with listener:
        command = (c_program("pointers", flavour), tree / "app", "127.0.0.1", str(listener.getsockname()[1]))
        native = runner.native(*command)
        local = runner.local(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_in_the_pod(runner: Runner, flavour: str) -> None:
    arguments = ("/app", network.GREETER[0], str(network.HTTP_PORT))
    inside = runner.inside(c_program("pointers", "static" if flavour == "glibc" else flavour), *arguments)
    traced = runner.traced(c_program("pointers", flavour), *arguments)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err
