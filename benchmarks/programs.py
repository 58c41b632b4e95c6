"""Whole programs: native, under strace, proot and mirrord-trace (both loops, both engines), interleaved in one run.

    python -m benchmarks programs [--rounds N] [--files N] [--only NAME,...] [--urgent] [--json FILE] [--svg FILE]

The imports of 300 generated Python modules, git status of a repository of `--files` files, go build of a small module after a
change, npm install of a local package, and a static Go server under load from a static Go client outside. Times are of the
whole program. Those of mirrord-trace are without its own start and end, as `--stats-file` has them: these depend on where the
pod is. Everything the programs use is local, by the default rules.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mirrord_trace.supervisor.cli.picture import bars

from .contenders import HERE, OURS, SKIPPED, Contender, build, contenders, output_of, placed

MODULES, REQUESTS = 300, 4000

Results = dict[str, dict[str, list[float]]]
"""Program -> contender -> seconds of each round."""


@dataclass(frozen=True)
class Program:
    """What is run, and what has to be done before each run."""

    words: tuple[str, ...]
    before: Callable[[], object] = lambda: None
    variables: tuple[tuple[str, str], ...] = ()
    is_server: bool = False


def imports(folder: Path) -> Program:
    """Python that imports generated modules."""
    names = [f"generated{number:03}" for number in range(MODULES)]
    for name in names:
        (folder / f"{name}.py").write_text(f"import os, sys\nname = {name!r}\ndef function(): return name\n")
    (folder / "everything.py").write_text("".join(f"import {name}\n" for name in names))
    return Program((sys.executable, "-B", str(folder / "everything.py")))


def git_status(folder: Path, files: int) -> Program:
    """git status of a repository in which nothing has changed."""
    for number in range(files):
        path = folder / f"d{number // 100}" / f"f{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{number}\n")
    git = ("git", "-C", str(folder), "-c", "user.name=b", "-c", "user.email=b@b")
    for words in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "x")):
        subprocess.run([*git, *words], check=True)
    return Program((*git, "status"))


def go_build(folder: Path) -> Program:
    """go build after a change of one file."""
    shutil.copytree(HERE / "web", folder, dirs_exist_ok=True)
    variables = (("GOCACHE", str(folder / "cache")), ("GOFLAGS", "-mod=mod"), ("CGO_ENABLED", "0"))
    words = ("go", "-C", str(folder), "build", "-o", str(folder / "web"), ".")
    subprocess.run(words, check=True, env={**os.environ, **dict(variables)})
    main = folder / "main.go"
    return Program(words, lambda: main.write_text(f"{main.read_text()}// {time.time_ns()}\n"), variables)


def npm_install(folder: Path) -> Program:
    """npm install of a package in a folder beside."""
    package, user = folder / "package", folder / "user"
    for place, more in ((package, {}), (user, {"dependencies": {"package": "file:../package"}})):
        place.mkdir()
        (place / "package.json").write_text(json.dumps({"name": place.name, "version": "1.0.0", **more}))
    for number in range(200):
        (package / f"file{number}.js").write_text(f"module.exports = {number}\n")
    words = ("npm", "--prefix", str(user), "install", "--install-links", "--offline", "--no-audit", "--no-fund")
    variables = (("npm_config_cache", str(folder / "cache")),)
    return Program(words, lambda: shutil.rmtree(user / "node_modules", ignore_errors=True), variables)


def server(folder: Path) -> Program:
    """A static Go server that opens a file for each request."""
    subprocess.run(
        ["go", "-C", HERE / "web", "build", "-o", folder / "web", "."],
        check=True, env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
    )  # fmt: skip
    (folder / "web.txt").write_text("x" * 1000)
    return Program((str(folder / "web"), "serve"), is_server=True)


def programs(files: int) -> dict[str, Callable[[Path], Program]]:
    """Name -> how it is prepared."""
    return {
        "python, 300 imports": imports,
        f"git status, {files} files": lambda place: git_status(place, files),
        "go build": go_build,
        "npm install": npm_install,
        "go server": server,
    }


def seconds_of(party: Contender, program: Program, before: list[str], stats: Path) -> float:
    """One run."""
    program.before()
    words = list(party.words)
    is_ours = party.name in (*OURS, SKIPPED)
    if is_ours:
        words[-1:] = ["--stats-file", str(stats), "--"]
    environment = {**party.environment(), **dict(program.variables)}
    command = [*before, *words, *program.words]
    if program.is_server:
        return _loaded(command, environment, program.words[0])
    began = time.perf_counter()
    if output_of(command, environment) is None:
        return math.nan
    taken = time.perf_counter() - began
    return float(json.loads(stats.read_text())["seconds"]) if is_ours else taken


def _loaded(command: list[str], environment: dict[str, str], web: str) -> float:
    for _ in range(3):
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True
        )
        with process:
            assert process.stdout is not None
            port = process.stdout.readline().strip()
            if not port:
                continue
            try:
                done = subprocess.run([web, "load", port, str(REQUESTS)], check=True, capture_output=True, text=True)
                return float(done.stdout)
            finally:
                # To the program as well: strace takes no signal here.
                os.killpg(process.pid, signal.SIGTERM)
    return math.nan


def run(rounds: int, files: int, only: list[str], before: list[str]) -> Results:
    """All rounds; the first one only warms up."""
    results: Results = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        calls = "%file,connect,bind,listen,getsockname,getpeername"
        with_tracer = build(Path(folder), "minimal_tracer")["minimal_tracer"]
        parties = contenders(with_tracer, calls, skipped=(Path(sys.executable).resolve().name, "node", "npm", "web"))
        for name, prepare in programs(files).items():
            if only and not any(name.startswith(one) for one in only):
                continue
            place = Path(folder, name.split(",")[0].replace(" ", "-"))
            place.mkdir()
            program = prepare(place)
            found = results[name] = {party.name: [] for party in parties}
            for number in range(rounds + 1):
                for party in parties:
                    seconds = seconds_of(party, program, before, Path(folder, "stats.json"))
                    if number:
                        found[party.name].append(seconds)
            print(table({name: found}), flush=True)
    return results


def table(results: Results) -> str:
    """For people."""
    lines = []
    for program, parties in results.items():
        lines.append(f"{program:26}{'s':>10}{'ratio':>8}")
        for name, values in parties.items():
            ratio = statistics.median(mine / other for mine, other in zip(values, parties["native"], strict=True))
            lines.append(f"  {name:24}{statistics.median(values):10.3f}{ratio:8.2f}")
    return "\n".join(lines)


def picture(results: Results) -> str:
    """The medians, as SVG."""
    groups = {
        program: {name: statistics.median(values) for name, values in parties.items()} for program, parties in results.items()
    }
    return bars("Whole programs", "s", groups)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=10000)
    parser.add_argument("--only", default="")
    parser.add_argument("--urgent", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    options = parser.parse_args()
    only = [name for name in options.only.split(",") if name]
    results = run(options.rounds, options.files, only, placed("any", options.urgent))
    if options.json:
        options.json.write_text(json.dumps({"unit": "s", "results": results}) + "\n")
    if options.svg:
        options.svg.write_text(picture(results))


if __name__ == "__main__":
    main()
