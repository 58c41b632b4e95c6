"""inotify(7) on pod files: a program of others' sees what happens in the pod, and what it does itself once."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Runner

_EVENTS = "modify,attrib,close_write,create,delete,move"
_BUSYBOX = Path(shutil.which("busybox") or "/bin/busybox")


class Watch:
    """inotifywait(1), supervised, on a directory of the pod and the one below it."""

    def __init__(self, runner: Runner, folder: str) -> None:
        command = ["inotifywait", "-m", "-e", _EVENTS, "--format", "%w%f %e", folder, f"{folder}/sub"]
        self._process = subprocess.Popen(
            [str(word) for word in runner.command(*command, options=["--fs-mode", "write"])],
            cwd=runner.folder,
            env=runner.environment_for({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("Watches established"):
                return
        raise AssertionError("inotifywait did not begin to watch")

    def until(self, last: str) -> list[str]:
        """All events up to and with this one."""
        assert self._process.stdout is not None
        lines = []
        for line in self._process.stdout:
            lines.append(line.strip())
            if lines[-1] == last:
                return lines
        raise AssertionError(f"inotifywait ended after {lines}")

    def close(self) -> None:
        self._process.terminate()
        self._process.communicate(timeout=30)


@pytest.fixture
def folder(runner: Runner) -> Iterator[str]:
    """A directory of the pod of the test's own, with another one in it."""
    path = f"/app/watched-{os.getpid()}"
    inside(runner, f"mkdir -p {path}/sub")
    yield path
    inside(runner, f"rm -r {path}*")


@pytest.fixture
def watch(runner: Runner, folder: str) -> Iterator[Watch]:
    watch = Watch(runner, folder)
    yield watch
    watch.close()


def inside(runner: Runner, script: str) -> None:
    done = runner.inside(_BUSYBOX, "sh", "-c", script)
    assert done.status == 0, done


def test_what_happens_in_the_pod_is_seen(runner: Runner, folder: str, watch: Watch) -> None:
    inside(runner, f"cd {folder}; mkdir dir; mv dir sub/moved; mv sub/moved back; rmdir back; chmod 700 sub")
    assert watch.until(f"{folder}/sub ATTRIB,ISDIR") == [
        f"{folder}/dir CREATE,ISDIR",
        f"{folder}/dir MOVED_FROM,ISDIR",
        f"{folder}/sub/moved MOVED_TO,ISDIR",
        f"{folder}/sub/moved MOVED_FROM,ISDIR",
        f"{folder}/back MOVED_TO,ISDIR",
        f"{folder}/back DELETE,ISDIR",
        f"{folder}/sub ATTRIB,ISDIR",
    ]


def test_a_file_that_is_written_and_removed(runner: Runner, folder: str, watch: Watch) -> None:
    inside(runner, f"echo one > {folder}/file")
    seen = watch.until(f"{folder}/file CLOSE_WRITE,CLOSE")
    assert f"{folder}/file CREATE" in seen
    assert f"{folder}/file MODIFY" in seen
    inside(runner, f"rm {folder}/file")
    assert f"{folder}/file DELETE" in watch.until(f"{folder}/file DELETE")


def test_a_move_from_where_nobody_watches(runner: Runner, folder: str, watch: Watch) -> None:
    inside(runner, f"echo x > {folder}.outside; mv {folder}.outside {folder}/came; mv {folder}/came {folder}.outside")
    assert watch.until(f"{folder}/came MOVED_FROM") == [f"{folder}/came MOVED_TO", f"{folder}/came MOVED_FROM"]


def test_a_changed_file_reads_as_it_is_now(runner: Runner, folder: str, watch: Watch) -> None:
    inside(runner, f"echo first > {folder}/file")
    watch.until(f"{folder}/file CLOSE_WRITE,CLOSE")
    done = runner.traced("cat", f"{folder}/file")
    assert done.out == "first\n", done


def test_what_the_program_does_itself_it_sees_once(runner: Runner, folder: str) -> None:
    script = (
        f"cd {folder}; inotifywait -q -m -e {_EVENTS} --format '%f %e' . > {runner.folder}/seen & "
        f"until test -s {runner.folder}/seen; do touch probe; done; "
        f"mkdir own; mv own other; rmdir other; mkdir last; "
        f"until grep -q last {runner.folder}/seen; do :; done; kill %1; wait"
    )
    done = runner.traced("bash", "-c", script, options=["--fs-mode", "write"])
    assert done.status in (0, 143), done
    lines = [line for line in (runner.folder / "seen").read_text().splitlines() if not line.startswith("probe")]
    assert lines == [
        "own CREATE,ISDIR", "own MOVED_FROM,ISDIR", "other MOVED_TO,ISDIR", "other DELETE,ISDIR", "last CREATE,ISDIR",
    ]  # fmt: skip
