"""Which container of the target pod is meant, and whether it can be a target now. Pure: reads the pod object only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...errors import UsageError

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"
MESH_SIDECARS = frozenset(
    {
        "istio-proxy",
        "linkerd-proxy",
        "kuma-sidecar",
        "consul-dataplane",
        "envoy-sidecar",
        "osm-envoy",
        "traefik-mesh-proxy",
    }
)


@dataclass(frozen=True)
class Container:
    """The chosen container: `identifier` is the runtime's id, without the scheme. `others` were not chosen."""

    name: str
    identifier: str
    others: tuple[str, ...] = ()
    explicit: bool = True


def names(pod: dict[str, Any]) -> list[str]:
    """The containers that can be targets: the ordinary ones, then the sidecars among the init containers."""
    spec = pod.get("spec") or {}
    ordinary = [str(container["name"]) for container in spec.get("containers") or []]
    sidecars = [
        str(container["name"]) for container in spec.get("initContainers") or [] if container.get("restartPolicy") == "Always"
    ]
    return ordinary + sidecars


def choose(pod: dict[str, Any], wanted: str | None = None) -> Container:
    """The container `wanted`, else the annotated default, else the first that is no mesh sidecar.

    UsageError if there is no such container or if it does not run.
    """
    _check_runs(pod)
    available = names(pod)
    pod_name = pod["metadata"]["name"]
    if wanted is not None and wanted not in available:
        raise UsageError(f"pod {pod_name} has no container {wanted!r}; it has: {', '.join(available)}")
    annotated = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER)
    ordinary = [name for name in available if name not in MESH_SIDECARS] or available
    if wanted is not None:
        name = wanted
    elif annotated in available:
        name = str(annotated)
    else:
        name = ordinary[0]
    others = tuple(other for other in available if other != name)
    return Container(name, _identifier(pod, name), others, wanted is not None or annotated == name)


def _check_runs(pod: dict[str, Any]) -> None:
    name = pod["metadata"]["name"]
    if pod["metadata"].get("deletionTimestamp"):
        raise UsageError(f"pod {name} is being deleted; choose another (`mirrord-trace ls`)")
    status = pod.get("status") or {}
    phase = status.get("phase", "Unknown")
    if phase in ("Succeeded", "Failed"):
        raise UsageError(f"pod {name} has ended ({phase}); choose one that runs (`mirrord-trace ls`)")


def _identifier(pod: dict[str, Any], name: str) -> str:
    status = pod.get("status") or {}
    every = (status.get("containerStatuses") or []) + (status.get("initContainerStatuses") or [])
    mine: dict[str, Any] = next((entry for entry in every if entry.get("name") == name), {})
    if "running" not in (mine.get("state") or {}):
        raise UsageError(
            f"container {name} of pod {pod['metadata']['name']} does not run ({_state(mine, pod)}); "
            "wait until it does, or choose another (`mirrord-trace ls`)"
        )
    return str(mine.get("containerID") or "").partition("://")[2]


def _state(status: dict[str, Any], pod: dict[str, Any]) -> str:
    for kind, what in (status.get("state") or {}).items():
        return f"{kind}: {what.get('reason') or 'no reason given'}"
    return f"the pod is {(pod.get('status') or {}).get('phase', 'Unknown')}"
