from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner
from fakeapi import FakeApi, running_pod, status_object
from mirrord_trace.supervisor.cli.ls import ls, phase

PODS = "/api/v1/namespaces/default/pods"


def test_a_table_of_pods(fake_api: FakeApi, tmp_path: Path) -> None:
    fake_api.add_pod(running_pod("web-long-name", "app", "side"))
    fake_api.add_pod(running_pod("db"))
    result = CliRunner().invoke(ls, ["--kubeconfig", str(fake_api.kubeconfig(tmp_path))])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "TARGET             STATUS   CONTAINERS",
        "pod/db             Running  app",
        "pod/web-long-name  Running  app, side",
    ]
    assert "managed-by%21%3Dmirrord-trace" in fake_api.requests[-1][1]


def test_json(fake_api: FakeApi, tmp_path: Path) -> None:
    fake_api.add_pod(running_pod("web", "app", "side"))
    result = CliRunner().invoke(ls, ["--kubeconfig", str(fake_api.kubeconfig(tmp_path)), "-o", "json"])
    assert json.loads(result.stdout) == [
        {"target": "pod/web", "namespace": "default", "containers": ["app", "side"], "phase": "Running"}
    ]


def test_nothing_there(fake_api: FakeApi, tmp_path: Path) -> None:
    arguments = ["--kubeconfig", str(fake_api.kubeconfig(tmp_path)), "-n", "empty"]
    result = CliRunner().invoke(ls, arguments)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no pods in namespace empty; choose another with -n" in result.stderr
    assert json.loads(CliRunner().invoke(ls, [*arguments, "-o", "json"]).stdout) == []


def test_no_right(fake_api: FakeApi, tmp_path: Path) -> None:
    message = 'pods is forbidden: User "me" cannot list resource "pods" in API group "" in the namespace "default"'
    fake_api.answers["GET", PODS] = (403, status_object(403, "Forbidden", message))
    result = CliRunner().invoke(ls, ["--kubeconfig", str(fake_api.kubeconfig(tmp_path))])
    assert result.exit_code == 125
    assert result.stderr.count("\n") == 1
    assert "user 'me' may not list pods in namespace default" in result.stderr


def test_no_kubeconfig(tmp_path: Path) -> None:
    result = CliRunner().invoke(ls, ["--kubeconfig", str(tmp_path / "none")])
    assert result.exit_code == 125
    assert "there is no kubeconfig" in result.stderr


def test_phase() -> None:
    assert phase({}) == "Unknown"
    pod = running_pod("web")
    assert phase(pod) == "Running"
    pod["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    assert phase(pod) == "CrashLoopBackOff"
    pod["metadata"]["deletionTimestamp"] = "now"
    assert phase(pod) == "Terminating"
