"""The shape of what `mirrord-trace bench` shows. Times are whatever they are."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from mirrord_trace.supervisor.cli import bench as module
from mirrord_trace.supervisor.cli.bench import CALLS, MEASURED, Cost, bench, costs, in_turn, table
from mirrord_trace.supervisor.errors import UsageError


def test_ratios_are_to_the_same_round() -> None:
    found = costs("openat", {"native": [1.0, 2.0, 4.0], "other": [2.0, 4.0, 4.0]})
    assert found == [Cost("native", "openat", 2.0, 1.0), Cost("other", "openat", 4.0, 2.0)]


def test_the_first_round_warms_up_and_the_others_take_turns() -> None:
    ran: list[str] = []

    def run(name: str) -> dict[str, float]:
        ran.append(name)
        return {"x": float(len(ran))}

    found = in_turn(2, {"a": lambda: run("a"), "b": lambda: run("b")})
    assert ran == ["a", "b"] * 3
    assert found == {"x": {"a": [3.0, 5.0], "b": [4.0, 6.0]}}


def test_the_measured_program() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MEASURED, "20"], check=True, capture_output=True, text=True
    )  # fmt: skip
    assert tuple(json.loads(done.stdout)) == CALLS


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Sequence[str], str]]:
    """Nothing is run; what would be is noted."""
    noted: list[tuple[Sequence[str], str]] = []

    def run(words: Sequence[str], loop: str, output: int | None) -> str:
        noted.append((words, loop))
        if "--stats-file" in words:
            with open(words[words.index("--stats-file") + 1], "w", encoding="utf-8") as file:
                json.dump({"seconds": 0.5}, file)
        return json.dumps(dict.fromkeys(CALLS, 10.0))

    monkeypatch.setattr(module, "_run", run)
    return noted


def test_calls_as_json(runs: list[tuple[Sequence[str], str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: "/usr/bin/strace")
    monkeypatch.setattr(module, "_is_built", lambda: True)
    shown = json.loads(CliRunner().invoke(bench, ["-r", "2", "-o", "json"]).stdout)
    ours = ["mirrord-trace, python", "mirrord-trace, compiled", "mirrord-trace, notify"]
    names = ["native", *ours, "strace --seccomp-bpf", "proot"]
    assert [(cost["call"], cost["contender"]) for cost in shown["costs"]] == [(call, name) for call in CALLS for name in names]
    assert {cost["ratio"] for cost in shown["costs"]} == {1.0}
    assert [loop for _, loop in runs] == ["", "python", "compiled", "", "", ""] * 3


def test_a_program_as_a_table(runs: list[tuple[Sequence[str], str]]) -> None:
    done = CliRunner().invoke(bench, ["-r", "1", "--", "cmd", "-o", "x"])
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == ["program"] * 3 + ["with"] * 3
    assert [tuple(words[-3:]) for words, _ in runs] == [("cmd", "-o", "x")] * 6
    assert [words[words.index("--engine") + 1] for words, _ in runs if "--engine" in words] == ["ptrace", "notify"] * 2
    assert "demo" in runs[1][0]


@pytest.mark.parametrize("words", [[], ["--", "cmd", "<x>"]])
def test_a_picture(runs: list[tuple[Sequence[str], str]], words: list[str]) -> None:
    done = CliRunner().invoke(bench, ["-r", "1", "-o", "svg", *words])
    assert done.exit_code == 0
    texts = [text.text for text in ElementTree.fromstring(done.stdout).iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == f"What supervision costs{': cmd <x> (s)' if words else ' a system call (µs)'}"
    assert set(texts) >= ({"program", "mirrord-trace"} if words else {*CALLS, "mirrord-trace, notify"})


def test_a_table_has_a_line_for_each() -> None:
    assert len(table([Cost("native", "openat", 1.0, 1.0)] * 3, "ns")) == 4


@pytest.mark.parametrize(("words", "text"), [(["/no/such"], "cannot execute /no/such"), (["/bin/false"], "status 1")])
def test_a_program_that_fails(words: list[str], text: str) -> None:
    done = CliRunner().invoke(bench, ["--", *words])
    assert isinstance(done.exception, UsageError)
    assert text in done.exception.text
