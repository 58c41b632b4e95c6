"""How many stops and round trips an operation costs, as exact counts: what 2N operations cost more than N."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from build import FLAVOURS, c_program
from mirrord_trace.supervisor.targets.demo import network
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from runs import Runner
from unix_servers import Servers

_TIMES = 50
_SMALL = "/app/lines.txt"
_GREETER = (network.GREETER[0], str(network.HTTP_PORT))
_ECHO = (network.ECHO[0], str(network.ECHO_PORT))


@dataclass(frozen=True)
class Cost:
    """Of one operation."""

    stops: float
    round_trips: float


def _cost(runner: Runner, flavour: str, operation: str, *arguments: str | Path) -> Cost:
    program = c_program("loop", flavour)
    counts = []
    for times in (_TIMES, 2 * _TIMES):
        file = runner.folder / f"stats-{times}.json"
        done = runner.traced(program, operation, str(times), *arguments, options=["--stats-file", file])
        assert done.status == 0, done
        counts.append(json.loads(file.read_text()))
    fewer, more = counts
    return Cost(
        (more["stops"] - fewer["stops"]) / _TIMES,
        (more["round_trips"] - fewer["round_trips"]) / _TIMES,
    )


pytestmark = pytest.mark.parametrize("flavour", FLAVOURS)


def test_an_allowed_call_never_stops(runner: Runner, flavour: str) -> None:
    assert _cost(runner, flavour, "getppid") == Cost(0, 0)


def test_a_local_open_stops_once(runner: Runner, flavour: str) -> None:
    path = runner.folder / "here"
    path.write_text("here")
    assert _cost(runner, flavour, "open-close", path) == Cost(1, 0)


def test_a_small_pod_file(runner: Runner, flavour: str) -> None:
    cost = _cost(runner, flavour, "open-read-close", _SMALL)
    assert cost.stops <= 2, cost
    assert cost.round_trips == 1, cost


def test_reading_an_open_pod_file_never_stops(runner: Runner, flavour: str) -> None:
    assert _cost(runner, flavour, "read", _SMALL) == Cost(0, 0)


def test_a_stat_of_a_pod_file(runner: Runner, flavour: str) -> None:
    assert _cost(runner, flavour, "stat", _SMALL) == Cost(1, 1)


def test_a_connect(runner: Runner, flavour: str) -> None:
    cost = _cost(runner, flavour, "connect-close", *_GREETER)
    assert cost.stops <= 2, cost
    assert cost.round_trips == 1, cost


def test_a_connected_socket_never_stops(runner: Runner, flavour: str) -> None:
    assert _cost(runner, flavour, "echo", *_ECHO) == Cost(0, 0)


def test_the_pods_addresses(runner: Runner, flavour: str) -> None:
    """getifaddrs(3): links and addresses, that is two dumps. What the relay was told a moment ago is not asked again."""
    cost = _cost(runner, flavour, "addresses")
    assert cost.stops <= (4 if flavour == "musl" else 12), cost
    assert cost.round_trips < 0.5, cost


def test_a_connect_to_a_unix_socket_of_the_pod(runner: Runner, flavour: str, demo_pod: DemoPod) -> None:
    runner.environment["MIRRORD_OUTGOING_REMOTE_UNIX_STREAMS"] = "^/tmp/unix-"
    with contextlib.closing(Servers(demo_pod)) as servers:
        assert _cost(runner, flavour, "unix-connect-close", servers.path("stream")) == Cost(1, 1)


def test_a_connected_unix_datagram_socket_never_stops(runner: Runner, flavour: str, demo_pod: DemoPod) -> None:
    runner.environment["MIRRORD_OUTGOING_REMOTE_UNIX_STREAMS"] = "^/tmp/unix-"
    with contextlib.closing(Servers(demo_pod)) as servers:
        assert _cost(runner, flavour, "unix-datagrams", servers.path("log")) == Cost(0, 0)


def test_without_unix_streams_a_unix_datagram_socket_never_stops(runner: Runner, flavour: str) -> None:
    assert _cost(runner, flavour, "unix-socket") == Cost(0, 0)
