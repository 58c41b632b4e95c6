"""The pieces of the benchmarks of stops do what they say; no times are judged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from mirrord_trace.supervisor.cli.picture import bars

from benchmarks import programs, stops, threads
from benchmarks.contenders import Contender, build, contenders, output_of

RESULTS = {
    name: {call: [1000.0 * factor, 2000.0 * factor] for call in stops.CALLS}
    for name, factor in (("native", 1), ("minimal C tracer", 10), ("mirrord-trace, compiled", 12))
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return build(tmp_path_factory.mktemp("built"), "calls", "threads", "minimal_tracer")


@pytest.mark.parametrize("traced", [False, True])
def test_each_call_is_measured(built: dict[str, Path], traced: bool) -> None:
    party = Contender("x", (str(built["minimal_tracer"]),) if traced else ())
    measured = stops.measure(party, built["calls"], [], (20, 20))
    assert tuple(measured) == stops.CALLS
    assert all(value > 0 for value in measured.values())


@pytest.mark.parametrize("traced", [False, True])
def test_threads_tell_their_percentiles(built: dict[str, Path], traced: bool) -> None:
    party = Contender("x", (str(built["minimal_tracer"]),) if traced else ())
    calls, p50, p99 = threads.measure(party, [], [str(built["threads"]), "4", "0.1", "/no/such-"], 0.1)
    assert calls > 0
    assert 0 < p50 <= p99


def test_tables_and_pictures() -> None:
    lines = stops.table(RESULTS).splitlines()
    assert [line.split("  ")[0] for line in lines[1:4]] == list(RESULTS)
    assert lines[3].split()[-12:-10] == ["18.00", "1.20"]
    picture = ElementTree.fromstring(stops.picture(RESULTS, "any"))
    assert len(picture.findall("{http://www.w3.org/2000/svg}rect")) == 1 + len(RESULTS) * len(stops.CALLS)
    shown = programs.table({"git": {"native": [1.0, 1.0], "strace": [3.0, 2.0]}})
    assert shown.splitlines()[2].split() == ["strace", "2.500", "2.50"]
    ElementTree.fromstring(bars("<a&b>", "s", {"x": {"y": 0.0}}))


def test_who_is_compared(built: dict[str, Path]) -> None:
    names = [party.name for party in contenders(built["minimal_tracer"], "openat", ptrace_loop=True)]
    assert names[:2] == ["native", "minimal C tracer"]
    assert "python-ptrace" in names


def test_a_contender_that_cannot_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert output_of(["/bin/sh", "-c", "echo why >&2; false"], {}) is None
    assert "why" in capsys.readouterr().err
    assert output_of(["/bin/echo", "x"], {}) == "x\n"


def test_programs_are_prepared(tmp_path: Path) -> None:
    for name, prepare in (("imports", programs.imports), ("git", lambda place: programs.git_status(place, 5))):
        (tmp_path / name).mkdir()
        program = prepare(tmp_path / name)
        assert programs.seconds_of(Contender("native"), program, [], tmp_path / "stats") > 0


def test_the_loop_of_python_ptrace(built: dict[str, Path]) -> None:
    loop = Path(programs.HERE, "ptrace_loop.py")
    done = subprocess.run(
        [sys.executable, loop, built["calls"], "20", "20", "read"], capture_output=True, text=True, check=True, timeout=60
    )  # fmt: skip
    assert done.stdout.startswith("read ")
