"""What a test does with a cluster: run something in a pod, reach its port, look over its shoulder."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from . import manifests
from .components import USERS
from .kubectl import Kubectl, KubectlError, poll
from .layout import Layout

_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


@dataclass(frozen=True)
class Pod:
    """A running pod, by value."""

    namespace: str
    name: str
    uid: str
    ips: tuple[str, ...]
    container_ids: Mapping[str, str]
    """Names of containers, ephemeral ones included, to their ids in the runtime, without its scheme."""

    @property
    def ip(self) -> str:
        """The pod's first address, IPv4 in our cluster."""
        return self.ips[0]

    @property
    def ipv6(self) -> str | None:
        """The pod's IPv6 address, if it has one."""
        return next((ip for ip in self.ips if ":" in ip), None)


class PodExec(Protocol):
    """The fixture `pod_exec`."""

    def __call__(self, pod: Pod | str, argv: list[str], *, container: str | None = None) -> str:
        """Its standard output; KubectlError unless it exits with 0."""


@dataclass(frozen=True)
class Cluster:
    """A Kubernetes to test against; `layout` is None when it is the user's own."""

    kubectl: Kubectl
    layout: Layout | None

    @property
    def is_ours(self) -> bool:
        """Whether this is the one-node cluster that this package made."""
        return self.layout is not None

    def kubeconfig(self, user: str = "full") -> Path | None:
        """The kubeconfig of one of the limited users (components.USERS); None in a cluster that has none of them."""
        if user not in USERS:
            raise ValueError(f"no such user: {user}; there are {', '.join(USERS)}")
        if self.layout is None:
            return self.kubectl.kubeconfig if user == "full" else None
        return self.layout.kubeconfig(user)

    def create(self, pod: manifests.Object, *, ready: bool = True) -> Pod:
        """Creates a pod and returns when it is ready (or, if not `ready`, when it has an address)."""
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        self.kubectl("create", "-f", "-", stdin=json.dumps(pod))
        if ready:
            self.kubectl.wait_ready(name, namespace)
        poll(f"an address for {name}", lambda: self.kubectl.get("pod", name, "-n", namespace)["status"].get("podIP"))
        self.publish()
        return self.pod(name, namespace)

    def delete(self, pod: Pod) -> None:
        """Ends a pod without waiting for it."""
        self.kubectl("delete", "pod", pod.name, "-n", pod.namespace, "--wait=false", "--ignore-not-found")

    def publish(self) -> None:
        """Puts the pods' names into our cluster's DNS; a user's own cluster does so by itself."""
        if self.layout is not None:
            manifests.publish_services(self.kubectl, self.layout)

    def pod(self, name: str, namespace: str = "default") -> Pod:
        """The pod as it is now."""
        found = self.kubectl.get("pod", name, "-n", namespace)
        status = found["status"]
        containers = [*status.get("containerStatuses", []), *status.get("ephemeralContainerStatuses", [])]
        return Pod(
            namespace=namespace,
            name=name,
            uid=found["metadata"]["uid"],
            ips=tuple(address["ip"] for address in status.get("podIPs", [])),
            container_ids={entry["name"]: entry.get("containerID", "").rpartition("/")[2] for entry in containers},
        )

    def exec(
        self,
        pod: Pod | str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        stdin: str | None = None,
        timeout_s: float = 60.0,
    ) -> str:
        """Runs a program in a container; its standard output. KubectlError if it does not exit with 0."""
        name, namespace = (pod, "default") if isinstance(pod, str) else (pod.name, pod.namespace)
        options = ["-n", namespace, *(["-c", container] if container else []), *(["-i"] if stdin is not None else [])]
        return self.kubectl("exec", name, *options, "--", *argv, stdin=stdin, timeout_s=timeout_s)

    @contextlib.contextmanager
    def forward(self, pod: Pod | str, port: int) -> Iterator[int]:
        """``kubectl port-forward``; gives the port on 127.0.0.1."""
        name, namespace = (pod, "default") if isinstance(pod, str) else (pod.name, pod.namespace)
        argv = [str(self.kubectl.binary), "port-forward", "-n", namespace, f"pod/{name}", f":{port}"]
        environment = self.kubectl.environment()
        with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                found = _FORWARDING.search(line)
                if found is None:
                    raise KubectlError(f"port-forward to {name}: {line}{process.stdout.read()}")
                yield int(found.group(1))
            finally:
                process.terminate()

    def add_ephemeral_container(self, pod: Pod, image: str, command: Sequence[str], *, target: str, **fields: Any) -> str:
        """Adds a container that shares the target container's processes; returns its name when it runs."""
        name = f"debug-{uuid.uuid4().hex[:8]}"
        container = {
            "name": name,
            "image": image,
            "imagePullPolicy": "Never",
            "command": list(command),
            "targetContainerName": target,
            **fields,
        }
        patch = json.dumps({"spec": {"ephemeralContainers": [container]}})
        where = ("pod", pod.name, "-n", pod.namespace)
        self.kubectl("patch", *where, "--subresource=ephemeralcontainers", "--type=strategic", "-p", patch)

        def running() -> bool:
            statuses = self.kubectl.get(*where)["status"].get("ephemeralContainerStatuses", [])
            state: dict[str, Any] = next((entry["state"] for entry in statuses if entry["name"] == name), {})
            if "terminated" in state:
                raise KubectlError(f"ephemeral container {name} ended: {state['terminated']}")
            return "running" in state

        poll(f"ephemeral container {name}", running)
        return name
