from __future__ import annotations

import errno
from pathlib import Path

import pytest
from mirrord_trace.supervisor.doctor import machine
from mirrord_trace.supervisor.notify.availability import Support


def proc(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


@pytest.mark.parametrize(
    ("release", "level"),
    [("6.18.0-generic", "ok"), ("5.6", "ok"), ("5.4.0-1", "missing"), ("3.10", "missing"), ("odd", "missing")],
)
def test_kernel(release: str, level: str) -> None:
    assert machine.kernel(release).level == level


@pytest.mark.parametrize(("name", "level"), [("x86_64", "ok"), ("aarch64", "warn"), ("riscv64", "missing")])
def test_architecture(name: str, level: str) -> None:
    assert machine.architecture(name).level == level


@pytest.mark.parametrize(("version", "level"), [((3, 12, 1), "ok"), ((3, 10, 0), "ok"), ((3, 9, 18), "missing")])
def test_python(version: tuple[int, ...], level: str) -> None:
    assert machine.python(version).level == level


def test_seccomp(tmp_path: Path) -> None:
    name = "sys__kernel__seccomp__actions_avail"
    assert machine.seccomp(tmp_path).level == "missing"
    assert machine.seccomp(proc(tmp_path, **{name: "kill_process errno allow\n"})).level == "missing"
    assert machine.seccomp(proc(tmp_path, **{name: "kill_process trap errno trace log allow\n"})).level == "ok"


@pytest.mark.parametrize("offered", list(Support))
def test_user_notification(offered: Support) -> None:
    finding = machine.user_notification(lambda: offered)
    assert finding.level == ("ok" if offered is Support.KILLABLE else "warn")
    assert bool(finding.remedy) == (offered is not Support.KILLABLE)


@pytest.mark.parametrize(("scope", "level"), [("0", "ok"), ("1", "ok"), ("2", "missing"), ("3", "missing")])
def test_yama(scope: str, level: str, tmp_path: Path) -> None:
    files = proc(tmp_path, sys__kernel__yama__ptrace_scope=scope + "\n", self__status="CapEff:\t0000000000000000\n")
    finding = machine.yama(files)
    assert finding.level == level
    assert bool(finding.remedy) == (level == "missing")


def test_yama_is_not_there(tmp_path: Path) -> None:
    assert machine.yama(tmp_path).what == "not active"


def test_yama_2_with_the_capability(tmp_path: Path) -> None:
    files = proc(tmp_path, sys__kernel__yama__ptrace_scope="2\n", self__status=f"CapEff:\t{1 << 19:016x}\n")
    assert machine.yama(files).level == "ok"


def test_nested_tracing(tmp_path: Path) -> None:
    files = proc(tmp_path, self__status="Name:\tpython\nTracerPid:\t0\n")
    assert machine.nested_tracing(files).level == "ok"
    files = proc(tmp_path, **{"self__status": "TracerPid:\t77\n", "77__comm": "strace\n"})
    finding = machine.nested_tracing(files)
    assert (finding.level, finding.what) == ("missing", "this process is traced by strace (pid 77)")


def test_no_new_privs(tmp_path: Path) -> None:
    files = proc(tmp_path, self__status=f"CapEff:\t{1 << 21:x}\nNoNewPrivs:\t0\n")
    assert "CAP_SYS_ADMIN is there" in machine.no_new_privs(files).what
    files = proc(tmp_path, self__status="CapEff:\t0\nNoNewPrivs:\t1\n")
    assert "set already" in machine.no_new_privs(files).what
    files = proc(tmp_path, self__status="CapEff:\t0\nNoNewPrivs:\t0\n")
    assert "will be set" in machine.no_new_privs(files).what


@pytest.mark.parametrize(("value", "level"), [("0", "ok"), ("1", "missing")])
def test_abort_on_overflow(value: str, level: str, tmp_path: Path) -> None:
    assert machine.abort_on_overflow(proc(tmp_path, sys__net__ipv4__tcp_abort_on_overflow=value)).level == level


def test_what_is_tried() -> None:
    assert machine.tracing(lambda: 0).level == "ok"
    assert machine.tracing(lambda: errno.EPERM).what == "tracing a child failed: Operation not permitted"
    assert machine.user_namespaces(lambda: 0).level == "ok"
    assert machine.user_namespaces(lambda: errno.ENOSPC).level == "warn"
    assert machine.ipv6_loopback(lambda: 0).level == "ok"
    assert machine.ipv6_loopback(lambda: errno.EADDRNOTAVAIL).level == "warn"


def test_every_check_runs_on_this_machine() -> None:
    found = [check() for check in machine.CHECKS]
    assert len({finding.name for finding in found}) == len(found)
    for finding in found:
        assert finding.why
        assert finding.remedy or finding.level == "ok"


def test_tracing_a_child_really_works_here_or_says_why_not() -> None:
    finding = machine.tracing()
    assert finding.level == "ok" or "failed" in finding.what


@pytest.mark.parametrize("wanted", ["", "python"])
def test_which_loop_is_in_use(monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    monkeypatch.setenv("MIRRORD_TRACE_LOOP", wanted)
    found = machine.loop()
    assert found.level == "ok"
    assert wanted not in ("python",) or found.what == "in Python, by MIRRORD_TRACE_LOOP"


def test_no_compiled_loop_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MIRRORD_TRACE_LOOP", raising=False)
    monkeypatch.setattr(machine.compiled, "library", lambda: None)
    assert machine.loop().level == "ok"
    assert "C compiler" in machine.loop().what
