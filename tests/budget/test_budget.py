"""How many stops and round trips an operation costs, as exact counts."""

from __future__ import annotations

import contextlib

import pytest
from build import FLAVOURS
from costs import Cost, cost
from mirrord_trace.supervisor.targets.demo import network
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from runs import Runner
from unix_servers import Servers

_GREETER = (network.GREETER[0], str(network.HTTP_PORT))
_ECHO = (network.ECHO[0], str(network.ECHO_PORT))


pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)


def test_an_allowed_call_never_stops(runner: Runner, flavour: str) -> None:
    assert cost(runner, flavour, "getppid") == Cost(0, 0)


def test_a_local_open_stops_once(runner: Runner, flavour: str) -> None:
    path = runner.folder / "here"
    path.write_text("here")
    assert cost(runner, flavour, "open-close", path) == Cost(1, 0)


def test_a_connect(runner: Runner, flavour: str) -> None:
    found = cost(runner, flavour, "connect-close", *_GREETER)
    assert found.stops <= 2, found
    assert found.round_trips == 1, found


def test_a_connected_socket_never_stops(runner: Runner, flavour: str) -> None:
    assert cost(runner, flavour, "echo", *_ECHO) == Cost(0, 0)


def test_the_pods_addresses(runner: Runner, flavour: str) -> None:
    """getifaddrs(3): links and addresses, that is two dumps. What the relay was told a moment ago is not asked again."""
    found = cost(runner, flavour, "addresses")
    assert found.stops <= (4 if flavour == "musl" else 12), found
    assert found.round_trips < 0.5, found


def test_a_connect_to_a_unix_socket_of_the_pod(runner: Runner, flavour: str, demo_pod: DemoPod) -> None:
    runner.environment["MIRRORD_OUTGOING_REMOTE_UNIX_STREAMS"] = "^/tmp/unix-"
    with contextlib.closing(Servers(demo_pod)) as servers:
        assert cost(runner, flavour, "unix-connect-close", servers.path("stream")) == Cost(1, 1)


def test_a_connected_unix_datagram_socket_never_stops(runner: Runner, flavour: str, demo_pod: DemoPod) -> None:
    runner.environment["MIRRORD_OUTGOING_REMOTE_UNIX_STREAMS"] = "^/tmp/unix-"
    with contextlib.closing(Servers(demo_pod)) as servers:
        assert cost(runner, flavour, "unix-datagrams", servers.path("log")) == Cost(0, 0)


def test_without_unix_streams_a_unix_datagram_socket_never_stops(runner: Runner, flavour: str) -> None:
    assert cost(runner, flavour, "unix-socket") == Cost(0, 0)
