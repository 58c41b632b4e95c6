"""What an operation costs: what 2N operations cost more than N."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from build import c_program
from runs import Argument, Runner

TIMES = 50


@dataclass(frozen=True)
class Cost:
    """Of one operation, or of a whole run."""

    stops: float
    round_trips: float


def run_cost(runner: Runner, *command: Argument, options: Sequence[Argument] = ()) -> Cost:
    """Of a whole run, which has to succeed."""
    file = runner.folder / "stats.json"
    done = runner.traced(*command, options=["--stats-file", file, *options])
    assert done.status == 0, done
    counts = json.loads(file.read_text())
    return Cost(counts["stops"], counts["round_trips"])


def cost(runner: Runner, flavour: str, operation: str, *arguments: str | Path, options: Sequence[Argument] = ()) -> Cost:
    """Of one operation of tests/programs/loop.c."""
    program = c_program("loop", flavour)
    fewer, more = (
        run_cost(runner, program, operation, str(times), *arguments, options=options) for times in (TIMES, 2 * TIMES)
    )
    return Cost((more.stops - fewer.stops) / TIMES, (more.round_trips - fewer.round_trips) / TIMES)
