"""Runs the product against the cluster as a user would, and looks for what it may have left behind.

Everything that a run starts on this machine carries a mark in its environment, which the tool, its relay, the program
and the program's children inherit. So what is left can be told from everything else, other test sessions included.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from mirrord_trace.supervisor.targets.kubernetes.manifest import SELECTOR

from .access import Cluster, Pod
from .images import PYTHON
from .kubectl import poll

POD = "-E"
EPHEMERAL = "-e"
KINDS = (POD, EPHEMERAL)
"""The two ways to run the agent, as options of the tool."""

TIME_LIMIT_S = 60.0
_MARK = "MIRRORD_TRACE_TEST_MARK"
_GONE_S = 20.0

Argument = str | Path


def own_words(text: str) -> list[str]:
    """The tool's own lines of a standard error."""
    return re.findall(r"(?m)^mirrord-trace: (.*)$", text)


@dataclass(frozen=True)
class Ran:
    """How a run ended and what was said. `status` is negative after a signal."""

    status: int
    out: str
    err: str

    @property
    def failure(self) -> str:
        """The tool's last own line, where progress has been left out; "" if it said nothing."""
        return next((line for line in reversed(own_words(self.err)) if not line.startswith("agent: ")), "")

    def ok(self) -> str:
        """The standard output of a run that must have ended with 0."""
        assert self.status == 0, self
        return self.out

    def __str__(self) -> str:
        return f"status {self.status}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Running:
    """A run that goes on: its pipes are read all the time, and waited on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._changed = threading.Condition()
        self._texts = {"out": "", "err": ""}
        self._threads = [
            threading.Thread(target=self._read, args=(name, pipe), daemon=True)
            for name, pipe in (("out", process.stdout), ("err", process.stderr))
            if pipe is not None
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, name: str, pipe: IO[str]) -> None:
        with pipe, contextlib.suppress(OSError):  # EIO: the end of a terminal
            while part := os.read(pipe.fileno(), 65536):
                with self._changed:
                    self._texts[name] += part.decode(errors="replace")
                    self._changed.notify_all()

    @property
    def out(self) -> str:
        """The standard output so far."""
        return self._texts["out"]

    @property
    def err(self) -> str:
        """The standard error so far."""
        return self._texts["err"]

    def await_text(self, pattern: str, stream: str = "out", timeout_s: float = TIME_LIMIT_S) -> None:
        """Return when what was said so far matches."""
        expression = re.compile(pattern)
        with self._changed:
            said = self._changed.wait_for(lambda: expression.search(self._texts[stream]), timeout_s)
        assert said, f"{pattern!r} was not said: {self}"

    def say(self, line: str) -> None:
        """Give the program a line to read."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self, timeout_s: float = TIME_LIMIT_S) -> Ran:
        """Wait until the tool has ended."""
        if self.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self}") from None
        for thread in self._threads:
            thread.join(timeout_s)
        return Ran(self.process.returncode, self.out, self.err)

    @property
    def relay(self) -> int:
        """The pid of the tool's relay: its child with a session of its own."""
        return poll("the relay", lambda: next(filter(_leads_session, children(self.process.pid)), None), 10)

    def __str__(self) -> str:
        return f"--- stdout\n{self.out}\n--- stderr\n{self.err}"


@dataclass
class Tool:
    """The tool, for one test and one target pod."""

    cluster: Cluster
    pod: Pod
    folder: Path
    kind: str = POD
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)

    def command(
        self, *command: Argument, options: Sequence[Argument] = (), target: str | None = None, image: str = PYTHON
    ) -> list[str]:
        """The words of one run."""
        where = ["-t", target or f"pod/{self.pod.name}/container/app", "-n", self.pod.namespace]
        kind = [self.kind] if self.kind else []
        return [*tool(), *where, *kind, "-i", image, *map(str, options), "--", *map(str, command)]

    def environment(self, kubeconfig: Path | None = None, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """That of every run: the cluster, and the mark."""
        given = self.cluster.kubectl.environment()
        clean = {name: value for name, value in given.items() if not name.startswith("MIRRORD_")}
        chosen = {} if kubeconfig is None else {"KUBECONFIG": str(kubeconfig)}
        return {**clean, _MARK: self.mark, **chosen, **(more or {})}

    def run(
        self,
        *command: Argument,
        options: Sequence[Argument] = (),
        target: str | None = None,
        image: str = PYTHON,
        kubeconfig: Path | None = None,
    ) -> Ran:
        """A run to its end."""
        done = subprocess.run(
            self.command(*command, options=options, target=target, image=image),
            cwd=self.folder,
            env=self.environment(kubeconfig),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT_S,
            check=False,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    @contextlib.contextmanager
    def running(
        self, *command: Argument, options: Sequence[Argument] = (), kubeconfig: Path | None = None
    ) -> Iterator[Running]:
        """A run that goes on; killed at the end of the block if it still does."""
        process = subprocess.Popen(
            self.command(*command, options=options),
            cwd=self.folder,
            env=self.environment(kubeconfig),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield Running(process)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()

    # -- what is left ---------------------------------------------------------------------------------------------

    def assert_nothing_left(self) -> None:
        """No process here, no agent in the cluster, no rule in the pod's network; all of it within seconds."""
        self.await_processes_gone()
        _until_empty("agents in the cluster", self.agents)
        _until_empty("rules in the pod's network", self.rules)

    def await_processes_gone(self) -> None:
        """Return when no process of ours is left on this machine."""
        _until_empty("processes", self.processes)

    def processes(self) -> list[str]:
        """What runs on this machine and carries our mark."""
        wanted = f"{_MARK}={self.mark}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or entry.name == str(os.getpid()):
                continue
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    found.append(f"{entry.name} {line}")
        return found

    def agents(self) -> list[str]:
        """The agents of this target that live: pods, and ephemeral containers."""
        target = f"{self.pod.namespace}/{self.pod.name}"
        pods = self.cluster.kubectl.get("pods", "-A", "-l", SELECTOR)["items"]
        found = [
            pod["metadata"]["name"] for pod in pods if pod["metadata"]["annotations"].get("mirrord-trace/target") == target
        ]
        status = self.cluster.kubectl.get("pod", self.pod.name, "-n", self.pod.namespace)["status"]
        ephemeral = status.get("ephemeralContainerStatuses", [])
        return found + [entry["name"] for entry in ephemeral if "running" in entry.get("state", {})]

    def rules(self) -> list[str]:
        """Our tables in the pod's network namespace. In a cluster of the user's own nobody can look there."""
        if not self.cluster.is_ours:
            return []
        entered = ["nsenter", "--net", f"--target={node_pid(self.pod.container_ids['app'])}"]
        listed = subprocess.run([*entered, "nft", "list", "tables"], text=True, capture_output=True, check=True, timeout=10)
        sockets = subprocess.run([*entered, "cat", "/proc/net/unix"], text=True, capture_output=True, check=True, timeout=10)
        return re.findall(r"mirrord_trace_\w+", listed.stdout + sockets.stdout)


def tool() -> list[str]:
    """The installed command, or the same entry point where it runs from the source tree."""
    command = Path(sys.executable).with_name("mirrord-trace")
    if command.exists():
        return [str(command)]
    return [sys.executable, "-c", "from mirrord_trace.supervisor.cli.main import main; main()"]


def busybox() -> Path:
    """The machine's static busybox."""
    found = shutil.which("busybox")
    assert found, "no busybox: install it (apt-get install busybox-static)"
    return Path(found)


def children(pid: int) -> list[int]:
    """The children of a process."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                    found.append(int(entry.name))
    return found


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def node_pids(container_id: str) -> list[int]:
    """The processes of a container of our own cluster, as this machine numbers them, oldest first."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if container_id in (entry / "cgroup").read_text():
                    found.append(int(entry.name))
    return sorted(found)


def node_pid(container_id: str) -> int:
    """A container's first process."""
    pids = node_pids(container_id)
    assert pids, f"no process of container {container_id}"
    return pids[0]


def _until_empty(what: str, look: Callable[[], list[str]]) -> None:
    end = time.monotonic() + _GONE_S
    while left := look():
        assert time.monotonic() < end, f"{what} left behind: {left}"
        time.sleep(0.1)
