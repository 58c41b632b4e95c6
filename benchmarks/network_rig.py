"""Where the network benchmark measures: a pod on the real cluster, and the ways from here to it.

The same static Go program (tests/programs/go/traffic) serves in the pod and makes the traffic here. It is told what to
do line by line, so that each way is set up once and the measurements can take turns.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "programs"))

import build

from tests.cluster import manifests
from tests.cluster.access import Cluster, Pod
from tests.cluster.images import BUSYBOX
from tests.cluster.kubectl import poll
from tests.cluster.layout import current_layout
from tests.cluster.lifecycle import admin, down, is_healthy, up
from tests.cluster.product import Tool, children, node_pids

from .processes import Processes

HTTP_PORT = 80
RAW_PORT = 9000
Answer = dict[str, Any]

# Waits for the program, which comes by `kubectl exec`.
_SERVE = f"until [ -x /tmp/traffic ]; do sleep 0.1; done; exec /tmp/traffic serve :{HTTP_PORT} :{RAW_PORT}"
_LOOP = 'while read -r line; do "$0" $line || echo "{\\"failed\\": $?}"; done'


@dataclass
class Way:
    """One way from a program here to the pod: the driven program, the addresses it uses, the processes in between."""

    name: str
    http: str
    raw: str
    process: subprocess.Popen[str]
    between: Processes

    def ask(self, command: str, *arguments: object) -> Answer:
        """Have one command carried out, with HTTP or RAW in it as this way's address; its answer."""
        self.say(command, *arguments)
        return self.hear()

    def say(self, command: str, *arguments: object) -> None:
        """Begin a command."""
        assert self.process.stdin is not None
        words = [{"HTTP": self.http, "RAW": self.raw}.get(str(word), str(word)) for word in (command, *arguments)]
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()

    def hear(self) -> Answer:
        """The next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: the program ended")
        answer: Answer = json.loads(line)
        return answer


@dataclass
class Rig:
    """The cluster, the pod with the serving program in it, and this machine's copy of the program."""

    cluster: Cluster
    pod: Pod
    program: Path
    folder: Path
    node: Processes = field(init=False)

    def __post_init__(self) -> None:
        self.node = Processes.named("kube-apiserver", "kubelet", "containerd")

    def tool(self) -> Tool:
        """mirrord-trace on this pod."""
        return Tool(self.cluster, self.pod, self.folder)

    @contextlib.contextmanager
    def direct(self) -> Iterator[Way]:
        """From the node, which this machine is, to the pod's address: nothing in between."""
        with running(["sh", "-c", _LOOP, str(self.program)]) as process:
            yield Way("direct", f"{self.pod.ip}:{HTTP_PORT}", f"{self.pod.ip}:{RAW_PORT}", process, Processes([]))

    @contextlib.contextmanager
    def kubectl(self) -> Iterator[Way]:
        """Through `kubectl port-forward`."""
        with (
            self._forward(HTTP_PORT) as (http, first),
            self._forward(RAW_PORT) as (raw, second),
            running(["sh", "-c", _LOOP, str(self.program)]) as process,
        ):
            yield Way("kubectl", http, raw, process, Processes([*self.node.pids, first, second]))

    @contextlib.contextmanager
    def _forward(self, port: int) -> Iterator[tuple[str, int]]:
        with self.cluster.forward(self.pod, port) as local:
            yield f"127.0.0.1:{local}", _listener(local)

    @contextlib.contextmanager
    def supervised(self, *options: str) -> Iterator[Way]:
        """Under mirrord-trace."""
        tool = self.tool()
        words = tool.command("sh", "-c", _LOOP, self.program, options=options)
        with running(words, tool.environment(), self.folder) as process:
            way = Way("mirrord-trace", f"127.0.0.1:{HTTP_PORT}", f"127.0.0.1:{RAW_PORT}", process, Processes([]))
            way.ask("bulk", "RAW", "down", 1)
            way.between = Processes([*self.node.pids, *self.parts(tool, process.pid).values()])
            yield way

    def parts(self, tool: Tool, supervisor: int) -> dict[str, int]:
        """The processes of mirrord-trace by what they are."""
        (agent,) = tool.agents()
        container = self.cluster.pod(agent, self.pod.namespace).container_ids["agent"]
        worker = next(pid for pid in node_pids(container) if _comm(pid) == "mirrord-agent")
        relay = next(pid for pid in children(supervisor) if os.getsid(pid) == pid)
        return {"supervisor": supervisor, "relay": relay, "agent": worker}

    @contextlib.contextmanager
    def serving(self, *options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, int]]]:
        """The program as a server in the place of the pod's own; gives its run and the processes."""
        tool = self.tool()
        words = tool.command(self.program, "serve", f":{HTTP_PORT}", "-", options=options)
        with running(words, tool.environment(), self.folder) as process:
            assert process.stdout is not None
            if not process.stdout.readline().startswith("ready"):
                raise RuntimeError("the server under mirrord-trace did not start")
            yield process, self.parts(tool, process.pid)

    def count_stops(self, *words: object) -> int:
        """The stops of one run of the program."""
        tool = self.tool()
        done = subprocess.run(
            tool.command(self.program, *map(str, words), options=["--stats"]),
            cwd=self.folder,
            env=tool.environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        line = next(line for line in done.stderr.splitlines() if " stops, " in line)
        return int(line.split(" stops, ")[0].split()[-1])


@contextlib.contextmanager
def rig(folder: Path) -> Iterator[Rig]:
    """Bring everything up; take down what was not up before."""
    layout = current_layout()
    was_up = is_healthy(layout)
    up(layout, lambda text: print(f"cluster: {text}", file=sys.stderr))
    cluster = Cluster(admin(layout), layout)
    shell = {"name": "app", "image": BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", _SERVE]}
    program = build.go_program("traffic")
    pod = cluster.create(manifests.pod(f"traffic-{uuid.uuid4().hex[:8]}", [shell]))
    try:
        copy = ["exec", "-i", pod.name, "--", "sh", "-c", "cat > /tmp/new && chmod 755 /tmp/new && mv /tmp/new /tmp/traffic"]
        with open(program, "rb") as content:
            kubectl = cluster.kubectl
            subprocess.run([str(kubectl.binary), *copy], env=kubectl.environment(), stdin=content, check=True, timeout=60)
        probe = [str(program), "connects", f"{pod.ip}:{RAW_PORT}", "1", "1"]
        poll("the pod's server", lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0, 20)
        yield Rig(cluster, pod, program, folder)
    finally:
        cluster.delete(pod)
        if not was_up:
            down(layout, lambda text: print(f"cluster: {text}", file=sys.stderr))


@contextlib.contextmanager
def running(
    words: list[str], environment: dict[str, str] | None = None, folder: Path | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program with pipes; at the end its standard input is closed, and it is ended if it does not end by that."""
    pipes: dict[str, int] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    log: IO[str] | None = open(folder / "stderr.txt", "a") if folder else None  # noqa: SIM115
    process = subprocess.Popen(words, text=True, env=environment, cwd=folder, stderr=log, **pipes)
    try:
        yield process
    finally:
        for end in (process.stdin.close, process.terminate, process.kill):  # type: ignore[union-attr]
            if process.poll() is None:
                end()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
        if log is not None:
            log.close()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def _comm(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _listener(port: int) -> int:
    # Our newest child of that name listens there: kubectl has just said so.
    del port
    return max(pid for pid in children(os.getpid()) if _comm(pid) == "kubectl")
