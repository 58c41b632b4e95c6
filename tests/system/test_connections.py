"""TCP connections under supervision: the same verdicts, events, addresses and bytes as without."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from build import FLAVOURS, HERE, c_program, go_program
from mirrord_trace.supervisor.targets.demo import network, services
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from runs import Runner, until
from scripted import scripted_server

pytestmark = pytest.mark.usefixtures("both_engines")


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


# -- the harder ways ------------------------------------------------------------------------------------------------

_SYN_SENT = "02"


def _hard(port: int) -> tuple[str, ...]:
    greeter, hole = network.GREETER[0], network.BLACK_HOLE[0]
    return (greeter, str(network.HTTP_PORT), str(network.REFUSED_PORT), hole, str(port), network.POD[0])


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_the_harder_ways_to_connect_and_to_end(runner: Runner, flavour: str) -> None:
    """Signals, time limits, retries, disconnecting, binding, handing on, fast open, urgent data, resets, half-closing."""
    with scripted_server(runner.pod) as port:
        inside = runner.inside(c_program("connects", _static(flavour)), *_hard(port))
    with scripted_server(runner.pod) as port:
        traced = runner.traced(c_program("connects", flavour), *_hard(port))
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def test_a_pending_connect_outlives_execve(runner: Runner) -> None:
    with scripted_server(runner.pod) as port:
        traced = runner.traced(c_program("connects"), *_hard(port), "exec")
    assert traced.status == 0, traced
    assert "SO_ERROR after exec: 0\nit answers after exec: hello from the greeter" in traced.out
    assert "the other program's end: 0\n" in traced.out


def test_go_dials_that_are_given_up(runner: Runner) -> None:
    hole, greeter = f"{network.BLACK_HOLE[0]}:{network.HTTP_PORT}", f"{network.GREETER[0]}:{network.HTTP_PORT}"
    command = (go_program("cancels"), hole, f"{network.GREETER[0]}:{network.REFUSED_PORT}", greeter)
    inside, traced = runner.inside(*command), runner.traced(*command)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def _greets(pod: DemoPod, host: str, text: str) -> str:
    # A server in the cluster that greets everybody with a line, until the tests end; its port.
    listener = pod.open_socket()
    listener.bind((host, 0))
    listener.listen(400)
    services.serve_tcp(listener, lambda connection, _peer: connection.sendall(text.encode()))
    return str(listener.getsockname()[1])


def test_an_address_that_changes_during_the_call(runner: Runner) -> None:
    """Each connection goes to one of the two, from the pod; never to what has these addresses here."""
    greeter, echo = network.GREETER[0], network.ECHO[0]
    one, other = _greets(runner.pod, greeter, "one\n"), _greets(runner.pod, echo, "other\n")
    traced = runner.traced(c_program("flip"), greeter, one, echo, other, "300")
    assert traced.status == 0, traced
    # What lies in between (the one's address with the other's port) is nobody's, and refused by the pod.
    known = {"one", "other", "nothing", f"connect: errno 111 ({os.strerror(111)})"}
    seen = Counter(traced.out.splitlines())
    assert set(seen) <= known, seen
    assert sum(seen.values()) == 300
    assert seen["one"] + seen["other"] > 0


def test_kinds_of_sockets_that_cannot_be_the_pods(runner: Runner) -> None:
    kinds = (sys.executable, HERE / "kinds.py", network.ECHO[0], str(network.ECHO_PORT))
    traced = runner.traced(*kinds)
    assert traced.status == 0, traced
    outcomes = dict(line.split(": ") for line in traced.out.splitlines())
    assert outcomes == {
        "tcp": "hello",
        "multipath tcp": "hello",
        "smc": "hello",
        "sctp": "EPROTONOSUPPORT",
        "sctp messages": "ESOCKTNOSUPPORT",
        "dccp": "ESOCKTNOSUPPORT",
        "udp": "made",
        "udp-lite": "EPROTONOSUPPORT",
        "raw icmp": "EPERM",
        "raw": "EPERM",
    }
    assert traced.err.count("cannot be the pod's") == 6, traced.err


# -- many at once -----------------------------------------------------------------------------------------------------


def _step(runner: Runner, name: str) -> None:
    (runner.folder / name).touch()
    until((runner.folder / f"{name}.done").exists, name, 60)


def _syn_sent(pid: int) -> int:
    rows = Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[3] == _SYN_SENT for row in rows)


def test_what_is_closed_while_it_connects_is_given_up_in_the_pod(runner: Runner) -> None:
    hole = ("hole", network.BLACK_HOLE[0], str(network.HTTP_PORT), "30")
    before = _syn_sent(runner.pod.pid)
    with runner.serving(sys.executable, HERE / "crowd.py", *hole):
        _step(runner, "open")
        until(lambda: _syn_sent(runner.pod.pid) >= before + 30, "the pod connects")
        _step(runner, "close")
        until(lambda: _syn_sent(runner.pod.pid) <= before, "the pod gives up")
        (runner.folder / "end").touch()


# Descriptors of the tool's own processes: the tracer, the relay, the agent (where this user may look).
def _descriptors(pid: int) -> dict[str, int]:
    counts = {}
    for process in _family(pid):
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "crowd.py" not in command or "-t demo" in command:
                counts[f"{process} {command[:60]}"] = len(os.listdir(f"/proc/{process}/fd"))
    return counts


def _family(pid: int) -> Iterator[int]:
    yield pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for child in map(int, children):
        yield from _family(child)


def test_a_thousand_connections_leave_nothing_behind(runner: Runner) -> None:
    echo = ("echo", network.ECHO[0], str(network.ECHO_PORT), "1000")
    with runner.serving(sys.executable, HERE / "crowd.py", *echo) as process:
        before = _descriptors(process.pid)
        _step(runner, "open")
        held = _descriptors(process.pid)
        assert max(held[name] - before[name] for name in before) >= 1000, (before, held)
        _step(runner, "close")
        # One each that stays: by which the relay asks the kernel about sockets.
        until(lambda: _is_less(_descriptors(process.pid), before), "descriptors are given back")
        (runner.folder / "end").touch()


def _is_less(counts: dict[str, int], before: dict[str, int]) -> bool:
    return all(count <= before[name] + 1 for name, count in counts.items())
