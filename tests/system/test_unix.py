"""Unix sockets of the pod: the same verdicts, names, messages and answers as a process of the pod gets."""

from __future__ import annotations

import array
import contextlib
import json
import os
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator

import neighbours
import pytest
from build import FLAVOURS, c_program, go_program
from mirrord_trace.supervisor.targets.demo import services
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from runs import Argument, Ran, Runner
from unix_servers import Servers

_PATTERNS = ["^/tmp/unix-", "^@unix-"]


@pytest.fixture
def servers(demo_pod: DemoPod) -> Iterator[Servers]:
    """Fresh ones."""
    servers = Servers(demo_pod)
    yield servers
    servers.close()


def _traced(runner: Runner, *command: Argument, options: tuple[Argument, ...] = (), **more: str) -> Ran:
    config = runner.folder / "unix.json"
    # Python's packages are those of this machine, wherever the virtual environment lies.
    features = {"network": {"outgoing": {"unix_streams": _PATTERNS}}, "fs": {"local": ["^" + re.escape(sys.prefix)]}}
    config.write_text(json.dumps({"feature": features}))
    return runner.traced(*command, options=("-f", config, *options), **more)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_as_for_a_process_of_the_pod(runner: Runner, servers: Servers, flavour: str) -> None:
    inside = runner.inside(c_program("unix", "static" if flavour == "glibc" else flavour), *servers.all)
    traced = _traced(runner, c_program("unix", flavour), *servers.all)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_without_patterns_they_are_local(runner: Runner, servers: Servers, flavour: str) -> None:
    command = (c_program("unix", flavour), *servers.all)
    native, traced = runner.native(*command), runner.traced(*command)
    assert (traced.status, traced.out) == (native.status, native.out), traced.err
    assert "stream: errno 2" in traced.out


def test_go(runner: Runner, servers: Servers) -> None:
    command = (go_program("unixdial"), *servers.all[:3])
    inside, traced = runner.inside(*command), _traced(runner, *command)
    assert inside.status == 0, inside
    assert (traced.status, traced.out) == (inside.status, inside.out), traced.err


def test_curl(runner: Runner, servers: Servers) -> None:
    serve = services.http("the pod")
    servers.listen("http", socket.SOCK_STREAM, lambda connection: serve(connection, "a unix socket"))
    command = ("curl", "-sS", "--unix-socket", servers.path("http"))
    done = _traced(runner, *command, "http://x/a", "http://x/b")
    assert (done.status, done.out.splitlines()) == (0, [f"the pod: GET {path} from a unix socket" for path in ("/a", "/b")])
    done = _traced(runner, *command, "-o", "/dev/null", "-w", "%{size_download}", "http://x/bytes/30000000")
    assert (done.status, done.out) == (0, "30000000"), done.err


@pytest.mark.parametrize("options", [("-d",), ()])
def test_logger(runner: Runner, servers: Servers, options: tuple[str, ...]) -> None:
    done = _traced(runner, "logger", *options, "-u", servers.path("log"), "a line for the pod")
    assert done.status == 0, done.err
    assert servers.wait(1)[0].endswith(b"a line for the pod")


_MESSAGES = """
import socket, sys
own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
for number in range(2000):
    own.sendto(b"%d" % number, sys.argv[1])
"""


def test_no_datagram_is_lost_however_fast(runner: Runner, servers: Servers) -> None:
    done = _traced(runner, sys.executable, "-c", _MESSAGES, servers.path("log"))
    assert done.status == 0, done.err
    assert servers.wait(2000) == [b"%d" % number for number in range(2000)]


_DESCRIPTORS = """
import array, os, socket, sys
own = socket.socket(socket.AF_UNIX)
own.connect(sys.argv[1])
own.send(b"x")
own.recv(1)
socket.send_fds(own, [b"take"], [0])
print(own.recv(10))
"""


def test_descriptors_are_not_passed(runner: Runner, servers: Servers) -> None:
    done = _traced(runner, sys.executable, "-c", _DESCRIPTORS, servers.path("stream"))
    assert (done.status, done.out) == (0, "b''\n"), done.err
    assert done.err.count("SCM_RIGHTS") == 1


def test_descriptors_from_the_pod_do_not_come(runner: Runner, servers: Servers) -> None:
    def pass_one(connection: socket.socket) -> None:
        with open(os.devnull, "rb") as null:
            rights = array.array("i", [null.fileno()])
            connection.sendmsg([b"take"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])

    servers.listen("passing", socket.SOCK_STREAM, pass_one)
    program = "import socket, sys; own = socket.socket(socket.AF_UNIX); own.connect(sys.argv[1]); print(own.recv(10))"
    done = _traced(runner, sys.executable, "-c", program, servers.path("passing"))
    assert (done.status, done.out) == (0, "b''\n"), done.err
    assert "descriptors" in done.err


def test_redis_cli(runner: Runner, servers: Servers, demo_pod: DemoPod) -> None:
    port = 6399
    with neighbours.redis(demo_pod, port, runner.folder):
        servers.listen("redis", socket.SOCK_STREAM, _to(demo_pod, port))
        command = (neighbours.program("redis-cli", "redis-tools"), "-s", servers.path("redis"))
        assert _traced(runner, *command, "set", "key", "of the pod").out == "OK\n"
        assert _traced(runner, *command, "get", "key").out == "of the pod\n"


def test_psql_and_psycopg(runner: Runner, servers: Servers, demo_pod: DemoPod) -> None:
    port = 5499
    with neighbours.postgres(demo_pod, port, runner.folder):
        servers.listen(f".s.PGSQL.{port}", socket.SOCK_STREAM, _to(demo_pod, port))
        place = f"host={servers.folder} port={port} user=ann dbname=postgres"
        psql = (neighbours.program("psql", "postgresql-client"), "-X", "-A", "-t", place)
        done = _traced(runner, *psql, "-c", "select 6 * 7")
        assert (done.status, done.out) == (0, "42\n"), done.err
        program = (
            "import psycopg, sys\n"
            "with psycopg.connect(sys.argv[1]) as own:\n"
            "    print(own.execute('select length(%s)', ['x' * 1000000]).fetchone())"
        )
        done = _traced(runner, sys.executable, "-c", program, place)
        assert (done.status, done.out) == (0, "(1000000,)\n"), done.err


# The server itself has no rights in the pod's file system: what comes to a socket there is passed on to its port.
def _to(pod: DemoPod, port: int) -> Callable[[socket.socket], None]:
    def serve(connection: socket.socket) -> None:
        with pod.connect(port, "127.0.0.1", in_pod=True) as server:
            server.settimeout(None)
            back = threading.Thread(target=_copy, args=(server, connection), daemon=True)
            back.start()
            _copy(connection, server)
            back.join(20)

    return serve


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(65536):
            sink.sendall(content)
        sink.shutdown(socket.SHUT_WR)
