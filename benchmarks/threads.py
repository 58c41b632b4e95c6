"""Stops of many threads at once: how many, how long each takes, and what a parked thread and bulk data change.

    python -m benchmarks threads [--threads 1,16,256] [--seconds S] [--rounds N] [--delay MS] [--json FILE] [--svg FILE]

The pod is a process of this machine (`-t pid/N`), so this takes root. `parked`: one more thread connects from
the pod again and again, and each refusal takes `--delay` ms (delayed.py). `bulk`: one more thread reads files of the
pod. Everything interleaved, medians over rounds; see threads.c.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mirrord_trace.supervisor.cli.picture import bars

from .contenders import TOOL, Contender, build, contenders, output_of, placed

BULK_FILES, BULK_BYTES = 8, 64 << 20
NOBODYS_PORT = 9

Figures = dict[str, list[tuple[float, float, float]]]
"""Contender -> (calls per second, p50 and p99 in ns) of each round."""


def ways(pid: int, delay_ms: float, way: str) -> dict[str, Contender]:
    """Our own further runs: with a parked thread and with bulk data, and each without, in the same context.

    `way`: python or compiled, which are loops of the engine over ptrace(2), or notify.
    """
    engine, loop = ("notify", "") if way == "notify" else ("ptrace", way)
    variables = {"MIRRORD_TRACE_LOOP": loop}
    options = ("--engine", engine, "-t", f"pid/{pid}", "--")
    far = (sys.executable, "-m", "benchmarks.delayed", str(delay_ms), *options)
    near = (TOOL, *options)
    return {
        f"{way}, nobody parked": Contender("", far, variables),
        f"{way}, one parked": Contender("", far, variables),
        f"{way}, no bulk": Contender("", near, variables),
        f"{way}, bulk": Contender("", near, variables),
    }


def measure(party: Contender, before: list[str], words: list[str], seconds: float) -> tuple[float, float, float]:
    """Calls per second, p50 and p99."""
    output = output_of([*before, *party.words, *words], party.environment(), Path(__file__).parents[1])
    calls, p50, p99 = map(float, (output or "nan nan nan").split())
    return calls / seconds, p50, p99


def run(number: int, seconds: float, rounds: int, delay_ms: float, before: list[str]) -> Figures:
    """All for one number of threads."""
    found: Figures = {}
    with tempfile.TemporaryDirectory(dir="/srv", prefix="bulk-") as pod, tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder), "threads", "minimal_tracer")
        bulk = [Path(pod, str(at)) for at in range(BULK_FILES)]
        for path in bulk:
            path.write_bytes(os.urandom(1 << 20) * (BULK_BYTES >> 20))
        base = [str(built["threads"]), str(number), str(seconds)]
        parties = {one.name: one for one in contenders(built["minimal_tracer"], "openat")}
        with subprocess.Popen(["sleep", "infinity"]) as sleeper:
            try:
                for way in ("python", "compiled", "notify"):
                    parties |= ways(sleeper.pid, delay_ms, way)
                for _ in range(rounds):
                    for name, party in parties.items():
                        parked = str(NOBODYS_PORT) if name.endswith("one parked") else "-"
                        more = [parked, *map(str, bulk)] if name.endswith(", bulk") else [parked]
                        found.setdefault(name, []).append(measure(party, before, [*base, *more], seconds))
            finally:
                sleeper.kill()
    return found


def table(number: int, found: Figures) -> str:
    """For people."""
    lines = [f"{f'{number} threads':26}{'calls/s':>12}{'p50 µs':>12}{'p99 µs':>12}"]
    for name, figures in found.items():
        calls, p50, p99 = (statistics.median(column) for column in zip(*figures, strict=True))
        lines.append(f"{name:26}{calls:12.0f}{p50 / 1000:12.1f}{p99 / 1000:12.1f}")
    return "\n".join(lines)


def picture(results: Mapping[int, Figures]) -> str:
    """The medians of the 99th percentiles, as SVG."""
    groups = {
        f"{number} threads": {name: statistics.median(one[2] for one in rounds) / 1000 for name, rounds in found.items()}
        for number, found in results.items()
    }
    return bars("99th percentile of a stop", "µs", groups)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", default="1,16,256")
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delay", type=float, default=200.0)
    parser.add_argument("--urgent", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    results = {}
    for number in map(int, options.threads.split(",")):
        before = placed("any", options.urgent)
        results[number] = run(number, options.seconds, options.rounds, options.delay, before)
        print(table(number, results[number]), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results) + "\n")
    if options.svg:
        options.svg.write_text(picture(results))


if __name__ == "__main__":
    main()
