"""Whose calls are let alone, and that they are, in both loops."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mirrord_trace.supervisor.tracer.skipping import Skipping
from mirrord_trace.syscalls.actions import Handling, Return
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from rig import CALL, DECISION, Supervised, apart, supervise

_NAMES = {b"cat": "one", b"other": "another"}


@contextmanager
def _running(*command: str | Path, executable: Path | None = None) -> Iterator[int]:
    with subprocess.Popen(command, executable=executable, stdin=subprocess.PIPE) as process:
        try:
            yield process.pid
        finally:
            process.kill()


@apart
def test_the_name_of_the_file_behind_all_links_counts(tmp_path: Path) -> None:
    cat = Path(shutil.copy("/bin/cat", tmp_path / "cat"))
    (tmp_path / "link").symlink_to(cat)
    told: list[tuple[int, bytes, str]] = []
    with _running(tmp_path / "link") as pid:
        assert Skipping(_NAMES, told=lambda *words: told.append(words)).skips(pid)
        assert not Skipping({b"link-": "x", b"Cat": "x", b"": "x"}).skips(pid)
    assert told == [(pid, os.fsencode(cat), "one")]


@apart
@pytest.mark.parametrize("first", ["other", "/x/y/other"])
def test_so_does_the_first_argument(first: str) -> None:
    with _running(first, executable=Path("/bin/cat")) as pid:
        assert Skipping({b"other": "x"}).skips(pid)
    with _running("/other/x", executable=Path("/bin/cat")) as pid:
        assert not Skipping({b"other": "x"}).skips(pid)


@apart
def test_the_pods_programs_are_never_skipped(tmp_path: Path) -> None:
    cat = Path(shutil.copy("/bin/cat", tmp_path / "cat"))
    with _running(cat) as pid:
        device = cat.stat().st_dev
        assert not Skipping(_NAMES, device).skips(pid)
        assert Skipping(_NAMES, device + 1).skips(pid)
        # Run by its loader.
        assert not Skipping(_NAMES).skips(pid, b"/app/cat")


def test_a_process_that_has_gone_is_not_skipped() -> None:
    assert not Skipping(_NAMES).skips(2**22 + 1)
    assert not Skipping({}).skips(os.getpid())


_PROGRAM = f"""
def work(): say('thread', call(1))
thread = threading.Thread(target=work); thread.start(); thread.join()
pid = os.fork()
if pid == 0:
    say('child', call(1))
    os._exit(0)
os.waitpid(pid, 0)
say('main', call(1))
if len(sys.argv) > 1: os.execv({sys.executable!r}, [sys.argv[1], *sys.orig_argv[1:-1]])
"""


@apart
@pytest.mark.usefixtures("both_loops")
@pytest.mark.parametrize("executed", ["", "other", "python"])
def test_threads_and_children_are_as_their_process_until_it_executes(executed: str) -> None:
    def answer(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        return Return(args[0] + 1, DECISION)

    def prepare(run: Supervised) -> None:
        run.tree.skips = Skipping({b"other": "x"}).skips

    import rig

    command = [*rig.python(_PROGRAM), *([executed] if executed else [])]
    done = supervise(command, {CALL: answer}, prepare=prepare)
    supervised, skipped = ["thread 2", "child 2", "main 2"], ["thread -14", "child -14", "main -14"]
    assert done.lines() == [*supervised, *({"": [], "other": skipped, "python": supervised}[executed])]
    assert done.end is not None
    assert done.end.exit_code == 0
