"""access(2) and its family in the mounted tree."""

from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.agent.wire.messages import Access, Done
from mirrord_trace.syscalls.abi.flags import AT_FDCWD, AT_SYMLINK_NOFOLLOW
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.files.mounted.access import faccessat2
from mirrord_trace.syscalls.files.mounted.rows import HANDLERS
from mirrord_trace.syscalls.requests import PathStat, StatPath
from script import STAT, Script, mounted

PATH = 0x1000
NAMES = ("access", "faccessat", "faccessat2")


def asking(name: str, mode: int, path: bytes = b"/app/x", flags: int = 0, **rules: object) -> Script:
    args = (PATH, mode) if name == "access" else (AT_FDCWD, PATH, mode, flags)
    context = mounted(**{"remote": [b"/app/x"], "writable": [b"/app/x"], **rules})
    return Script(HANDLERS[name], args, memory={PATH: path + b"\0"}, context=context)


@pytest.mark.parametrize("name", NAMES)
def test_whether_it_is_there_comes_from_the_attributes(name: str) -> None:
    asking(name, os.F_OK).asks(StatPath(b"/app/x", True)).replies(PathStat(0, STAT, 0, 0)).returns(0, None, Route.REMOTE)
    script = asking(name, os.F_OK).asks(StatPath(b"/app/x", True)).replies(PathStat(errno.ENOENT, STAT, 0, 0))
    script.raises(errno.ENOENT)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mode", [os.R_OK, os.W_OK | os.R_OK, os.X_OK])
def test_what_may_be_done_the_pod_says(name: str, mode: int) -> None:
    asking(name, mode).asks(Access(b"/app/x", mode, True)).replies(Done()).returns(0)
    asking(name, mode).asks(Access(b"/app/x", mode, True)).fails(errno.EACCES).raises(errno.EACCES, Route.REMOTE)


@pytest.mark.parametrize("name", NAMES)
def test_writing_is_local_where_writes_are(name: str) -> None:
    asking(name, os.W_OK, writable=[]).continues(Reason.WRITE_ACCESS)
    at = 0 if name == "access" else 1
    asking(name, os.R_OK, b"/a", mapped={b"/a": b"/b"}).runs({at: Scratch(b"/b\0")}).gets(0).keeps(Route.LOCAL)


def test_flags_and_slashes() -> None:
    asking("faccessat2", os.R_OK, flags=AT_SYMLINK_NOFOLLOW).asks(Access(b"/app/x", os.R_OK, False)).replies(Done()).returns(0)
    asking("faccessat2", os.R_OK, flags=1).raises(errno.EINVAL)
    asking("access", 8).raises(errno.EINVAL)
    script = asking("access", os.R_OK, b"/app/x/").asks(StatPath(b"/app/x", True)).replies(PathStat(0, STAT, 0, 0))
    script.raises(errno.ENOTDIR)
    assert faccessat2 is HANDLERS["faccessat2"]


def test_the_file_with_the_hostname() -> None:
    hostname = b"/proc/sys/kernel/hostname"
    asking("access", os.R_OK, hostname).returns(0, None, Reason.POD_HOSTNAME)
    asking("access", os.F_OK, hostname).returns(0, None, Reason.POD_HOSTNAME)
    asking("access", os.X_OK, hostname).raises(errno.EACCES)
