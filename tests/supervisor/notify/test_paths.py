"""Calls on paths that are made on a thread's behalf: this very process stands for the thread."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mirrord_trace.supervisor.notify.paths import KINDS, PathCall
from mirrord_trace.supervisor.notify.workers import Workers
from mirrord_trace.syscalls.actions import Scratch
from mirrord_trace.syscalls.files.mounted.paths import CALLS
from notified import NUMBERS, own_frame
from rig import apart

_CWD = -100


def _make(name: str, *args: int, **replaced: int | Scratch) -> int:
    results: list[int] = []
    made = PathCall(own_frame(name, *args, **replaced), name, NUMBERS[name])
    _in_worker(lambda: results.append(made.make()))
    return results[0]


def _in_worker(work: Callable[[], None]) -> None:
    done = threading.Event()

    def told() -> None:
        work()
        done.set()

    Workers().do(told)
    assert done.wait(30)


def _path(path: Path | str) -> Scratch:
    return Scratch(os.fsencode(path) + b"\0")


def test_every_call_with_paths_has_its_kinds() -> None:
    # Their arguments are a structure with another pointer in it; such calls have older ones to fall back to.
    assert {call.name for call in CALLS} - set(KINDS) == {"setxattrat", "getxattrat"}


@apart
def test_names_are_made_and_taken_away() -> None:
    folder = Path("/tmp") / f"notify-{os.getpid()}"
    os.umask(0o027)
    assert _make("mkdir", 0, 0o777, a0=_path(folder)) == 0
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert _make("mkdir", 0, 0o777, a0=_path(folder)) == -errno.EEXIST
    assert _make("symlink", 0, 0, a0=_path("target"), a1=_path(folder / "link")) == 0
    buffer = ctypes.create_string_buffer(100)
    assert _make("readlink", 0, ctypes.addressof(buffer), 100, a0=_path(folder / "link")) == 6
    assert buffer.value == b"target"
    assert _make("rename", 0, 0, a0=_path(folder / "link"), a1=_path(folder / "other")) == 0
    os.chdir(folder)
    assert _make("unlinkat", _CWD, 0, 0, a1=_path("other")) == 0
    os.chdir("/")
    directory = os.open("/tmp", os.O_RDONLY)
    assert _make("unlinkat", directory, 0, 0x200, a1=_path(folder.name)) == 0
    assert not folder.exists()
    assert _make("unlinkat", 999, 0, 0, a1=_path("/nowhere/at/all")) == -errno.ENOENT


@apart
def test_an_open_file_becomes_the_threads() -> None:
    fd = _make("openat", _CWD, 0, os.O_RDONLY | os.O_CLOEXEC, 0, a1=_path("/proc/self/comm"))
    assert os.read(fd, 100)
    how = ctypes.create_string_buffer((os.O_RDONLY).to_bytes(8, "little") + bytes(16), 24)
    assert _make("openat2", _CWD, 0, ctypes.addressof(how), 24, a1=_path("/dev/null")) > fd
    assert _make("openat2", _CWD, 0, 0, 24, a1=_path("/dev/null")) == -errno.EFAULT
    # An O_PATH descriptor cannot be given: a readable one does as well.
    assert os.read(_make("open", 0, os.O_PATH, 0, a0=_path("/proc/self/comm")), 100)


@apart
def test_structures_that_the_kernel_writes() -> None:
    buffer = ctypes.create_string_buffer(144)
    assert _make("stat", 0, ctypes.addressof(buffer), a0=_path("/dev/null")) == 0
    assert int.from_bytes(buffer.raw[8:16], "little") == os.stat("/dev/null").st_ino
    assert _make("stat", 0, 8, a0=_path("/dev/null")) == -errno.EFAULT
    assert _make("stat", 0, ctypes.addressof(buffer), a0=_path("/nowhere/at/all")) == -errno.ENOENT
    times = ctypes.create_string_buffer(32)
    assert _make("utimensat", _CWD, 0, ctypes.addressof(times), 0, a1=_path("/nowhere/at/all")) == -errno.ENOENT
    handle = ctypes.create_string_buffer((0).to_bytes(4, "little"), 8 + 128)
    mount = ctypes.create_string_buffer(8)
    result = _make("name_to_handle_at", _CWD, 0, ctypes.addressof(handle), ctypes.addressof(mount), 0, a1=_path("/tmp"))
    assert result in (-errno.EOVERFLOW, -errno.EOPNOTSUPP)


@pytest.mark.skipif(os.geteuid() != 0, reason="another user can only be had by root: this needs root")
@apart
def test_as_the_user_that_the_thread_is() -> None:
    folder = Path("/tmp") / f"notify-{os.getpid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    other = os.fork()
    if other == 0:
        os.setgroups([7])
        os.setresgid(8, 8, 8)
        os.setresuid(9, 9, 9)
        os.execvp("sleep", ["sleep", "100"])
    while b"sleep" not in Path(f"/proc/{other}/comm").read_bytes():
        pass
    frame = own_frame("mkdir", 0, 0o700, a0=_path(folder / "made"))
    frame.task.tid = other
    made = PathCall(frame, "mkdir", NUMBERS["mkdir"])
    results: list[int] = []
    _in_worker(lambda: results.append(made.make()))
    os.kill(other, 9)
    status = (folder / "made").stat()
    assert (results, status.st_uid, status.st_gid, os.geteuid()) == ([0], 9, 8, 0)
    (folder / "made").rmdir()
    folder.rmdir()


def test_a_descriptor_that_is_not_open() -> None:
    frame = own_frame("inotify_add_watch", 999, 0, 2, a1=_path("/tmp"))
    made = PathCall(frame, "inotify_add_watch", NUMBERS["inotify_add_watch"])
    assert made.make() == -errno.EBADF


def test_what_the_kernel_looks_at_first_is_refused_first() -> None:
    frame = own_frame("linkat", 0, 0, 999, 0, 0, a1=_path("/nowhere/at/all"), a3=_path("x"))
    made = PathCall(frame, "linkat", NUMBERS["linkat"])
    assert made.make() == -errno.ENOENT
