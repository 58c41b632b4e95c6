"""Looking at what is open without asking its file system."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from mirrord_trace.supervisor.tracer import look


def _link(fd: int) -> bytes:
    return b"/proc/self/fd/%d" % fd


def test_the_key_is_that_of_stat(tmp_path: Path) -> None:
    with socket.socket() as own, open(os.devnull, "rb") as null:
        read, write = os.pipe()
        memory = os.memfd_create("x")
        folder = os.open(tmp_path, os.O_PATH)
        for fd in (own.fileno(), null.fileno(), read, write, memory, folder):
            status = os.fstat(fd)
            assert look.file_key(_link(fd)) == (status.st_dev, status.st_ino)
            assert look.device(_link(fd)) == status.st_dev
            if fd not in (own.fileno(), null.fileno()):
                os.close(fd)


def test_nothing_there() -> None:
    assert look.file_key(_link(999)) is None
    assert look.device(_link(999)) is None
    assert look.device(b"/proc/0/cwd") is None
