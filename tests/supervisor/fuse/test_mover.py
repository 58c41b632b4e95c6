"""The thread that does in the mount what was done in the pod: here in a directory, with a pipe for the device."""

from __future__ import annotations

import os
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from mirrord_trace.supervisor.fuse.mover import Deed, Mover

LIMIT_S = 10.0


class Rig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = os.open(folder, os.O_PATH | os.O_DIRECTORY)
        self.reader, self.writer = os.pipe()
        self.mover = Mover(self.root, self.writer)

    def do(self, *words: object, **more: object) -> None:
        done = threading.Event()
        self.mover.do(Deed(*words, **more), done.set)  # type: ignore[arg-type]
        assert done.wait(LIMIT_S)

    def close(self) -> None:
        self.mover.close()
        for fd in (self.root, self.reader, self.writer):
            os.close(fd)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def test_each_deed(rig: Rig) -> None:
    rig.do("make", b"/file", stat.S_IFREG | 0o640)
    assert rig.folder.joinpath("file").stat().st_mode == stat.S_IFREG | 0o640 & ~_umask()
    rig.do("make", b"/d", stat.S_IFDIR | 0o700)
    rig.do("make", b"/link", stat.S_IFLNK | 0o777)
    assert rig.folder.joinpath("d").is_dir()
    assert rig.folder.joinpath("link").is_symlink()
    os.utime(rig.folder / "file", ns=(5, 5))
    rig.do("modify", b"/file")
    status = rig.folder.joinpath("file").stat()
    assert status.st_atime_ns == 5
    assert status.st_mtime_ns > 5
    rig.do("attribute", b"/file", 0o600)
    assert stat.S_IMODE(rig.folder.joinpath("file").stat().st_mode) == 0o600
    rig.do("close", b"/file")
    rig.do("move", b"/file", 0, b"/d/other")
    assert os.listdir(rig.folder / "d") == ["other"]
    rig.do("remove", b"/d/other", stat.S_IFREG)
    rig.do("remove", b"/d", stat.S_IFDIR)
    assert os.listdir(rig.folder) == ["link"]


def test_what_fails_is_done_with(rig: Rig) -> None:
    rig.do("remove", b"/nothing", stat.S_IFREG)
    rig.do("make", b"/file", stat.S_IFREG)
    assert os.listdir(rig.folder) == ["file"]


def test_the_kernel_is_told_to_forget_names_before_and_after(rig: Rig) -> None:
    rig.do("make", b"/file", stat.S_IFREG, stale=((7, b"file"),))
    told = os.read(rig.reader, 1000)
    one = struct.pack("=IiQQII", 37, 3, 0, 7, 4, 0) + b"file\0"
    assert told == one + one


def test_the_thread_can_be_told_from_others(rig: Rig) -> None:
    rig.do("make", b"/file", stat.S_IFREG)
    assert rig.mover.thread_id not in (0, threading.get_native_id())
    assert rig.mover.current is None


def _umask() -> int:
    value = os.umask(0)
    os.umask(value)
    return value
