"""What a stop costs: native, a minimal C tracer, strace, proot and mirrord-trace, interleaved in one run.

    python benchmarks/stops.py [--rounds N] [--json FILE] [--pin]

Every round runs each of them once, in turn, so that a machine whose speed drifts drifts for all. The table shows the
median over the rounds and its ratio to the C tracer in the same round. Times are the program's own, per call.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CALLS = ("openat", "getppid")


def build(folder: Path) -> dict[str, Path]:
    """Compile the measured program and the C tracer into `folder`."""
    built = {}
    for name in ("calls", "minimal_tracer"):
        built[name] = folder / name
        subprocess.run(["gcc", "-O2", "-Wall", "-o", built[name], HERE / f"{name}.c"], check=True)
    return built


def contenders(built: dict[str, Path]) -> dict[str, list[str]]:
    """Name -> words put before the program. What is not installed is left out, and said."""
    found = {"native": [], "minimal C tracer": [str(built["minimal_tracer"])]}
    peers = {
        "strace": ["strace", "-f", "--seccomp-bpf", "-e", "trace=openat", "-o", "/dev/null"],
        "proot": ["proot"],
        "mirrord-trace": [str(Path(sys.executable).parent / "mirrord-trace"), "-t", "demo", "--"],
    }
    for name, words in peers.items():
        if shutil.which(words[0]):
            found[name] = words
        else:
            print(f"left out: {name} is not installed", file=sys.stderr)
    return found


def measure(words: list[str], program: Path, pin: bool) -> dict[str, float]:
    """Nanoseconds per call of one run."""
    prefix = ["taskset", "-c", str(max(os.sched_getaffinity(0)))] if pin else []
    done = subprocess.run([*prefix, *words, str(program)], check=True, capture_output=True, text=True)
    fields = done.stdout.split()
    return {name: float(value) for name, value in zip(fields[::2], fields[1::2], strict=True)}


def run(rounds: int, pin: bool) -> dict[str, dict[str, list[float]]]:
    """All rounds: contender -> call -> nanoseconds of each round."""
    with tempfile.TemporaryDirectory() as folder:
        built = build(Path(folder))
        os.chmod(folder, 0o755)
        parties = contenders(built)
        results: dict[str, dict[str, list[float]]] = {name: {call: [] for call in CALLS} for name in parties}
        for number in range(rounds + 1):
            for name, words in parties.items():
                measured = measure(words, built["calls"], pin)
                if number:  # the first round warms up
                    for call in CALLS:
                        results[name][call].append(measured[call])
    return results


def table(results: dict[str, dict[str, list[float]]]) -> str:
    """For people."""
    lines = [f"{'':18}" + "".join(f"{call + ' µs':>14}{'ratio':>8}" for call in CALLS)]
    bases = {"openat": "minimal C tracer", "getppid": "native"}
    for name, calls in results.items():
        line = f"{name:18}"
        for call in CALLS:
            base = results[bases[call]][call]
            ratio = statistics.median(mine / other for mine, other in zip(calls[call], base, strict=True))
            line += f"{statistics.median(calls[call]) / 1000:14.2f}{ratio:8.2f}"
        lines.append(line)
    lines.append("ratio: to the minimal C tracer (openat, stopped), to native (getppid, untouched); medians over rounds")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pin", action="store_true", help="tracer and tracee on one CPU")
    options = parser.parse_args()
    results = run(options.rounds, options.pin)
    text = json.dumps({"unit": "ns per call", "pinned": options.pin, "results": results})
    if options.json:
        options.json.write_text(text + "\n")
    else:
        print(text)
    print(table(results))


if __name__ == "__main__":
    main()
