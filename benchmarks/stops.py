"""What a stop costs: native, a minimal C tracer, strace, proot, python-ptrace, and both loops and engines of mirrord-trace.

    python -m benchmarks stops [--rounds N] [--cpus any|same] [--urgent] [--json FILE] [--svg FILE]

Every round runs each of them once, in turn, so that a machine whose speed drifts drifts for all. The table shows the
median over the rounds and its ratio to the C tracer (calls that stop) or to native (the others) in the same round. Times
are the program's own, per call (calls.c). `--urgent`: before all other work of the machine (SCHED_RR, as root).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path

from mirrord_trace.supervisor.cli.picture import bars

from .contenders import Contender, build, contenders, placed

STOPPED = ("openat", "stat", "connect")
UNTOUCHED = ("getppid", "read", "write")
CALLS = (*STOPPED, *UNTOUCHED)
BASES = {**dict.fromkeys(STOPPED, "minimal C tracer"), **dict.fromkeys(UNTOUCHED, "native")}

Results = dict[str, dict[str, list[float]]]
"""Contender -> call -> nanoseconds of each round."""


def measure(contender: Contender, program: Path, before: list[str], counts: tuple[int, int]) -> dict[str, float]:
    """Nanoseconds per call of one run."""
    numbers = [str(max(20, count // 100) if contender.slow else count) for count in counts]
    done = subprocess.run(
        [*before, *contender.words, str(program), *numbers],
        check=True, capture_output=True, text=True, env=contender.environment(),
    )  # fmt: skip
    fields = done.stdout.split()
    return {name: float(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}


def run(rounds: int, before: list[str], counts: tuple[int, int] = (20000, 300000)) -> Results:
    """All rounds; the first one only warms up."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        built = build(Path(folder), "calls", "minimal_tracer")
        # What is measured is a decision for this machine; a connect(2) from the pod is more than a stop.
        rules = Path(folder) / "rules.json"
        rules.write_text(json.dumps({"feature": {"network": {"outgoing": {"ignore_localhost": True}}}}))
        rules.chmod(0o644)
        parties = contenders(
            built["minimal_tracer"], "openat,newfstatat,connect", ptrace_loop=True, rules=("-f", str(rules))
        )
        results: Results = {party.name: {call: [] for call in CALLS} for party in parties}
        for number in range(rounds + 1):
            for party in parties:
                measured = measure(party, built["calls"], before, counts)
                for call in CALLS if number else ():
                    results[party.name][call].append(measured[call])
    return results


def table(results: Results) -> str:
    """For people."""
    lines = [f"{'µs, ratio':24}" + "".join(f"{call:>18}" for call in CALLS)]
    for name, calls in results.items():
        line = f"{name:24}"
        for call in CALLS:
            base = results[BASES[call]][call]
            ratio = statistics.median(mine / other for mine, other in zip(calls[call], base, strict=True))
            line += f"{statistics.median(calls[call]) / 1000:10.2f}{ratio:8.2f}"
        lines.append(line)
    lines.append(
        f"ratio: to the minimal C tracer ({', '.join(STOPPED)}), to native ({', '.join(UNTOUCHED)}); medians over rounds"
    )
    return "\n".join(lines)


def picture(results: Results, cpus: str) -> str:
    """The medians, as SVG; without python-ptrace, next to which nothing else can be seen."""
    groups = {
        call: {name: statistics.median(calls[call]) / 1000 for name, calls in results.items() if name != "python-ptrace"}
        for call in CALLS
    }
    return bars(f"Cost of a system call, {cpus} CPU", "µs", groups)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--cpus", choices=("any", "same"), default="any", help="same: tracer and tracee on one CPU")
    parser.add_argument("--urgent", action="store_true")
    options = parser.parse_args()
    results = run(options.rounds, placed(options.cpus, options.urgent))
    if options.json:
        options.json.write_text(json.dumps({"unit": "ns per call", "cpus": options.cpus, "results": results}) + "\n")
    if options.svg:
        options.svg.write_text(picture(results, options.cpus))
    print(table(results))


if __name__ == "__main__":
    main()
