from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrord_trace.supervisor.errors import EXIT_USAGE, UsageError
from mirrord_trace.supervisor.targets.process import ProcessTarget

STATUS = "Name:\tx\nState:\tS (sleeping)\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nVmSize:\t1 kB\n"


@pytest.fixture
def sleeper() -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    yield process.pid
    process.kill()
    process.wait()


def progress(text: str) -> None:
    pass


def test_a_process_of_ours(sleeper: int) -> None:
    target = ProcessTarget.parse(f"pid/{sleeper}")
    assert target.describe() == f"process {sleeper}"
    target.start(progress)
    assert target.agent_target() == {"pid": sleeper}
    assert len(target.boot_secret) == 32
    target.stop()


@pytest.mark.parametrize("text", ["pid/", "pid/x", "pid/0", "pid/-1", "pid/99999999999", "pid/1 2", "pod/1", "1", "pid/٣"])
def test_no_number(text: str) -> None:
    with pytest.raises(UsageError, match="pid/N") as raised:
        ProcessTarget.parse(text)
    assert raised.value.exit_status == EXIT_USAGE


def refusal(target: ProcessTarget) -> str:
    with pytest.raises(UsageError) as raised:
        target.start(progress)
    target.stop()
    return raised.value.text


def test_no_such_process() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    text = refusal(ProcessTarget(process.pid))
    assert text == f"there is no process {process.pid}; name a running one (ps -e)"


def test_a_zombie() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert refusal(ProcessTarget(process.pid)) == f"process {process.pid} has ended already; name a running one (ps -e)"
    process.wait()


def test_a_thread_of_the_kernel() -> None:
    if Path("/proc/2/comm").read_text() != "kthreadd\n":
        pytest.skip("kthreadd is not process 2 here")
    assert "is a thread of the kernel" in refusal(ProcessTarget(2))


class FakeProc:
    """A /proc with this process and process 7."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("self", "7"):
            (path / name / "ns").mkdir(parents=True)
            (path / name / "ns" / "net").symlink_to("net:[1]")
            (path / name / "ns" / "user").symlink_to("user:[1]")
            (path / name / "status").write_text(STATUS.format(uid=4711) + "CapEff:\t0000000000000000\n")
            (path / name / "environ").write_text("")
            (path / name / "root").mkdir()

    def link(self, process: str, name: str, target: str) -> None:
        (self.path / process / "ns" / name).unlink()
        (self.path / process / "ns" / name).symlink_to(target)

    def target(self) -> ProcessTarget:
        return ProcessTarget(7, proc=self.path)


@pytest.fixture
def fake(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def test_the_same_network_needs_no_privilege(fake: FakeProc) -> None:
    fake.target().start(progress)


def test_another_network_needs_root(fake: FakeProc) -> None:
    fake.link("7", "net", "net:[2]")
    assert "only root can enter; run mirrord-trace with sudo" in refusal(fake.target())
    (fake.path / "self" / "status").write_text("CapEff:\t0000000000200000\n")
    fake.target().start(progress)


def test_another_network_in_a_user_namespace_is_for_the_agent_to_try(fake: FakeProc) -> None:
    fake.link("7", "net", "net:[2]")
    fake.link("7", "user", "user:[2]")
    fake.target().start(progress)


@pytest.mark.parametrize("ours", [True, False])
def test_a_process_that_may_not_be_inspected(fake: FakeProc, monkeypatch: pytest.MonkeyPatch, ours: bool) -> None:
    uid = os.geteuid() if ours else 4711
    (fake.path / "7" / "status").write_text(STATUS.format(uid=uid))

    def deny(path: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.readlink", deny)
    text = refusal(fake.target())
    expected = "has privileges of its own" if ours else "belongs to user 4711; run mirrord-trace as that user"
    assert expected in text


def test_a_process_that_ends_meanwhile(fake: FakeProc) -> None:
    (fake.path / "7" / "environ").unlink()
    assert "has just ended" in refusal(fake.target())
