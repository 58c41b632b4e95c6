"""Network through mirrord-trace, `kubectl port-forward` and directly, interleaved in one run on the real cluster.

    python -m benchmarks network [--rounds N] [--rate N] [--seconds N] [--small] [--only PART] [--json FILE]

Needs root: the cluster (tests/cluster) is one node on this machine. The direct way is from the node to the pod's address. In
every round each measurement is made on each way in turn, so that a machine whose speed drifts drifts for all; tables show the
median over the rounds, and the median of the ratio to kubectl in the same round. Stolen and mirrored traffic comes from the
node at a given rate, open loop: a request is sent when it is due, whether or not earlier ones were answered.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .network_measures import MEASURES, Numbers, Scale, held, stalled
from .network_rig import HTTP_PORT, Rig, rig
from .processes import Processes, resident_mib

Results = dict[str, dict[str, list[float]]]
PARTS = ("outgoing", "stalled", "held", "stops", "steal", "mirror")
_MIRROR = '{"feature": {"network": {"incoming": "mirror"}}}'
_LOAD_CONNECTIONS = 64


def outgoing(place: Rig, rounds: int, scale: Scale) -> Results:
    """All measurements on all ways: way -> measurement -> its number of each round."""
    results: Results = {}
    with ExitStack() as stack:
        direct, mine = stack.enter_context(place.direct()), stack.enter_context(place.supervised())
        for number in range(rounds + 1):
            for measure in MEASURES:
                with place.kubectl() as kubectl:  # a fresh one each time: some of what it goes through, it does not survive
                    for way in (direct, kubectl, mine):
                        found = measure(way, scale)
                        print(f"round {number}, {way.name}: {first_of(found)}", file=sys.stderr)
                        for name, value in found.items() if number else ():  # the first round warms up
                            results.setdefault(way.name, {}).setdefault(name, []).append(value)
    return results


def first_of(found: Numbers) -> str:
    """The first number, for the progress on standard error."""
    name, value = next(iter(found.items()))
    return f"{name} {value:.1f}"


def many(place: Rig, scale: Scale) -> dict[str, Numbers]:
    """Many connections at once on each way; memory of mirrord-trace's processes."""
    results = {}
    with place.direct() as way:
        results[way.name] = held(way, scale, {})
    with place.kubectl() as way:
        pids = [pid for pid in way.between.pids if pid not in place.node.pids]
        results[way.name] = held(way, scale, {"kubectl": pids[-1]})
    with place.supervised() as way:
        results[way.name] = held(way, scale, place.parts(place.tool(), way.process.pid))
    return results


def beside(place: Rig, scale: Scale) -> dict[str, Numbers]:
    """A stalled connection next to a busy one, on each way; it may be the way's end, so each is set up for it alone."""
    results = {}
    for opened in (place.direct, place.kubectl, place.supervised):
        with opened() as way:
            results[way.name] = stalled(way, scale)
    return results


def stops(place: Rig, scale: Scale) -> dict[str, int]:
    """Stops of runs that differ only in how much they send and receive."""
    sizes = (scale.bulk_bytes // 300, scale.bulk_bytes)
    return {f"bulk both {size}": place.count_stops("bulk", "127.0.0.1:9000", "both", size) for size in sizes} | {
        f"http {seconds} s": place.count_stops("http", "127.0.0.1:80", 1, seconds, 0) for seconds in (1, scale.seconds)
    }


def load(place: Rig, seconds: int, rate: int) -> dict[str, Any]:
    """Requests from the node to the pod's address at a rate."""
    words = [str(place.program), "http", f"{place.pod.ip}:{HTTP_PORT}", str(_LOAD_CONNECTIONS), str(seconds), str(rate)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=seconds + 120)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def incoming(place: Rig, seconds: int, rate: int, mirror: bool) -> dict[str, Any]:
    """A server under mirrord-trace in the place of, or beside, the pod's: the load's answer and what the server counted."""
    options = ["--steal"]
    if mirror:
        config = place.folder / "mirror.json"
        config.write_text(_MIRROR)
        options = ["-f", str(config)]
    with place.serving(*options) as (process, parts):
        processes = Processes([*place.node.pids, *parts.values()])
        before = {name: Processes([pid]).cpu_s() for name, pid in parts.items()}, processes.cpu_s()
        found = load(place, seconds, rate)
        spent = {name: Processes([pid]).cpu_s() - before[0][name] for name, pid in parts.items()}
        found["cpu_us"] = {name: round(cpu / found["sent"] * 1e6, 1) for name, cpu in spent.items()}
        found["cpu_us"]["all in between"] = round((processes.cpu_s() - before[1]) / found["sent"] * 1e6, 1)
        found["resident_mib"] = {name: round(resident_mib(pid), 1) for name, pid in parts.items()}
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        # One more request may have come from a probe of ours; none does.
        found["server_counted"] = json.loads(process.stdout.readline())["answered"]
    return found


def table(results: Results) -> str:
    """For people: medians, and the median ratio of mirrord-trace to kubectl."""
    ways = list(results)
    lines = [f"{'':28}" + "".join(f"{way:>16}" for way in ways) + f"{'ratio':>9}"]
    for name in next(iter(results.values())):
        line = f"{name:28}" + "".join(f"{statistics.median(results[way][name]):16,.1f}" for way in ways)
        pairs = zip(results["mirrord-trace"][name], results["kubectl"][name], strict=True)
        ratios = [mine / other for mine, other in pairs if other]
        lines.append(line + (f"{statistics.median(ratios):9.2f}" if ratios else ""))
    lines.append("ratio: mirrord-trace to kubectl port-forward; medians over rounds. CPU: of all processes in between")
    return "\n".join(lines)


def plain(title: str, numbers: dict[str, Any]) -> str:
    """For people: one table of names and numbers."""
    rows = []
    for name, value in numbers.items():
        rows.append(f"{name:52}{value:14,.2f}" if isinstance(value, (int, float)) else f"{name:52}  {value}")
    return "\n".join([title, *rows])


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The parts that were asked for, printed as they come."""
    scale = Scale(3_000_000, 20, 1, 20) if options.small else Scale(options.bulk)
    results: dict[str, Any] = {}
    with rig(folder) as place:
        if "outgoing" in options.only:
            results["outgoing"] = outgoing(place, options.rounds, scale)
            print(table(results["outgoing"]), flush=True)
        if "stalled" in options.only:
            results["stalled"] = beside(place, scale)
            for name, numbers in results["stalled"].items():
                print(plain(f"\none connection stalled, {name}", numbers), flush=True)
        if "held" in options.only:
            results["held"] = many(place, scale)
            for name, numbers in results["held"].items():
                print(plain(f"\nmany connections, {name}", numbers), flush=True)
        if "stops" in options.only:
            results["stops"] = stops(place, scale)
            print(plain("\nstops of a whole run", results["stops"]), flush=True)
        if "steal" in options.only or "mirror" in options.only:
            results["direct load"] = load(place, options.seconds, options.rate)
            print(plain(f"\n{options.rate} requests/s, the pod's own server", results["direct load"]), flush=True)
        for mode in ("steal", "mirror"):
            if mode in options.only:
                results[mode] = incoming(place, options.seconds, options.rate, mode == "mirror")
                print(plain(f"\n{options.rate} requests/s, {mode}", results[mode]), flush=True)
    return results


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks network", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rate", type=int, default=4000, help="requests per second, stolen and mirrored")
    parser.add_argument("--seconds", type=int, default=30, help="for how long")
    parser.add_argument("--bulk", type=int, default=Scale.bulk_bytes, help="bytes of one transfer")
    parser.add_argument("--small", action="store_true", help="little of everything, to see that it works")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be given several times")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.only = options.only or PARTS
    with tempfile.TemporaryDirectory() as folder:
        results = run(options, Path(folder))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
