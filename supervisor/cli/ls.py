"""`mirrord-trace ls`: the targets of a namespace."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import click

from ..errors import UsageError
from ..targets.kubernetes.settings import KubeSettings


@dataclass(frozen=True)
class TargetLine:
    """One pod. `containers` in the order of choice; `phase` as kubectl shows it."""

    target: str
    namespace: str
    containers: tuple[str, ...]
    phase: str


@click.command("ls")
@click.option("-n", "--namespace", help="Namespace; default: the context's.")
@click.option("--context", help="Context of the kubeconfig; default: the current one.")
@click.option("--kubeconfig", type=click.Path(), help="Path of the kubeconfig; default: KUBECONFIG, ~/.kube/config.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def ls(namespace: str | None, context: str | None, kubeconfig: str | None, output: str) -> None:
    """List the targets of a namespace: its pods and their containers."""
    try:
        lines, where = targets(KubeSettings(namespace, context, kubeconfig))
    except UsageError as error:
        click.echo(f"mirrord-trace: {error.text}", err=True)
        raise SystemExit(error.exit_status) from error
    if output == "json":
        click.echo(json.dumps([asdict(line) for line in lines], indent=2))
    elif not lines:
        click.echo(f"no pods in namespace {where}; choose another with -n", err=True)
    else:
        for row in table(lines):
            click.echo(row)


def targets(kube: KubeSettings) -> tuple[list[TargetLine], str]:
    """The pods that can be targets, ours left out, and the namespace that was looked at."""
    import urllib3

    from ..targets.kubernetes import containers, manifest
    from ..targets.kubernetes.access import ClusterAccess
    from ..targets.kubernetes.api import Api, ApiError
    from ..targets.kubernetes.failures import explain

    access = ClusterAccess(kube)
    api = Api(access)
    try:
        items = api.get(
            f"/api/v1/namespaces/{access.namespace}/pods",
            labelSelector=f"{manifest.MANAGED_BY}!={manifest.MANAGER}",
        ).get("items")
    except (ApiError, urllib3.exceptions.HTTPError, OSError) as error:
        raise explain(error, access, f"list the pods of namespace {access.namespace}") from error
    finally:
        api.close()
    lines = [
        TargetLine(f"pod/{pod['metadata']['name']}", access.namespace, tuple(containers.names(pod)), phase(pod))
        for pod in items or []
    ]
    return sorted(lines, key=lambda line: line.target), access.namespace


def phase(pod: dict[str, object]) -> str:
    """The pod's phase, or the reason why one of its containers does not run."""
    metadata, status = pod.get("metadata"), pod.get("status")
    if not isinstance(metadata, dict) or not isinstance(status, dict):
        return "Unknown"
    if metadata.get("deletionTimestamp"):
        return "Terminating"
    for entry in status.get("containerStatuses") or []:
        waiting = (entry.get("state") or {}).get("waiting")
        if waiting and waiting.get("reason"):
            return str(waiting["reason"])
    return str(status.get("phase") or "Unknown")


def table(lines: list[TargetLine]) -> list[str]:
    """Columns as wide as their widest entry."""
    rows = [("TARGET", "STATUS", "CONTAINERS")]
    rows += [(line.target, line.phase, ", ".join(line.containers)) for line in lines]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{row[0]:{widths[0]}}  {row[1]:{widths[1]}}  {row[2]}" for row in rows]
