"""Looking at what is open without asking its file system."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

import pytest
from mirrord_trace.supervisor.tracer import look
from mirrord_trace.syscalls.views import View


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


def test_what_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    folder, link = os.open(tmp_path, os.O_PATH), os.open(tmp_path / "link", os.O_PATH | os.O_NOFOLLOW)
    with open(os.devnull, "rb") as null:
        assert [look.may_be_directory(_link(fd)) for fd in (folder, link, null.fileno(), 999)] == [True, False, False, False]
    os.close(folder)
    os.close(link)


def test_nothing_there() -> None:
    assert look.file_key(_link(999)) is None
    assert look.device(_link(999)) is None
    assert look.device(b"/proc/0/cwd") is None


def test_nobody_has_views_of_its_own_but_who_made_them() -> None:
    assert not any(look.has_own(os.getpid(), view) for view in View)
    assert not any(look.has_own(2**22 + 1, view) for view in View)


_WAIT = ("sh", "-c", "echo; read line")


@pytest.mark.parametrize(
    ("command", "views"),
    [(("unshare", "-Urm"), set()), (("unshare", "-Uru"), {View.NAME}), (("unshare", "-Urn"), {View.NETWORK}),
     (("bwrap", "--bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
       "--symlink", "usr/lib64", "/lib64"), {View.FILES}),
     (("bwrap", "--bind", "/", "/", "--tmpfs", "/proc"), {View.FILES})],
)  # fmt: skip
def test_views(command: tuple[str, ...], views: set[View]) -> None:
    with subprocess.Popen([*command, *_WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        # bwrap waits for what it has started.
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        pid = int(children[0]) if children and command[0] == "bwrap" else process.pid
        assert {view for view in View if look.has_own(pid, view)} == views
        process.communicate(b"\n")
