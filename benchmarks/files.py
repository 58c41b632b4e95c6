"""Files through mirrord-trace, on sshfs and on the local disk, with a channel that is made longer, interleaved in one run.

    python -m benchmarks files [--rounds N] [--delays 0,10,40] [--quick] [--repository N] [--only MEASURE] [--json FILE]

The pod is a process of this machine, its tree a folder of this machine's disk: all ways lead to the same files. Delays are
round trips in milliseconds, made in code (delay.py); there is no limit on bandwidth. In every round each measurement is made
on each way in turn, and every time on a new session or mount, so that nothing is known or cached there. Tables show the median
over the rounds, and medians of the ratios within a round, such that more than 1 is faster than the other.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .files_tree import QUICK, SMALLEST, BulkServer, Scale, prepare
from .files_ways import Local, Numbers, Sshfs, Supervised, Way

Results = dict[str, dict[str, dict[str, list[float]]]]
"""Way -> measurement -> number -> its value in each round in which it could be had."""

BULK_STREAMS = 16
_COUNTS = ("stops", "round_trips")


def measures(scale: Scale, port: int) -> dict[str, list[str]]:
    """Name -> words for the work program. Bulk goes through what mirrord-trace has for TCP, not through files."""
    big = str(scale.big_bytes)
    blocks = {"4 kB": "4096", "128 kB": "131072", "1 MB": "1048576"}
    found = {f"read {name}": ["read", "FOLDER", block] for name, block in blocks.items()}
    found |= {f"write {name}": ["write", "FOLDER", block, big] for name, block in blocks.items()}
    for direction in ("down", "up"):
        for streams in (1, BULK_STREAMS):
            found[f"bulk {direction} x{streams}"] = ["bulk", "FOLDER", str(port), direction, str(streams), big]
    python = [sys.executable, "-S", "FOLDER/modules/main.py"]
    return found | {
        "small files": ["small", "FOLDER"],
        "stat": ["stat", "FOLDER", str(scale.stats)],
        "ls -l": ["program", "FOLDER", "ls", "-l", "FOLDER/thousand"],
        "find": ["program", "FOLDER", "find", "FOLDER/many", "-type", "f", "-size", "+1M"],
        "git status": ["program", "FOLDER", "git", "-C", "FOLDER/repository", "status", "--porcelain"],
        "import": ["program", "FOLDER", *python],
    }


def run(tree: Path, folder: Path, scale: Scale, options: argparse.Namespace) -> dict[str, Results]:
    """All delays: round trip in ms -> results."""
    pod = subprocess.Popen(["sleep", "infinity"])
    server = BulkServer()
    try:
        ways = all_ways(tree, folder, pod.pid)
        work = {
            name: words for name, words in measures(scale, server.port).items() if not options.only or name in options.only
        }
        results: dict[str, Results] = {}
        for delay in options.delays:
            results[f"{delay:g}"] = {}
            for number in range(options.rounds):
                one_round(ways, work, delay, number, results[f"{delay:g}"])
                for left in tree.glob("written-*"):  # by what took too long
                    left.unlink()
            print(f"\nround trip {delay:g} ms\n{table(results[f'{delay:g}'])}", flush=True)
        return results
    finally:
        server.close()
        pod.kill()
        pod.wait()


def all_ways(tree: Path, folder: Path, pid: int) -> list[Way]:
    """Those that there are. What is not installed is left out, and said."""
    ways: list[Way] = [Local(tree), Supervised(tree, folder, pid)]
    sftp_server = Sshfs.server()
    if sftp_server:
        ways.append(Sshfs(tree, sftp_server))
    else:
        print("left out: sshfs, or openssh-sftp-server, is not installed", file=sys.stderr)
    return ways


def one_round(ways: list[Way], work: dict[str, list[str]], delay: float, number: int, results: Results) -> None:
    """Each measurement on each way."""
    for name, words in work.items():
        for way in ways:
            if name.startswith("bulk") and isinstance(way, Sshfs):
                continue
            found: Numbers = way.run(words, delay)
            shown = ", ".join(f"{key} {value:.1f}" for key, value in found.items()) or "took too long"
            print(f"{delay:g} ms, round {number}, {name}, {way.name}: {shown}", file=sys.stderr)
            values = results.setdefault(way.name, {}).setdefault(name, {})
            for key, value in found.items():
                values.setdefault(key, []).append(value)


def table(results: Results) -> str:
    """For people."""
    ways = list(results)
    others = [way for way in ways if way != "mirrord-trace"]
    head = f"{'':24}" + "".join(f"{way:>15}" for way in ways) + "".join(f"{'to ' + way:>11}" for way in others)
    lines = [head + f"{'stops':>8}{'trips':>8}"]
    for name, numbers in results["mirrord-trace"].items():
        for key in numbers:
            if key in _COUNTS:
                continue
            line = f"{name + ', ' + key:24}"
            for way in ways:
                line += _median(results[way].get(name, {}).get(key, []), 15, 1)
            for way in others:
                line += _median(ratios(key, numbers[key], results[way].get(name, {}).get(key, [])), 11, 2)
            lines.append(line + "".join(_median(numbers.get(count, []), 8, 0) for count in _COUNTS))
    lines.append(
        "medians over rounds; to: times as fast as that; stops and round trips beyond those of a program that does nothing"
    )
    return "\n".join(lines)


def ratios(key: str, mine: list[float], other: list[float]) -> list[float]:
    """How many times faster, in each round: of rates, or of times."""
    pairs = [(one, two) for one, two in zip(mine, other, strict=False) if one and two]
    return [two / one if key == "ms" else one / two for one, two in pairs]


def _median(values: list[float], width: int, digits: int) -> str:
    return f"{statistics.median(values):{width},.{digits}f}" if values else f"{'':{width}}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks files", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--delays", type=lambda text: [float(word) for word in text.split(",")], default=[0.0, 10.0, 40.0])
    parser.add_argument("--quick", action="store_true", help="less of everything")
    parser.add_argument("--smallest", action="store_true", help="next to nothing, to see that it works")
    parser.add_argument("--repository", type=int, help="files of the git repository")
    parser.add_argument("--only", action="append", metavar="MEASURE", help="may be given several times")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    scale = SMALLEST if options.smallest else QUICK if options.quick else Scale()
    if options.repository:
        scale = Scale(**{**vars(scale), "repository": options.repository})
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(os.path.realpath(folder), "tree")
        tree.mkdir()
        prepare(tree, scale)
        results: dict[str, Any] = {"scale": vars(scale), "round trips ms": run(tree, Path(folder), scale, options)}
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
