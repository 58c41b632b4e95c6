"""`mirrord-trace bench [-- CMD...]`: what supervision costs on this machine, per call or for a whole program.

Contenders run in turn, round by round, so that a machine whose speed drifts drifts for all of them; shown are medians.
Without CMD the measured program is this Python, which makes each call by ctypes and takes off what that costs by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from ..errors import UsageError
from ..notify.availability import Support, support
from ..tracer import compiled
from .picture import bars

_TOOL = (sys.executable, "-c", "from mirrord_trace.supervisor.cli.main import main; main()")
_LOCAL = {"feature": {"env": False, "fs": "local", "network": False, "hostname": False}}

MEASURED = """
import ctypes, json, os, socket, sys, time
libc = ctypes.PyDLL(None)
buffer = ctypes.create_string_buffer(256)
zero, null = os.open('/dev/zero', os.O_RDONLY), os.open('/dev/null', os.O_WRONLY)
local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()
path = b'/usr/mirrord-trace-bench'
name = socket.AF_UNIX.to_bytes(2, sys.byteorder) + path
calls = {
    'openat': (libc.open, path, 0), 'stat': (libc.access, path, 0), 'connect': (libc.connect, local, name, len(name)),
    'getpid': (libc.getppid,), 'read': (libc.read, zero, buffer, 64), 'write': (libc.write, null, buffer, 64),
}
def spent(count, function, *arguments):
    began = time.perf_counter_ns()
    for _ in range(count): function(*arguments)
    return (time.perf_counter_ns() - began) / count
count = int(sys.argv[1])
found = {}
for call, (function, *arguments) in calls.items():
    spent(count // 10, function, *arguments)
    own = spent(count, libc.labs, *([0] * max(1, len(arguments))))
    found[call] = max(0.0, spent(count, function, *arguments) - own)
print(json.dumps(found))
"""
"""The measured program: nanoseconds of each call as JSON. `stat` is access(2): all libraries have that as a function.

`connect` is that of a unix socket, which stays on this machine unless the configuration says otherwise.
"""

CALLS = ("openat", "stat", "connect", "getpid", "read", "write")

Times = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class Cost:
    """Of one contender for one call, or for the program: the median, and the median of the ratios to native in each round."""

    contender: str
    call: str
    median: float
    ratio: float


def costs(call: str, times: Times) -> list[Cost]:
    """What the measured times of all contenders mean; `times` has one of each round, and has `native`."""
    native = times["native"]
    return [
        Cost(
            name,
            call,
            statistics.median(values),
            statistics.median(value / base if base else 0.0 for value, base in zip(values, native, strict=True)),
        )
        for name, values in times.items()
    ]


def in_turn(rounds: int, contenders: Mapping[str, Callable[[], dict[str, float]]]) -> dict[str, dict[str, list[float]]]:
    """What -> contender -> the figures of all rounds. The first round only warms up."""
    found: dict[str, dict[str, list[float]]] = {}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            for what, value in run().items():
                if number:
                    found.setdefault(what, {}).setdefault(name, []).append(value)
    return found


@click.command("bench", context_settings={"allow_interspersed_args": False})
@click.option("-t", "--target", default="demo", show_default=True, help="Whose context CMD runs in.")
@click.option("--in-pod", is_flag=True, help="CMD's files, names and traffic are the pod's; otherwise all is local.")
@click.option("-r", "--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("-o", "--output", type=click.Choice(["table", "json", "svg"]), default="table", show_default=True)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- CMD [ARGS]...]")
def bench(target: str, in_pod: bool, rounds: int, output: str, command: tuple[str, ...]) -> None:
    """Measure what supervision costs: for some system calls, or for the program CMD."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if command:
            found = in_turn(rounds, _programs(place, target, in_pod, command))
        else:
            found = in_turn(rounds, _loops(target))
    rows = [cost for call, times in found.items() for cost in costs(call, times)]
    if output == "svg":
        title = f"What supervision costs: {' '.join(command)}" if command else "What supervision costs a system call"
        unit, scale = ("s", 1.0) if command else ("µs", 1e-3)
        groups = {
            call: {row.contender: row.median * scale for row in rows if row.call == call} for call in found
        }
        click.echo(bars(title, unit, groups), nl=False)
    elif output == "json":
        unit = "seconds" if command else "ns per call"
        click.echo(json.dumps({"unit": unit, "rounds": rounds, "costs": [asdict(row) for row in rows]}, indent=2))
    else:
        click.echo("\n".join(table(rows, "s" if command else "ns")))


def table(rows: Sequence[Cost], unit: str) -> list[str]:
    """For people."""
    digits = 3 if unit == "s" else 0
    lines = [f"{'':22} {'':24} {unit:>10} {'ratio':>8}"]
    return lines + [f"{row.call:22} {row.contender:24} {row.median:10.{digits}f} {row.ratio:8.2f}" for row in rows]


def _loops(target: str) -> dict[str, Callable[[], dict[str, float]]]:
    program = (sys.executable, "-I", "-S", "-c", MEASURED, "2000")
    contenders = {"native": lambda: _measure(program)}
    for loop in ("python", "compiled"):
        if loop == "python" or _is_built():
            words = (*_TOOL, "-t", target, "--engine", "ptrace", "--", *program)
            contenders[f"mirrord-trace, {loop}"] = lambda words=words, loop=loop: _measure(words, loop)  # type: ignore[misc]
    if _is_notified():
        notified = (*_TOOL, "-t", target, "--engine", "notify", "--", *program)
        contenders["mirrord-trace, notify"] = lambda: _measure(notified)
    if shutil.which("strace"):
        strace = ("strace", "-f", "--seccomp-bpf", "-e", "trace=openat,access,connect", "-o", os.devnull, *program)
        contenders["strace --seccomp-bpf"] = lambda: _measure(strace)
    if shutil.which("proot"):
        contenders["proot"] = lambda: _measure(("proot", *program))
    return contenders


def _is_built() -> bool:
    return compiled.built() is not None


def _is_notified() -> bool:
    return support() in (Support.KILLABLE, Support.PLAIN)


def _measure(words: Sequence[str], loop: str = "") -> dict[str, float]:
    found: dict[str, float] = json.loads(_run(words, loop, subprocess.PIPE))
    return found


def _programs(folder: Path, target: str, in_pod: bool, command: Sequence[str]) -> dict[str, Callable[[], dict[str, float]]]:
    config, stats = folder / "local.json", folder / "stats.json"
    config.write_text(json.dumps({} if in_pod else _LOCAL))
    options = ("-t", target, "-f", str(config), "--stats-file", str(stats))

    def native() -> dict[str, float]:
        seconds = _timed(command)
        return {"program": seconds, "with start and end": seconds}

    def supervised(engine: str) -> dict[str, float]:
        seconds = _timed((*_TOOL, *options, "--engine", engine, "--", *command))
        return {"program": float(json.loads(stats.read_text())["seconds"]), "with start and end": seconds}

    contenders = {"native": native, "mirrord-trace": lambda: supervised("ptrace")}
    if _is_notified():
        contenders["mirrord-trace, notify"] = lambda: supervised("notify")
    return contenders


def _timed(words: Sequence[str]) -> float:
    began = time.perf_counter()
    _run(words, "", None)
    return time.perf_counter() - began


def _run(words: Sequence[str], loop: str, output: int | None) -> str:
    environment = {**os.environ, **({compiled.VARIABLE: loop} if loop else {})}
    silent = subprocess.DEVNULL if output is None else output
    try:
        done = subprocess.run(
            words, env=environment, stdin=subprocess.DEVNULL, stdout=silent, stderr=subprocess.PIPE, check=False
        )  # fmt: skip
    except OSError as error:
        raise UsageError(f"cannot execute {words[0]}: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise UsageError(f"a run ended with status {done.returncode}: {said}")
    return (done.stdout or b"").decode()
