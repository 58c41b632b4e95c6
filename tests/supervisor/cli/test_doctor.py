from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from fakeapi import FakeApi
from mirrord_trace.supervisor.cli.doctor import doctor, report
from mirrord_trace.supervisor.doctor import machine
from mirrord_trace.supervisor.doctor.finding import Finding

FINE = Finding("kernel", "ok", "Linux 9", "it is needed")
BROKEN = Finding("yama", "missing", "scope 3", "we trace", "restart")


def checks(monkeypatch: pytest.MonkeyPatch, *found: Finding) -> None:
    monkeypatch.setattr(machine, "CHECKS", tuple((lambda finding=finding: finding) for finding in found))


def test_all_is_well(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks(monkeypatch, FINE)
    result = CliRunner().invoke(doctor, ["--kubeconfig", str(fake_api.kubeconfig(tmp_path))])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["ok", "kernel", "Linux", "9"]
    assert len(lines) == 7


def test_what_is_missing_sets_the_exit_status(monkeypatch: pytest.MonkeyPatch) -> None:
    checks(monkeypatch, FINE, BROKEN)
    result = CliRunner().invoke(doctor, ["--no-cluster"])
    assert result.exit_code == 1
    assert result.stdout.splitlines()[1:] == [
        "missing yama    scope 3",
        "                why: we trace",
        "                do:  restart",
    ]


def test_a_warning_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    checks(monkeypatch, Finding("x", "warn", "a", "b", "c"))
    assert CliRunner().invoke(doctor, ["--no-cluster"]).exit_code == 0


def test_json(monkeypatch: pytest.MonkeyPatch) -> None:
    checks(monkeypatch, BROKEN)
    result = CliRunner().invoke(doctor, ["--no-cluster", "-o", "json"])
    assert result.exit_code == 1
    assert json.loads(result.stdout) == [BROKEN.as_json()]


def test_the_agents_namespace_is_looked_at(fake_api: FakeApi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks(monkeypatch)
    arguments = ["--kubeconfig", str(fake_api.kubeconfig(tmp_path)), "-a", "agents", "-n", "shop", "-o", "json"]
    CliRunner().invoke(doctor, arguments)
    asked = {body["spec"]["resourceAttributes"]["namespace"] for body in fake_api.bodies if isinstance(body, dict)}
    assert asked == {"agents", "shop"}


def test_long_texts_are_wrapped_between_words() -> None:
    remedy = "sudo sysctl -w net.ipv4.tcp_abort_on_overflow=0 " * 4
    lines = report([Finding("x", "warn", "a", "b", remedy.strip())])
    assert len(lines) > 3
    assert " ".join(" ".join(lines[2:]).split()) == "do: " + remedy.strip()
