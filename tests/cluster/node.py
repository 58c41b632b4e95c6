"""The node's init: PID 1 of the namespaces that the node's programs live in.

Started by lifecycle.py under unshare(1). A node of its own PID and mount namespace makes taking it down certain: when
this process dies, by whatever cause, the kernel kills every program and every container, and with the last process go
all mounts. The folders outside of the state folder that containerd, the kubelet and the network library insist on are
covered by empty ones, so that the machine's own stay untouched.

The network namespace is the machine's, so that the API server is on its loopback and pods are one bridge away.

It runs by itself, with the standard library only: nothing of the package is imported here.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import NoReturn, TypedDict

# /run: shim sockets; /var/lib: device plugins, results of the network library; /var/log: links to container logs.
COVERED = ("/run", "/var/lib", "/var/log")
_STARTS_PER_PROGRAM = 5
_WAIT_FOR_OTHERS_S = 120.0
_POLL_S = 0.05


class Component(TypedDict):
    """What to run and what must answer before: ports of loopback, or paths of unix sockets."""

    name: str
    argv: list[str]
    after: list[int | str]


class Plan(TypedDict):
    """The file that lifecycle.py writes for us."""

    logs: str
    path: str
    components: list[Component]


def main() -> NoReturn:
    """Starts the programs in their order, then reaps until the end."""
    plan: Plan = json.loads(Path(sys.argv[1]).read_text())
    subprocess.run(["mount", "--make-rshared", "/"], check=True)
    for folder in COVERED:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "mirrord-trace", folder], check=True)
    os.environ["PATH"] = plan["path"]
    # PID 1 gets no signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    running: dict[int, Component] = {}
    for component in plan["components"]:
        _await(component)
        running[_start(component, plan)] = component
    _reap(running, plan)


def _await(component: Component) -> None:
    deadline = time.monotonic() + _WAIT_FOR_OTHERS_S
    for address in component["after"]:
        while not _answers(address):
            if time.monotonic() > deadline:
                sys.exit(f"{component['name']} waited for {address} in vain")
            time.sleep(_POLL_S)


def _answers(address: int | str) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        return probe.connect_ex(address if isinstance(address, str) else ("127.0.0.1", address)) == 0


def _start(component: Component, plan: Plan) -> int:
    with open(f"{plan['logs']}/{component['name']}.log", "ab") as log:
        process = subprocess.Popen(component["argv"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
    # Reaped below, together with the orphans; Popen must not wait for it as well.
    process.returncode = 0
    return process.pid


def _reap(running: dict[int, Component], plan: Plan) -> NoReturn:
    """Orphans of container shims end up here too. Some programs give up when another is slow to come up: they are
    started again; one that keeps ending takes the node with it, since half a node would only make tests hang."""
    starts = {component["name"]: 1 for component in plan["components"]}
    while True:
        pid, status = os.waitpid(-1, 0)
        component = running.pop(pid, None)
        if component is None:
            continue
        name = component["name"]
        print(f"{name} ended with {os.waitstatus_to_exitcode(status)}", flush=True)
        if starts[name] == _STARTS_PER_PROGRAM:
            sys.exit(1)
        starts[name] += 1
        _await(component)
        running[_start(component, plan)] = component


if __name__ == "__main__":
    main()
