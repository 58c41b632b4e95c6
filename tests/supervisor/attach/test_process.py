"""Every reason why a process cannot be attached has its own line."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from attaching import until
from build import i386_program
from mirrord_trace.supervisor.attach import process as examining
from mirrord_trace.supervisor.attach.process import examine, not_permitted
from mirrord_trace.supervisor.attach.tasks import status, threads_of
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.notify.guard import start_guard
from mirrord_trace.supervisor.tracer import ptrace
from rig import apart

_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="this needs root")
_ORDINARY = pytest.mark.skipif(os.geteuid() == 0, reason="this needs an ordinary user")


def _refusal(pid: int) -> str:
    with pytest.raises(UsageError) as caught:
        examine(pid)
    assert "\n" not in caught.value.text
    return caught.value.text


def test_an_ordinary_process_is_left_as_it_was() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        examine(process.pid)
        assert status(process.pid)["TracerPid"] == "0"
        process.kill()


def test_numbers_that_cannot_be_meant() -> None:
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    try:
        assert _refusal(1).startswith("process 1 ")
        assert _refusal(0) == "there is no process 0"
        assert _refusal(-7) == "there is no process -7"
        assert "runs below" in _refusal(os.getpid())
        assert "runs below" in _refusal(os.getppid())
        assert f"is a thread of {status(os.getpid())['Name']}" in _refusal(threads_of(os.getpid())[-1])
    finally:
        over.set()
        thread.join()


@apart
def test_one_that_is_supervised_without_a_tracer() -> None:
    _, pid, _ = start_guard(lambda: os.execvp("sleep", ["sleep", "1000"]))
    assert "is supervised by mirrord-trace already" in _refusal(pid)
    os.kill(pid, signal.SIGKILL)


def test_one_that_has_ended() -> None:
    process = subprocess.Popen(["true"])
    until(lambda: status(process.pid)["State"].startswith("Z"))
    assert "has ended" in _refusal(process.pid)
    process.wait()
    assert _refusal(process.pid) == f"there is no process {process.pid}"


def test_a_thread_of_the_kernel() -> None:
    if "VmSize" in status(2):
        pytest.skip("this needs a machine whose process 2 is the kernel's")
    assert "kernel" in _refusal(2)


@apart
def test_one_that_is_traced() -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        ptrace.seize(process.pid, 0)
        assert f"is traced by {status(os.getpid())['Name']} (pid {os.getpid()})" in _refusal(process.pid)
        os.kill(process.pid, 9)
        os.waitpid(process.pid, ptrace.WALL)
        process.returncode = 0


@_ORDINARY
def test_one_of_somebody_else() -> None:
    # A set-user-ID program that waits for a password.
    with subprocess.Popen(["su"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        # execve(2) closes what tells Popen that it has succeeded before it changes the user.
        until(lambda: status(process.pid)["Uid"].split()[1] == "0")
        assert "belongs to user root: run mirrord-trace as that user or as root" in _refusal(process.pid)
        process.kill()


def test_one_that_has_closed_itself() -> None:
    if os.geteuid() == 0:
        pytest.skip("root may all the same: this needs an ordinary user")
    text = "import ctypes, time\nctypes.CDLL(None).prctl(4, 0, 0, 0, 0)\nprint(flush=True)\ntime.sleep(1000)"
    with subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert "PR_SET_DUMPABLE" in _refusal(process.pid)
        process.kill()


@_ROOT
@pytest.mark.parametrize(
    ("flag", "words"), [(0x20000, "mount namespace"), (0x40000000, "network namespace"), (0x10000000, "user namespace")]
)
def test_another_namespace(flag: int, words: str) -> None:
    pid = _prepared(lambda: ctypes.CDLL(None).unshare(flag))
    assert words in _refusal(pid)
    os.kill(pid, 9)
    os.waitpid(pid, 0)


@_ROOT
def test_another_root(tmp_path: Path) -> None:
    pid = _prepared(lambda: os.chroot(tmp_path))
    assert "chroot" in _refusal(pid)
    os.kill(pid, 9)
    os.waitpid(pid, 0)


# A child that has done this, and waits.
def _prepared(work: object) -> int:
    assert callable(work)
    ready, done = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.write(done, b".")
            threading.Event().wait()
        finally:
            os._exit(0)
    assert os.read(ready, 1) == b"."
    os.close(ready)
    os.close(done)
    return pid


def test_a_program_of_32_bits() -> None:
    assert examining.is_of_32_bits(str(i386_program()))
    assert not examining.is_of_32_bits(sys.executable)
    assert not examining.is_of_32_bits(__file__)


@pytest.mark.parametrize(
    ("scope", "may", "words"),
    [("0", False, "PR_SET_DUMPABLE"), ("1", False, "ptrace_scope is 1"), ("2", False, "ptrace_scope is 2"),
     ("3", True, "is 3"), ("1", True, "PR_SET_DUMPABLE"), ("", False, "PR_SET_DUMPABLE")],
)  # fmt: skip
def test_what_forbids_it(scope: str, may: bool, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scope").write_text(scope)
    monkeypatch.setattr(examining, "_YAMA", tmp_path / "scope")
    monkeypatch.setattr(examining, "_may_trace_all", lambda: may)
    assert words in not_permitted(os.getpid()).text
