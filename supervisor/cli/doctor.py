"""`mirrord-trace doctor`: what this machine and the cluster offer, what is missing, and what to do about it."""

from __future__ import annotations

import json
import textwrap

import click

from ..doctor import machine
from ..doctor.finding import Finding
from ..targets.kubernetes.settings import AgentSettings, KubeSettings

_COLORS = {"ok": "green", "warn": "yellow", "missing": "red"}
_WIDTH = 100


@click.command("doctor")
@click.option("-n", "--namespace", help="Namespace of the target; default: the context's.")
@click.option("--context", help="Context of the kubeconfig; default: the current one.")
@click.option("--kubeconfig", type=click.Path(), help="Path of the kubeconfig; default: KUBECONFIG, ~/.kube/config.")
@click.option("-a", "--agent-namespace", help="Namespace of the agent's pod; default: the target's.")
@click.option("--no-cluster", is_flag=True, help="Look at this machine only.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
def doctor(
    namespace: str | None,
    context: str | None,
    kubeconfig: str | None,
    agent_namespace: str | None,
    no_cluster: bool,
    output: str,
) -> None:
    """Check this machine and the access to the cluster. Exit status 1 if something needed is missing."""
    found = [check() for check in machine.CHECKS]
    if not no_cluster:
        from ..doctor import cluster

        found += cluster.findings(KubeSettings(namespace, context, kubeconfig), AgentSettings(namespace=agent_namespace))
    if output == "json":
        click.echo(json.dumps([finding.as_json() for finding in found], indent=2))
    else:
        for line in report(found):
            click.echo(line)
    if any(finding.level == "missing" for finding in found):
        raise SystemExit(1)


def report(found: list[Finding]) -> list[str]:
    """The findings for people: one line each, and below those with a remedy why it matters and what to do."""
    width = max(len(finding.name) for finding in found)
    lines = []
    for finding in found:
        level = click.style(f"{finding.level:7}", fg=_COLORS[finding.level])
        lines.append(f"{level} {finding.name:{width}}  {finding.what}")
        if finding.level != "ok":
            lines += _indented("why: ", finding.why, width + 10)
            lines += _indented("do:  ", finding.remedy, width + 10)
    return lines


def _indented(head: str, text: str, indent: int) -> list[str]:
    # Commands in a remedy must survive copying: break at spaces only.
    return textwrap.wrap(
        text,
        width=max(_WIDTH, indent + 40),
        initial_indent=" " * indent + head,
        subsequent_indent=" " * (indent + len(head)),
        break_long_words=False,
        break_on_hyphens=False,
    )
