"""Every call about files, made without a C library in between, on the pod's files in both tiers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_call_numbers import NAMES
from file_trees import BUSYBOX, PYTHON, Trees, look, new_trees
from runs import Ran, Runner

_PROGRAM = Path(__file__).resolve().parent.parent / "programs" / "file_calls.py"


@pytest.fixture
def trees(runner: Runner) -> Iterator[Trees]:
    """Two directories with the same in them."""
    with new_trees(runner) as trees:
        for root in (trees.here, trees.pod):
            (root / "file").write_text("content of the file\n" * 10)
            (root / "other").write_text("other\n" * 100)
            (root / "d").mkdir()
            (root / "d/inner").write_text("")
            (root / "link").symlink_to("file")
            shutil.copy(BUSYBOX, root / "program")
        yield trees


def _calls(trees: Trees, what: str) -> tuple[Ran, Ran]:
    command = (PYTHON, "-B", _PROGRAM, what)
    native = trees.runner.native(*command, trees.here)
    assert native.status == 0, native
    return native, trees.run(*command, trees.there)


def _compared(native: Ran, traced: Ran) -> list[str]:
    lines = zip(native.out.splitlines(), traced.out.splitlines(), strict=True)
    return [f"{one}   IN THE POD: {other}" for one, other in lines if one != other]


def test_calls_that_read_mounted(trees: Trees) -> None:
    native, traced = _calls(trees, "reading")
    assert traced.status == 0, traced
    assert not _compared(native, traced)


def test_calls_that_write_mounted(trees: Trees) -> None:
    native, traced = _calls(trees, "writing")
    assert traced.status == 0, traced
    assert not _compared(native, traced)
    assert not trees.difference()


# What of the pod's files the copies do not have: attributes of file systems, extended ones, programs, working directories.
_COPIED = {
    "statfs": "ENOENT", "getxattr": "ENOTSUP", "lgetxattr": "ENOTSUP", "getxattrat": "ENOENT", "listxattrat": "ENOENT",
    "chdir": "ENOENT", "fchdir": "EACCES", "execve": "2304", "execveat": "2304", "copy_file_range": "5",
}  # fmt: skip


def test_calls_that_read_copied(trees: Trees) -> None:
    trees.settings = {"mode": "read", "read_write": [], "read_only": [trees.pattern], "fuse": "off"}
    native, traced = _calls(trees, "reading")
    assert traced.status == 0, traced
    found = dict(line.split("   IN THE POD: ") for line in _compared(native, traced))
    different = {line.split()[0]: found[line] for line in found}
    assert different.pop("getcwd").startswith("getcwd b'")
    if os.uname().machine == "x86_64":
        assert different == {name: f"{name} {result}" for name, result in _COPIED.items()}


def test_calls_that_write_copied(trees: Trees) -> None:
    trees.settings["fuse"] = "off"
    before = look(trees.pod, times=True)
    _, traced = _calls(trees, "writing")
    assert traced.status == 0, traced
    *made, last = traced.out.splitlines()
    assert last == "to write: EROFS"
    results = dict(line.rsplit(" ", 1) for line in made)
    opening = {"open", "creat", "openat", "openat2"}
    assert {results[name] for name in opening} <= {"EROFS", "-"}
    assert {results[name] for name in results if name not in opening} <= {"ENOENT", "-"}
    assert look(trees.pod, times=True) == before


# Of this machine, whose paths these calls take: what the pod has is not there. EPERM: an ordinary user may not do it at all.
_HERE = {
    *("chroot", "pivot_root", "mount", "umount2", "move_mount", "fspick", "mount_setattr", "open_tree_attr", "swapon"),
    *("swapoff", "acct", "quotactl", "fanotify_mark"),
}
# The kernel may be built without: any errno but no success.
_NEVER = {"uselib", "lookup_dcookie", "quotactl_fd", "io_uring_setup", "io_uring_enter", "io_uring_register", "file_setattr"}
_ABSENT = {"ENOENT", "EPERM", "ENOSYS", "-"}


@pytest.mark.parametrize("fuse", ["on", "off"])
def test_calls_about_whole_file_systems(trees: Trees, fuse: str) -> None:
    trees.settings["fuse"] = fuse
    before = look(trees.pod, times=True)
    traced = trees.run(PYTHON, "-B", _PROGRAM, "special", trees.there)
    assert traced.status == 0, traced
    results = dict(line.split(" ", 1) for line in traced.out.splitlines())
    assert {name: results[name] for name in _HERE & set(results) if results[name] not in _ABSENT} == {}
    assert {name: results[name] for name in _NEVER if not results[name].startswith("E")} == {}
    assert results["io_uring_setup"] == "ENOSYS"
    # Asynchronous I/O is done on descriptors.
    assert (results["io_submit"], results["io_getevents"]) == ("1", "b'cont'")
    if fuse == "on":
        assert results["inotify_add_watch"] == "yes"
        assert results["name_to_handle_at"] == "0"
        assert results["file_getattr"] in ("ENOTSUP", "ENOSYS")
    else:
        assert {results[name] for name in ("inotify_add_watch", "name_to_handle_at", "open_tree")} <= _ABSENT
    assert look(trees.pod, times=True) == before


def test_every_call_is_known() -> None:
    """What the program makes, and what it leaves to other tests."""
    source = _PROGRAM.read_text()
    left = {
        *("umask", "sync", "fsopen", "fsconfig", "fsmount", "statmount", "listmount", "inotify_init", "vmsplice", "io_cancel"),
        *("io_pgetevents", "landlock_restrict_self", "memfd_create", "pidfd_getfd"),
    }
    made = {name for name in NAMES if f'"{name}"' in source}
    assert made | left == NAMES
    assert not made & left
