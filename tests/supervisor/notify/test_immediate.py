"""Files that are given, and this machine's names."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from mirrord_trace.supervisor.notify.immediate import give, uname
from mirrord_trace.syscalls.actions import GiveFile
from notified import NUMBERS, FakeListener, own_call, own_frame


def test_the_thread_gets_a_description_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    fd, listener, call = os.open(tmp_path / "file", os.O_RDONLY), FakeListener(), own_call("openat")
    os.lseek(fd, 4, os.SEEK_SET)
    given = give(listener, call, GiveFile(fd, os.O_RDONLY | os.O_CLOEXEC))
    status = (tmp_path / "file").stat()
    assert given.key == (status.st_dev, status.st_ino)
    assert call.result == given.result == listener.given[0]
    assert os.read(given.result, 100) == b"content"
    os.close(given.result)


def test_a_file_that_cannot_be_opened_anew() -> None:
    fd = os.memfd_create("x")
    assert give(FakeListener(), own_call("openat"), GiveFile(fd, os.O_RDONLY | os.O_DIRECTORY)).result == -errno.ENOTDIR


def test_uname() -> None:
    buffer = ctypes.create_string_buffer(390)
    assert uname(own_frame("uname", ctypes.addressof(buffer)), NUMBERS["uname"]) == 0
    assert buffer.raw.split(b"\0")[0] == b"Linux"
    assert uname(own_frame("uname", 8), NUMBERS["uname"]) == -errno.EFAULT
