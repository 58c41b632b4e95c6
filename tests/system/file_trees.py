"""Trees of the same content, here and in the demo pod, and programs that do the same work in either."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runs import Argument, Ran, Runner

BUSYBOX = "/bin/busybox"
PYTHON = os.path.realpath(sys.executable)
# What programs print depends on it, and who writes has a name.
ENVIRONMENT = {
    "LC_ALL": "C.UTF-8",
    "TZ": "UTC",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in (
        ("NAME", "Ann"), ("EMAIL", "ann@example.com"), ("DATE", "2026-01-02T03:04:05Z"))},
    "PYTHONDONTWRITEBYTECODE": "1",
}  # fmt: skip
_DATA = "/data"
_INSIDE_PYTHON = Path(__file__).with_name("inside_python.py")
# The Python that runs the tests, and what is made for them.
_OURS = [f"^{re.escape(str(place))}/" for place in (sys.prefix, sys.base_prefix, Path(__file__).resolve().parents[2])]

Entry = tuple[str, ...]


@dataclass
class Trees:
    """`here`: a directory of this machine (tmpfs). `there`: one of the pod, by its path in it; both are empty at first.

    `settings`: keys of feature.fs besides those that give the pod all that is below `there`.
    """

    runner: Runner
    here: Path
    there: str
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def pod(self) -> Path:
        """The pod's directory as this machine's kernel shows it: what processes of the pod see in it."""
        return Path(f"/proc/{self.runner.pod.pid}/root{self.there}")

    @property
    def pattern(self) -> str:
        """Of the pod's directory, for lists of the configuration."""
        return f"^{re.escape(self.there)}(/|$)"

    def options(self, **settings: Any) -> list[Argument]:
        """The option that names a configuration file with these settings."""
        config = self.runner.folder / "trees.json"
        rules = {"mode": "write", "read_write": [self.pattern], "local": _OURS, **self.settings, **settings}
        # Compilers and git are to work on the pod's files.
        config.write_text(json.dumps({"feature": {"fs": rules}, "skip_build_tools": False}))
        return ["-f", config]

    def native(self, script: str, *arguments: Argument, **more: str) -> Ran:
        """A bash script, at work on the directory of this machine: that is $TREE, where it begins."""
        command = ["bash", "-euc", f'cd "$TREE"\n{script}', "script", *arguments]
        return self._plain(self.runner.native(*command, **{**self._environment(str(self.here)), **more}))

    def traced(self, script: str, *arguments: Argument, **more: str) -> Ran:
        """The same, in the pod's directory."""
        return self.run("bash", "-euc", f'cd "$TREE"\n{script}', "script", *arguments, **more)

    def run(self, *command: Argument, **more: str) -> Ran:
        """A program, traced, that finds the pod's directory in $TREE."""
        environment = {**self._environment(self.there), **more}
        return self._plain(self.runner.traced(*command, options=self.options(), **environment))

    def both(self, script: str, *arguments: Argument, status: int = 0, **more: str) -> str:
        """What a script prints, which has to be the same here and in the pod, and all trees have to be after it."""
        native = self.native(script, *arguments, **more)
        assert native.status == status, native
        traced = self.traced(script, *arguments, **more)
        assert (traced.status, traced.out) == (native.status, native.out), f"{traced}\n--- natively\n{native.out}"
        assert not (difference := self.difference()), "\n".join(difference)
        return native.out

    def difference(self, *, times: bool = False) -> list[str]:
        """What the trees do not have in common."""
        here, there = look(self.here, str(self.here), times=times), look(self.pod, self.there, times=times)
        lines = [f"only here: {entry}" for entry in here if entry not in there]
        return lines + [f"only in the pod: {entry}" for entry in there if entry not in here]

    def inside(self, *command: Argument) -> Ran:
        """busybox, as a process of the pod."""
        return self.runner.inside(Path(BUSYBOX), *command)

    def python_inside(self, source: str) -> Ran:
        """Python, as a process of the pod in the tree."""
        return self.runner.native(*self._python_inside(source))

    @contextlib.contextmanager
    def beginning_inside(self, source: str) -> Iterator[subprocess.Popen[str]]:
        """The same, going on; it has to end by itself before the block does, or is killed."""
        with _begun(self._python_inside(source)) as process:
            yield process

    def _python_inside(self, source: str) -> list[Argument]:
        return [sys.executable, _INSIDE_PYTHON, str(self.runner.pod.pid), self.there, source]

    @contextlib.contextmanager
    def beginning(self, *command: Argument, options: Sequence[Argument] = ()) -> Iterator[subprocess.Popen[str]]:
        """A traced program that goes on; it has to end by itself before the block does, or is killed."""
        words = self.runner.command(*command, options=options or self.options())
        environment = self.runner.environment_for(self._environment(self.there))
        with _begun(words, cwd=self.runner.folder, env=environment) as process:
            yield process

    def _environment(self, tree: str) -> dict[str, str]:
        return {**ENVIRONMENT, "HOME": str(self.runner.folder), "TREE": tree}

    def _plain(self, ran: Ran) -> Ran:
        for tree in (str(self.here), self.there):
            ran = Ran(ran.status, ran.out.replace(tree, "TREE"), ran.err.replace(tree, "TREE"))
        return ran


@contextlib.contextmanager
def new_trees(runner: Runner, **settings: Any) -> Iterator[Trees]:
    """Two empty directories; gone after the block."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="tree-") as folder:
        here = Path(folder)
        here.chmod(0o755)
        # As long as the other, so that what depends on the length of a name is the same.
        trees = Trees(runner, here, f"{_DATA}/{here.name}".ljust(len(folder), "_"), settings)
        trees.pod.mkdir(parents=True)
        try:
            yield trees
        finally:
            shutil.rmtree(trees.pod)


@contextlib.contextmanager
def _begun(words: Sequence[Argument], **more: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [str(word) for word in words],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more,
    )  # fmt: skip
    with ended(process):
        yield process


@contextlib.contextmanager
def ended(process: subprocess.Popen[str]) -> Iterator[subprocess.Popen[str]]:
    """Whatever happens, the process has ended after the block."""
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def look(root: Path, name: str = "", *, times: bool = False) -> list[Entry]:
    """Everything about everything below a directory, but for what no two trees have in common, which `name` is."""
    return sorted(_entries(root, root, name.encode() or b"\0", times))


def _entries(root: Path, folder: Path, name: bytes, times: bool) -> Iterator[Entry]:
    for entry in os.scandir(folder):
        path, seen = Path(entry.path), entry.stat(follow_symlinks=False)
        what = ""
        if stat.S_ISREG(seen.st_mode):
            content = path.read_bytes().replace(name, b"TREE")
            what = f"{seen.st_size} {hashlib.sha256(content).hexdigest()[:12]} {seen.st_nlink}"
        elif stat.S_ISLNK(seen.st_mode):
            what = os.fsdecode(os.fsencode(os.readlink(path)).replace(name, b"TREE"))
        when = str(seen.st_mtime_ns) if times else ""
        yield str(path.relative_to(root)), stat.filemode(seen.st_mode), what, f"{seen.st_uid}:{seen.st_gid}", when
        if stat.S_ISDIR(seen.st_mode):
            yield from _entries(root, path, name, times)
