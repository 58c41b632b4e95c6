"""The file benchmark runs, with next to nothing to do, and its results have the right shape; no times are judged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.files import measures, ratios, table
from benchmarks.files_tree import SMALLEST, BulkServer
from benchmarks.files_ways import Sshfs, outcome

ROOT = Path(__file__).parents[2]

needs_fuse = pytest.mark.skipif(
    not os.access("/dev/fuse", os.R_OK | os.W_OK), reason="needs /dev/fuse that this user may open (chmod 666 /dev/fuse)"
)


@needs_fuse
@pytest.mark.timeout(300)
def test_everything_is_measured_on_every_way(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    words = ["files", "--smallest", "--rounds", "1", "--delays", "2", "--json", str(file)]
    done = subprocess.run([sys.executable, "-m", "benchmarks", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    results = json.loads(file.read_text())
    assert results["scale"] == vars(SMALLEST)
    ways = results["round trips ms"]["2"]
    assert set(ways) == {"local", "mirrord-trace", *(["sshfs"] if Sshfs.server() else [])}
    wanted = measures(SMALLEST, 1)
    for way, found in ways.items():
        assert set(found) == {name for name in wanted if way != "sshfs" or not name.startswith("bulk")}
        for numbers in found.values():
            assert all(
                len(values) == 1 and values[0] > 0 for key, values in numbers.items() if key not in ("stops", "round_trips")
            )
    mine = ways["mirrord-trace"]
    assert all({"stops", "round_trips"} < set(numbers) for numbers in mine.values())
    assert mine["ls -l"]["round_trips"][0] > 0
    assert "ls -l, ms" in done.stdout


def test_the_bulk_server_sends_and_takes() -> None:
    server = BulkServer()
    try:
        for direction in ("down", "up"):
            words = [sys.executable, str(ROOT / "benchmarks" / "files_work.py"), "bulk", "-", str(server.port), direction]
            assert outcome([*words, "3", "1000000"])["MB/s"] > 0
    finally:
        server.close()


def test_work_that_takes_too_long_or_fails() -> None:
    assert outcome(["sleep", "60"], timeout_s=0.01) == {}
    with pytest.raises(RuntimeError, match="ended with 1"):
        outcome(["false"])


def test_ratios_are_times_as_fast() -> None:
    assert ratios("ms", [10.0, 20.0], [20.0, 20.0]) == [2.0, 1.0]
    assert ratios("MB/s", [10.0], [20.0, 30.0]) == [0.5]


def test_table() -> None:
    results = {
        "local": {"ls -l": {"ms": [10.0, 30.0]}},
        "mirrord-trace": {"ls -l": {"ms": [20.0, 60.0], "stops": [7.0, 9.0], "round_trips": [3.0, 3.0]}},
        "sshfs": {},
    }
    lines = table(results).splitlines()
    assert lines[1].split() == ["ls", "-l,", "ms", "20.0", "40.0", "0.50", "8", "3"]
    assert len(lines) == 3
