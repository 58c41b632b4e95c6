"""Fixtures of the system tests."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from mirrord_trace.supervisor.targets.demo import rootfs
from mirrord_trace.supervisor.tracer import compiled
from runs import ENGINE, ENGINES, Runner, demo_pod, runner

__all__ = ["demo_pod", "runner"]


_ENGINES_OF_THEIR_OWN = {"both_engines", "both_loops", "every_way", "by_ptrace", "by_notification"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what does not need a further run with TEST_ENGINE, before -m is heeded."""
    for item in items:
        if _ENGINES_OF_THEIR_OWN.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("own_engine")


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the pod's file system on this machine."""
    root = tmp_path_factory.mktemp("tree")
    rootfs.populate(str(root))
    return root


@pytest.fixture
def unused_udp_port() -> int:
    """A UDP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@pytest.fixture(params=ENGINES)
def both_engines(request: pytest.FixtureRequest, runner: Runner) -> None:
    """What `runner` runs is supervised by ptrace(2), and in another test by user notification."""
    runner.engine = request.param


@pytest.fixture(params=["python", "compiled"])
def both_loops(request: pytest.FixtureRequest, runner: Runner) -> None:
    """What `runner` runs is supervised by ptrace(2): by the loop in Python, and in another test by the compiled one."""
    runner.engine = "ptrace"
    _use_loop(runner, request.param)


@pytest.fixture(params=["python", "compiled", "notify"] if ENGINE == "ptrace" else [ENGINE])
def every_way(request: pytest.FixtureRequest, runner: Runner) -> None:
    """What `runner` runs is supervised by the loop in Python, in other tests by the compiled one and by the other engine."""
    if request.param == "notify":
        runner.engine = "notify"
    else:
        _use_loop(runner, request.param)


def _use_loop(runner: Runner, loop: str) -> None:
    if loop == "compiled" and compiled.library() is None:
        pytest.skip("the compiled loop was not built: install gcc, then make setup")
    runner.environment[compiled.VARIABLE] = loop
