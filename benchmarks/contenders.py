"""Who is compared: words to put before a program. Those who are not installed are left out, and that is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
TOOL = str(Path(sys.executable).parent / "mirrord-trace")
_TRIES = 3
OURS = ("mirrord-trace, Python", "mirrord-trace, compiled", "mirrord-trace, notify")
SKIPPED = "mirrord-trace, skipped"


@dataclass(frozen=True)
class Contender:
    """One way to run a program."""

    name: str
    words: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    """So much so that it makes a hundredth of the calls."""

    def environment(self) -> dict[str, str]:
        """For `subprocess`."""
        return {**os.environ, **self.variables}


def build(folder: Path, *names: str) -> dict[str, Path]:
    """Compile C programs of this folder into another."""
    built = {}
    for name in names:
        built[name] = folder / name
        subprocess.run(["gcc", "-O2", "-Wall", "-pthread", "-o", built[name], HERE / f"{name}.c"], check=True)
    return built


def contenders(
    tracer: Path | None,
    calls: str,
    *,
    ptrace_loop: bool = False,
    skipped: Sequence[str] = (),
    rules: Sequence[str] = (),
) -> list[Contender]:
    """All that are here. `tracer`: the minimal C tracer; `calls`: what strace is to stop; `skipped`: programs that one lets
    alone; `rules`: options of ours."""
    strace = ("strace", "-f", "--seccomp-bpf", "-e", f"trace={calls}", "-o", "/dev/null")
    found = [Contender("native")]
    if tracer is not None:
        found.append(Contender("minimal C tracer", (str(tracer),)))
    found += [Contender("strace", strace), Contender("proot", ("proot",))]
    if ptrace_loop:
        found.append(Contender("python-ptrace", (sys.executable, str(HERE / "ptrace_loop.py")), slow=True))
    for name, loop in zip(OURS, ("python", "compiled", ""), strict=True):
        engine = "ptrace" if loop else "notify"
        # git and go are among the measured programs.
        variables = {"MIRRORD_TRACE_LOOP": loop, "MIRRORD_SKIP_BUILD_TOOLS": "false"}
        found.append(Contender(name, (TOOL, "-t", "demo", *rules, "--engine", engine, "--"), variables))
    if skipped:
        found.append(Contender(SKIPPED, (TOOL, "-t", "demo", "--skip-processes", ";".join(skipped), "--")))
    present = [one for one in found if not one.words or shutil.which(one.words[0])]
    for one in found:
        if one not in present:
            print(f"left out: {one.name} is not installed", file=sys.stderr)
    return present


def output_of(command: list[str], environment: dict[str, str], folder: Path | None = None) -> str | None:
    """What a run says; None if it failed, again and again: not everybody can run everything."""
    for _ in range(_TRIES):
        done = subprocess.run(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )  # fmt: skip
        if done.returncode == 0:
            return done.stdout
    print(f"failed: {' '.join(command)}: {done.stderr[-300:]}", file=sys.stderr)
    return None


def placed(cpus: str, is_urgent: bool) -> list[str]:
    """Words before all others. `cpus`: same or any. `is_urgent`: before all other work of the machine, as root."""
    words = ["chrt", "--rr", "1"] if is_urgent else []
    return [*words, "taskset", "-c", str(max(os.sched_getaffinity(0)))] if cpus == "same" else words
