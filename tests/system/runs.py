"""How the system tests run a program: natively, in the pod itself, traced but local, and traced in the pod's context."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mirrord_trace.supervisor.targets.demo.pod import DemoPod
from mirrord_trace.supervisor.targets.demo.target import PID_VARIABLE

INSIDE = Path(__file__).with_name("inside.py")
LOCAL = {"feature": {"env": False, "fs": "local", "network": False, "hostname": False}}
_TIME_LIMIT_S = 60

ENGINE = os.environ.get("TEST_ENGINE") or "ptrace"
"""By which engine programs are supervised. What is tested by both anyway (see conftest.py) needs no run for each."""

ENGINES = ("ptrace", "notify") if ENGINE == "ptrace" else (ENGINE,)
"""By which engines that is."""

Argument = str | Path


def tool() -> list[str]:
    """The installed command, or the same entry point where it runs from the source tree."""
    command = Path(sys.executable).with_name("mirrord-trace")
    if command.exists():
        return [str(command)]
    return [sys.executable, "-c", "from mirrord_trace.supervisor.cli.main import main; main()"]


@dataclass(frozen=True)
class Ran:
    """How a program ended and what it said."""

    status: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


@dataclass
class Runner:
    """Runs programs in `folder`; all share one demo pod. `engine`: by what they are supervised."""

    pod: DemoPod
    folder: Path
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    time_limit_s: float = _TIME_LIMIT_S
    engine: str = ENGINE

    def native(self, *command: Argument, **more: str) -> Ran:
        """As they are."""
        return self._run(command, more)

    def inside(self, program: Path, *arguments: Argument, **more: str) -> Ran:
        """A static program as a process of the pod."""
        return self._run([sys.executable, INSIDE, str(self.pod.pid), program, *arguments], more)

    def local(self, *command: Argument, options: Sequence[Argument] = (), **more: str) -> Ran:
        """Traced, with everything local."""
        config = self.folder / "local.json"
        config.write_text(json.dumps(LOCAL))
        return self.traced(*command, options=["-f", config, *options], **more)

    def traced(self, *command: Argument, options: Sequence[Argument] = (), **more: str) -> Ran:
        """Traced, in the context of the pod."""
        return self._run(self.command(*command, options=options), more)

    @contextlib.contextmanager
    def serving(self, *command: Argument, options: Sequence[Argument] = ()) -> Iterator[subprocess.Popen[str]]:
        """A traced server that has said it is ready; it ends with the block at the latest."""
        process = subprocess.Popen(
            self.command(*command, options=options),
            cwd=self.folder,
            env=self.environment_for({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            line = process.stdout.readline()
            if not line.startswith("ready"):
                process.kill()
                raise AssertionError(f"not ready: {line!r} {process.stdout.read()} {process.stderr.read()}")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.communicate(timeout=_TIME_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise

    def command(self, *command: Argument, options: Sequence[Argument] = ()) -> list[Argument]:
        """The command line that runs `command` traced, in the context of the pod."""
        return [*tool(), "-t", "demo", "--engine", self.engine, *options, "--", *command]

    def environment_for(self, more: dict[str, str]) -> dict[str, str]:
        """The environment of a run, with the demo pod to share."""
        return {**self.environment, PID_VARIABLE: str(self.pod.pid), **more}

    def _run(self, command: Sequence[Argument], more: dict[str, str]) -> Ran:
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            env=self.environment_for(more),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=self.time_limit_s,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def demo_pod() -> Iterator[DemoPod]:
    """A running demo pod."""
    with DemoPod() as pod:
        yield pod


@pytest.fixture
def runner(demo_pod: DemoPod, tmp_path: Path) -> Runner:
    """Runs programs in a folder of the test's own, without what the suite's environment may hold."""
    runner = Runner(demo_pod, tmp_path)
    for name in list(runner.environment):
        if name.startswith(("DEMO_", "KUBE", "MIRRORD_")):
            del runner.environment[name]
    runner.environment["PWD"] = str(tmp_path)
    runner.environment.setdefault("PATH", os.defpath)
    return runner


def until(holds: Callable[[], bool], what: str, limit_s: float = 15.0) -> None:
    """Wait for what another process brings about and no event tells."""
    end = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < end, f"not within {limit_s:.0f} s: {what}"
        time.sleep(0.02)
