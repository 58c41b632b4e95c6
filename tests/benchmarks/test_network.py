"""The pieces of the network benchmark do what they say, on loopback and with next to no traffic; no times are judged."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

import build

from benchmarks.network import plain, table
from benchmarks.network_measures import MEASURES, Scale, held, stalled
from benchmarks.network_rig import Way, running
from benchmarks.processes import Processes, resident_mib

SMALL = Scale(100_000, 5, 0.02, 5)


@pytest.fixture(scope="module")
def program() -> Path:
    return build.go_program("traffic")


@pytest.fixture
def way(program: Path) -> Iterator[Way]:
    """The driven program, and a server on loopback."""
    with running([str(program), "serve", "127.0.0.1:0", "127.0.0.1:0"]) as server:
        assert server.stdout is not None
        word, http, raw = server.stdout.readline().split()
        assert word == "ready"
        with running(["sh", "-c", 'while read -r line; do "$0" $line; done', str(program)]) as driver:
            yield Way("direct", f"127.0.0.1:{http}", f"127.0.0.1:{raw}", driver, Processes([server.pid]))
        server.terminate()
        assert '"answered"' in server.stdout.readline()


def test_every_measurement_gives_numbers(way: Way) -> None:
    found = {name: value for measure in MEASURES for name, value in measure(way, SMALL).items()}
    assert found["connects failed"] == found["http x1 lost"] == found["http x32 lost"] == 0
    assert min(found["down MB/s"], found["up MB/s"], found["both MB/s"], found["http x32 req/s"]) > 0
    assert stalled(way, SMALL)["beside a stalled one MB/s"] > 0


def test_many_connections_are_held(way: Way) -> None:
    found = held(way, SMALL, {"server": way.between.pids[0]})
    assert found["5 connections failed"] == 0
    assert found["server idle MiB"] > 0


def test_requests_at_a_rate(way: Way, program: Path) -> None:
    answer = way.ask("http", "HTTP", 4, 0.05, 1000)
    assert (answer["sent"], answer["answered"], answer["lost"]) == (50, 50, 0)
    # Nobody listens: each is counted as lost, and the load goes on.
    answer = way.ask("http", "127.0.0.1:1", 4, 0.01, 1000)
    assert (answer["sent"], answer["lost"]) == (10, 10)
    assert "refused" in answer["error"]


def test_processes() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import sys; sum(range(10**6)); print(flush=True); sys.stdin.read()"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert resident_mib(child.pid) > 1
        assert Processes([child.pid]).cpu_s() >= 0
        assert child.pid in Processes.named(Path(f"/proc/{child.pid}/comm").read_text().strip()).pids
    assert Processes([child.pid]).cpu_s() == 0


def test_tables() -> None:
    results = {name: {"bulk MB/s": [value, value], "lost": [0, 0]} for name, value in (("kubectl", 2), ("mirrord-trace", 3))}
    lines = table(results).splitlines()
    assert lines[1].split() == ["bulk", "MB/s", "2.0", "3.0", "1.50"]
    assert lines[2].split() == ["lost", "0.0", "0.0"]
    assert plain("title", {"a": 1, "b": "text"}).splitlines()[0] == "title"
