"""Runs kubectl: the one way in which the test cluster's own code talks to a Kubernetes, ours or the user's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .layout import Layout

_Found = TypeVar("_Found")
_POLL_S = 0.1


class KubectlError(Exception):
    """kubectl failed; the text has its arguments and what it said."""


@dataclass(frozen=True)
class Kubectl:
    """kubectl bound to one kubeconfig; `kubeconfig` None leaves the choice to the environment."""

    binary: Path
    kubeconfig: Path | None

    def environment(self) -> dict[str, str]:
        """The environment that makes any Kubernetes client use this cluster."""
        chosen = {} if self.kubeconfig is None else {"KUBECONFIG": str(self.kubeconfig)}
        return {**os.environ, **chosen}

    def run(
        self, *args: str, stdin: str | None = None, timeout_s: float = 60.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Runs one command to its end."""
        done = subprocess.run(
            [str(self.binary), *args],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            env=self.environment(),
            text=True,
            capture_output=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            said = done.stderr.strip() or done.stdout.strip()
            raise KubectlError(f"kubectl {' '.join(args)}: {done.returncode}: {said}")
        return done

    def __call__(self, *args: str, stdin: str | None = None, timeout_s: float = 60.0) -> str:
        """Runs one command; its standard output."""
        return self.run(*args, stdin=stdin, timeout_s=timeout_s).stdout

    def get(self, *args: str) -> Any:
        """``kubectl get … -o json``, parsed."""
        return json.loads(self("get", *args, "-o", "json"))

    def apply(self, objects: Sequence[Mapping[str, Any]]) -> None:
        """Creates or changes objects."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        # Server side: the other kind copies the object into an annotation, which is too small for our ConfigMaps.
        self("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(items))

    def wait_ready(self, pod: str, namespace: str = "default", timeout_s: float = 60.0) -> None:
        """Returns when the pod is ready; the error names what holds it up."""
        wait = ("wait", "--for=condition=Ready", f"pod/{pod}", "-n", namespace, f"--timeout={timeout_s:.0f}s")
        done = self.run(*wait, timeout_s=timeout_s + 10, check=False)
        if done.returncode:
            about = f"involvedObject.name={pod}"
            events = self.run("get", "events", "-n", namespace, "--field-selector", about, check=False)
            raise KubectlError(f"pod {pod} is not ready: {done.stderr.strip()}\n{events.stdout}")


def find_kubectl(layout: Layout) -> Path | None:
    """The kubectl that belongs to the cluster's version, or else the machine's."""
    built = layout.kubernetes / "kubectl"
    if built.exists():
        return built
    installed = shutil.which("kubectl")
    return Path(installed) if installed else None


def poll(what: str, check: Callable[[], _Found | None], timeout_s: float = 60.0) -> _Found:
    """Asks until the answer is neither None nor False."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = check()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout_s:.0f} s")
        time.sleep(_POLL_S)
