"""The two forms of the agent in the cluster, as the objects that are sent to the API. Pure.

Ephemeral container: shares the target pod's network namespace and, by `targetContainerName`, the target container's
process namespace. Root, because added capabilities reach only root processes; SYS_PTRACE to see /proc/PID/root and
/proc/PID/environ of a process of another user, NET_ADMIN for the redirect, NET_RAW for copies of datagrams (some
runtimes give it to nobody). Everything else is the runtime's default.

Pod: on the target's node by `nodeName`, so no scheduler has a say; sees the target through the host's process
namespace and enters its network namespace, which takes SYS_ADMIN. It is privileged because capabilities alone do not
pass the AppArmor and SELinux confinement that many nodes put around a container (reading another container's /proc).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from ....agent.bootstrap import payload
from .settings import AgentSettings

MANAGED_BY = "app.kubernetes.io/managed-by"
MANAGER = "mirrord-trace"
SELECTOR = f"{MANAGED_BY}={MANAGER}"
CONTAINER = "agent"
CAPABILITIES = ("NET_ADMIN", "NET_RAW", "SYS_PTRACE")

# Above the ephemeral range (ip_local_port_range ends at 60999), so that no outgoing connection of the pod has it.
_PORTS = range(61000, 65536)
_NO_MESH_LABELS = {"sidecar.istio.io/inject": "false", "kuma.io/sidecar-injection": "disabled"}
_NO_MESH_ANNOTATIONS = {
    "sidecar.istio.io/inject": "false",
    "linkerd.io/inject": "disabled",
    "kuma.io/sidecar-injection": "disabled",
    "consul.hashicorp.com/connect-inject": "false",
}


@dataclass(frozen=True)
class Launch:
    """What one start of the agent is made of: its name, its port on the pod's loopback, the one-time boot secret."""

    name: str
    port: int
    secret: bytes
    command: tuple[str, ...]

    @staticmethod
    def new(command: tuple[str, ...]) -> Launch:
        """Fresh random values for one run of the bootstrap."""
        name = f"mirrord-trace-agent-{secrets.token_hex(4)}"
        return Launch(name, secrets.choice(_PORTS), secrets.token_bytes(payload.BOOT_SECRET_BYTES), command)


def ephemeral_container(launch: Launch, settings: AgentSettings, target_container: str) -> dict[str, Any]:
    """The patch for pods/ephemeralcontainers (strategic merge: the list is merged by name)."""
    container = _container(launch, settings, launch.name)
    container["targetContainerName"] = target_container
    container["securityContext"] = {
        "runAsUser": 0,
        "runAsGroup": 0,
        "runAsNonRoot": False,
        "capabilities": {"add": list(CAPABILITIES)},
    }
    return {"spec": {"ephemeralContainers": [container]}}


def agent_pod(launch: Launch, settings: AgentSettings, node: str, target: str) -> dict[str, Any]:
    """A Pod object that runs the agent on `node`. `target` is for people who find it (kubectl describe)."""
    container = _container(launch, settings, CONTAINER)
    container["securityContext"] = {"privileged": True, "runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False}
    container["resources"] = {"requests": {"cpu": "1m", "memory": "1Mi"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": launch.name,
            "labels": {MANAGED_BY: MANAGER, "app.kubernetes.io/name": "mirrord-trace-agent", **_NO_MESH_LABELS},
            "annotations": {"mirrord-trace/target": target, **_NO_MESH_ANNOTATIONS},
        },
        "spec": {
            "nodeName": node,
            "hostPID": True,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "tolerations": [{"operator": "Exists"}],
            "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
            "containers": [container],
        },
    }


def _container(launch: Launch, settings: AgentSettings, name: str) -> dict[str, Any]:
    variable, value = payload.environment(str(launch.port), launch.secret)
    return {
        "name": name,
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": list(launch.command),
        "env": [{"name": variable, "value": value}],
        # The last lines of the log become the termination message: the reason of a crash without the right to logs.
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
