"""What configuration says of the pod's files holds whatever a program does: what may change, and what may be old."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from file_trees import PYTHON, Trees, look, new_trees
from runs import Runner, tool, until

_FOREVER = {"attribute_seconds": 3600, "negative_seconds": 3600}
_NEVER = {"attribute_seconds": 0, "negative_seconds": 0}


@pytest.fixture
def trees(runner: Runner) -> Iterator[Trees]:
    """Two empty directories, here and in the pod."""
    with new_trees(runner) as trees:
        yield trees


# -- reading only -------------------------------------------------------------------------------------------------------


_ATTEMPTS = Path(__file__).resolve().parent.parent / "programs" / "file_attempts.py"


_REFUSALS = {
    *("EROFS", "ENOENT", "EBADF", "EACCES", "EPERM", "EINVAL", "EOPNOTSUPP", "ENOTTY", "EXDEV", "ENXIO", "ENOMEM", "ENODATA"),
    *("EEXIST", "ENOTDIR"),
}


@pytest.mark.parametrize("rule", ["read", "read_only"])
def test_what_is_only_read_cannot_be_changed_in_any_way(trees: Trees, rule: str) -> None:
    pod = trees.pod
    (pod / "d").mkdir()
    (pod / "empty").mkdir()
    (pod / "file").write_text("content\n")
    (pod / "d/inner").write_text("inner\n")
    (pod / "dangling").symlink_to("nowhere")
    os.mkfifo(pod / "pipe")
    before = look(pod, times=True), [path.lstat().st_ctime_ns for path in sorted(pod.rglob("*"))]
    trees.settings = {"read_write": [], **({"mode": "read"} if rule == "read" else {"read_only": [trees.pattern]})}
    ran = trees.run(PYTHON, "-I", _ATTEMPTS, trees.there, trees.runner.folder / "outside")
    assert ran.status == 0, ran
    lines = ran.out.splitlines()
    assert lines[-2] == "read b'content\\n' content", ran
    assert not [line for line in lines if line.startswith("DID")], ran
    assert not [line for line in lines[:-2] if line.split()[0] not in _REFUSALS], ran
    after = look(pod, times=True), [path.lstat().st_ctime_ns for path in sorted(pod.rglob("*"))]
    assert after == before


def test_where_both_have_the_path_writes_stay_here_and_reads_are_the_pods(trees: Trees) -> None:
    trees.there = str(trees.here)
    trees.pod.mkdir(parents=True)
    for place, text in ((trees.here, "here\n"), (trees.pod, "the pod's\n")):
        (place / "file").write_text(text)
        (place / "other").write_text(text)
    trees.settings = {"mode": "read", "read_write": [], "read_only": [trees.pattern]}
    script = 'cat "$0/file"; echo new > "$0/made"; mv "$0/file" "$0/moved"; rm "$0/other"; cat "$0/file" "$0/other"'
    ran = trees.run("sh", "-ec", f'{script}; test -e "$0/made" || echo none', trees.here)
    assert (ran.status, ran.out) == (0, "the pod's\n" * 3 + "none\n"), ran
    assert {path.name: path.read_text() for path in trees.here.iterdir()} == {"moved": "here\n", "made": "new\n"}
    assert {path.name: path.read_text() for path in trees.pod.iterdir()} == dict.fromkeys(("file", "other"), "the pod's\n")


@pytest.mark.parametrize("fuse", ["on", "off"])
def test_lists_of_the_user_decide(trees: Trees, fuse: str) -> None:
    for name in ("both", "pod", "here", "hidden"):
        (trees.pod / name).write_text("the pod's\n")
        (trees.here / name).write_text("here\n")
    trees.settings = {
        "mode": "localwithoverrides", "fuse": fuse, "mapping": {f"^{re.escape(str(trees.here))}": trees.there},
        "read_write": ["/both$"], "read_only": ["/pod$"], "local": ["/here$"], "not_found": ["/hidden$"],
    }  # fmt: skip
    (trees.runner.folder / "here").write_text("here\n")
    trees.settings["mapping"][f"^{re.escape(trees.there)}/here"] = f"{trees.runner.folder}/here"
    there = trees.there
    script = f"cat {there}/both {there}/pod {there}/here {trees.here}/pod; cat {there}/hidden || echo absent"
    ran = trees.run("sh", "-c", script)
    assert ran.out == "the pod's\nthe pod's\nhere\nthe pod's\nabsent\n", ran
    script = "; ".join(f"echo more >> {there}/{name}" for name in ("both", "here", "hidden", "pod"))
    ran = trees.run("sh", "-c", script)
    assert (trees.runner.folder / "here").read_text() == "here\nmore\n", ran
    assert (trees.pod / "both").read_text() == ("the pod's\nmore\n" if fuse == "on" else "the pod's\n")
    assert [(trees.pod / name).read_text() for name in ("pod", "here", "hidden")] == ["the pod's\n"] * 3


# -- how old things may be ------------------------------------------------------------------------------------------------


_ANSWERS = """
import ctypes, fcntl, os, sys
def read(name):
    with open(name) as file:
        return file.read()
def size(name):
    try:
        return os.stat(name).st_size
    except OSError as error:
        return error.strerror
def forced(fd):
    found = ctypes.create_string_buffer(256)
    assert ctypes.CDLL(None).statx(fd, b"", 0x1000 | 0x2000, 0x7FF, found) == 0  # AT_EMPTY_PATH | AT_STATX_FORCE_SYNC
    return int.from_bytes(found[40:48], "little")
def locked(name):
    with open(name, "r+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        return file.read()
kept = {}
os.chdir(os.environ["TREE"])
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""

Asks = Callable[[str], Any]


@contextlib.contextmanager
def _asking(trees: Trees, **settings: Any) -> Iterator[Asks]:
    # A program that answers expressions, so that program and test take turns.
    options = trees.options(**settings)
    with trees.beginning(PYTHON, "-I", "-c", _ANSWERS, options=options) as process:

        def ask(expression: str) -> Any:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(expression + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
            assert answer, _said(process)
            return eval(answer)

        yield ask


def _said(process: subprocess.Popen[str]) -> str:
    return process.communicate()[1]


def test_nothing_is_old_where_nothing_is_kept(trees: Trees) -> None:
    file = trees.pod / "file"
    with _asking(trees, **_NEVER) as ask:
        assert ask("size('file')") == "No such file or directory"
        for text in ("one", "two", "three", "four"):
            file.write_text(text)
            assert (ask("size('file')"), ask("read('file')"), ask("os.listdir()")) == (len(text), text, ["file"])
        file.chmod(0o600)
        assert ask("oct(os.stat('file').st_mode)") == "0o100600"
        assert ask("kept.setdefault('fd', os.open('file', os.O_RDONLY)) > 0")
        file.write_text("a longer one")
        assert ask("os.fstat(kept['fd']).st_size") == len("a longer one")
        file.rename(trees.pod / "moved")
        assert (ask("size('file')"), ask("read('moved')")) == ("No such file or directory", "a longer one")
        (trees.pod / "moved").unlink()
        (trees.pod / "moved").mkdir()
        assert ask("os.listdir('moved')") == []
        assert ask("(os.mkdir('d'), os.rmdir('moved'), os.listdir())")[2] == ["d"]


def test_things_may_be_as_old_as_is_configured(trees: Trees) -> None:
    file = trees.pod / "file"
    file.write_text("one")
    with _asking(trees, **_FOREVER) as ask:
        assert (ask("size('file')"), ask("size('missing')")) == (3, "No such file or directory")
        file.write_text("longer")
        (trees.pod / "missing").write_text("")
        assert (ask("size('file')"), ask("size('missing')")) == (3, "No such file or directory")
        # Who takes a lock sees what was written under it; what the program changes itself it sees at once.
        assert ask("locked('file')") == "longer"
        assert ask("size('file')") == len("longer")
        assert ask("os.system('echo mine > missing; echo more >> file')") == 0
        assert (ask("read('missing')"), ask("read('file')")) == ("mine\n", "longermore\n")
        assert ask("(os.unlink('missing'), size('missing'))")[1] == "No such file or directory"


def test_statx_may_insist_on_what_the_pod_says_now(trees: Trees) -> None:
    file = trees.pod / "file"
    file.write_text("one")
    with _asking(trees, **_FOREVER) as ask:
        assert ask("size('file')") == 3
        file.write_text("longer")
        # AT_STATX_FORCE_SYNC.
        assert ask("os.popen('stat --cached=never -c %s \"$TREE/file\" file').read()") == "6\n6\n"
        # The same of a descriptor, under its new name too.
        assert ask("kept.setdefault('fd', os.open('file', os.O_RDONLY)) > 0")
        file.write_text("longer still")
        assert ask("(os.fstat(kept['fd']).st_size, forced(kept['fd']), os.fstat(kept['fd']).st_size)") == (6, 12, 12)
        assert ask("os.rename('file', 'moved')") is None
        (trees.pod / "moved").write_text("moved")
        assert ask("forced(kept['fd'])") == 5


def test_who_opens_a_file_finds_what_was_closed_before(trees: Trees) -> None:
    file = trees.pod / "file"
    file.write_text("0" * 200_000)
    with _asking(trees, attribute_seconds=0.2, negative_seconds=0.2) as ask:
        assert ask("set(read('file'))") == {"0"}
        assert ask("kept.setdefault('file', open('file', 'r+')).read(10)") == "0" * 10
        for digit in "123":
            # The same size: only its times tell.
            file.write_text(digit * 200_000)
            until(lambda digit=digit: ask("set(read('file'))") == {digit}, "the new content is seen")
        (trees.pod / "late").write_text("late")
        until(lambda: ask("size('late')") == len("late"), "the new name is seen")
        # And the other way: what is closed here is in the pod, and so is what was flushed.
        assert ask("(kept['file'].seek(0), kept['file'].write('here'), kept['file'].flush(), os.fsync(kept['file'].fileno()))")
        assert file.read_text()[:5] == "here3"
        assert ask("(kept['file'].write('and there'), kept['file'].close())")
        assert file.read_text()[:14] == "hereand there3"


def test_without_write_behind_each_write_is_in_the_pod_when_it_returns(trees: Trees) -> None:
    with _asking(trees, write_behind=False) as ask:
        assert ask("kept.setdefault('fd', os.open('file', os.O_RDWR | os.O_CREAT)) > 0")
        text = b""
        for number in range(20):
            text += b"%d\n" % number
            assert ask(f"os.write(kept['fd'], b'%d\\n' % {number})") > 0
            assert (trees.pod / "file").read_bytes() == text
        assert ask("os.pwrite(kept['fd'], b'X', 0)") == 1
        assert (trees.pod / "file").read_bytes() == b"X" + text[1:]


def test_explain_says_where_paths_go(trees: Trees) -> None:
    options = trees.options()
    done = trees.runner.native(*tool(), "explain", *options, "-o", "json", f"{trees.there}/x", "/etc/hosts", "/usr/x")
    assert done.status == 0, done
    routes = [(entry["read"]["route"], entry["write"]["route"]) for entry in json.loads(done.out)]
    assert routes == [("pod", "pod"), ("pod", "local"), ("local", "local")], done
