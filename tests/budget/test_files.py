"""What file operations cost where the pod's tree is mounted, and where its files are copied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from build import FLAVOURS, c_program
from costs import TIMES, Cost, cost, run_cost
from runs import Runner

_SMALL = "/app/lines.txt"
_EACH = "/app/many/file-%04ld"


def _options(runner: Runner, **fs: object) -> list[str | Path]:
    """Nothing that is known goes out of date while a test counts, unless it says otherwise."""
    config = runner.folder / "budget.json"
    config.write_text(json.dumps({"feature": {"fs": {"attribute_seconds": 600, "negative_seconds": 600, **fs}}}))
    return ["-f", config]


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestMounted:
    """Each operation on its own."""

    def test_a_small_file_cold(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "open-read-close-each", _EACH, options=_options(runner)) == Cost(2, 1)

    def test_a_small_file_warm(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "open-read-close", _SMALL, options=_options(runner)) == Cost(2, 0)

    def test_a_small_file_with_nothing_remembered(self, runner: Runner, flavour: str) -> None:
        options = _options(runner, attribute_seconds=0, negative_seconds=0)
        found = cost(runner, flavour, "open-read-close", _SMALL, options=options)
        assert found.stops == 2, found

    def test_reading_and_writing_and_fstat_never_stop(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "read", _SMALL, options=_options(runner)) == Cost(0, 0)
        # glibc's fstat(3) is fstatat(2) with a path, which a filter cannot look at.
        assert cost(runner, flavour, "fstat", _SMALL, options=_options(runner)) == Cost(flavour != "musl", 0)
        program, writing = c_program("loop", flavour), _options(runner, mode="write")
        _, one, many = (run_cost(runner, program, "write", str(n), "/app/budget", options=writing) for n in (1, 1, 1 + TIMES))
        assert one.stops == many.stops
        # Which nobody waits for; how many writes travel together is a matter of time.
        assert many.round_trips <= one.round_trips + TIMES

    def test_a_warm_stat(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "stat", _SMALL, options=_options(runner)) == Cost(1, 0)

    def test_a_name_that_is_known_to_be_absent(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "missing", "/app/nothing", options=_options(runner)) == Cost(1, 0)

    def test_one_stat_after_the_other_in_a_directory(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "stat-each", _EACH, options=_options(runner)) == Cost(1, 0)


@pytest.mark.parametrize("command", [["ls", "-l"], ["busybox", "ls", "-l"], ["find"], ["du", "-s"]], ids=" ".join)
def test_looking_at_all_of_a_directory(runner: Runner, command: list[str]) -> None:
    """2,000 files: at most 3 round trips."""
    nothing = ["busybox", "true"] if command[0] == "busybox" else [command[0], "--version"]
    few = run_cost(runner, *nothing, options=_options(runner))
    many = run_cost(runner, *command, "/app/many", options=_options(runner))
    assert many.round_trips - few.round_trips <= 3, (few, many)


@pytest.mark.parametrize("flavour", FLAVOURS)
class TestCopied:
    """Where there is no FUSE."""

    def test_a_small_file(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "open-read-close", _SMALL, options=_options(runner, fuse="off")) == Cost(2, 1)

    def test_reading_never_stops(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "read", _SMALL, options=_options(runner, fuse="off")) == Cost(0, 0)

    def test_a_stat(self, runner: Runner, flavour: str) -> None:
        assert cost(runner, flavour, "stat", _SMALL, options=_options(runner, fuse="off")) == Cost(1, 1)


