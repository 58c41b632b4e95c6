from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from mirrord_trace.supervisor.cli.explain import explain

_NOTE = "mirrord-trace: the pod's volumes are not looked at here"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable or file of this machine plays a part."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/users/ann")
    for name in [name for name in os.environ if name.startswith("MIRRORD_")]:
        monkeypatch.delenv(name)


def run(*words: str, fs: object = None) -> Result:
    arguments = list(words)
    if fs is not None:
        Path("m.json").write_text(json.dumps({"feature": {"fs": fs}}))
        arguments = ["-f", "m.json", *arguments]
    return CliRunner().invoke(explain, arguments)


def line(*words: str, fs: object = None) -> str:
    result = run(*words, fs=fs)
    assert result.exit_code == 0
    (only,) = result.stdout.splitlines()
    return only


def test_by_the_mode() -> None:
    assert line("/app/x") == '/app/x  read: pod (feature.fs.mode)  write: local (feature.fs.mode is "read")'
    assert line("/app/x", "--fs-mode", "write") == "/app/x  read: pod (feature.fs.mode)  write: pod (feature.fs.mode)"
    assert line("/app/x", fs="write") == "/app/x  read: pod (feature.fs.mode)  write: pod (feature.fs.mode)"
    local = "local (feature.fs.mode is local)"
    assert line("/app/x", "--fs-mode", "local", fs="write") == f"/app/x  read: {local}  write: {local}"


def test_by_a_pattern_which_is_shown() -> None:
    fs = {"read_write": ["^/data/", "x$"], "read_only": "^/etc/app", "local": "^/srv", "not_found": "secret"}
    both = 'pod (feature.fs.read_write: "x$")'
    assert line("/app/x", fs=fs) == f"/app/x  read: {both}  write: {both}"
    there = 'feature.fs.read_only: "^/etc/app"'
    assert line("/etc/app/a", fs=fs) == f"/etc/app/a  read: pod ({there})  write: local ({there})"
    hidden = 'missing (feature.fs.not_found: "secret")'
    assert line("/secret", fs=fs) == f"/secret  read: {hidden}  write: {hidden}"


def test_by_a_mapping() -> None:
    fs = {"mapping": {"^/data": "/pod", "^/own": "/tmp"}, "read_write": "^/pod"}
    pod, local = 'pod:/pod/x (feature.fs.read_write: "^/pod")', "local:/tmp/x (local by default)"
    assert line("/data/x", fs=fs) == f"/data/x  read: {pod}  write: {pod}"
    assert line("/own/x", fs=fs) == f"/own/x  read: {local}  write: {local}"


def test_by_the_defaults() -> None:
    assert line("/users/ann/.kube/config") == (
        "/users/ann/.kube/config  read: missing (hidden by default)  write: missing (hidden by default)"
    )
    assert line("/etc/hosts") == (
        "/etc/hosts  read: pod (remote by default)  write: local (remote by default, but for reading only)"
    )
    assert line("/etc/x", "--from-pod").startswith("/etc/x  read: pod (--from-pod)  write: local (")


def test_paths_as_a_program_may_write_them() -> None:
    assert line("x/y") == "x/y  read: local (relative paths are local)  write: local (relative paths are local)"
    assert line("/app//x/../y").startswith("/app//x/../y  read: pod (feature.fs.mode)")
    assert line("/etc/./x").startswith("/etc/./x  read: local (local by default)")
    assert line("/app/\x1b[m\udcff").startswith("/app/\\x1b[m\\udcff  read: pod (")


def test_json() -> None:
    result = run("/data/x", "/secret", "-o", "json", fs={"mapping": {"^/data": "/pod"}, "not_found": "secret"})
    hidden = {"route": "missing", "path": "", "reason": "feature.fs.not_found", "pattern": "secret"}
    assert json.loads(result.stdout) == [
        {
            "path": "/data/x",
            "read": {"route": "pod", "path": "/pod/x", "reason": "feature.fs.mode", "pattern": ""},
            "write": {"route": "local", "path": "/pod/x", "reason": 'feature.fs.mode is "read"', "pattern": ""},
        },
        {"path": "/secret", "read": hidden, "write": hidden},
    ]
    assert result.stderr == ""


def test_volumes_are_not_known_and_that_is_said() -> None:
    assert run("/app/x", "/app/y").stderr.startswith(_NOTE)
    assert run("/app/x", "--fs-mode", "local").stderr == run("/app/x", "--from-pod").stderr == ""
    Path("m.yaml").write_text("feature: {magic: {auto_mount: false}}")
    assert run("-f", "m.yaml", "/app/x").stderr == ""


def test_wrong_usage() -> None:
    assert run().exit_code == 2
    result = run("/x", fs={"local": "("})
    assert result.exit_code == 2
    assert result.stderr.startswith("mirrord-trace: feature.fs.local: the pattern '('")
