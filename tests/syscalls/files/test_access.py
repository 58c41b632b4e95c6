"""access(2), faccessat(2), faccessat2(2)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Access, Attributes, Done, Stat
from mirrord_trace.syscalls.abi import flags as f
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.files.access import access, faccessat, faccessat2
from mirrord_trace.syscalls.objects import RemoteFile
from script import STAT, FakeTask, Script, session

PATH = 0x7000
CWD = f.AT_FDCWD
CALLS = [
    (access, lambda mode: (PATH, mode)),
    (faccessat, lambda mode: (CWD, PATH, mode)),
    (faccessat2, lambda mode: (CWD, PATH, mode, 0)),
]
Arguments = Callable[[int], tuple[int, ...]]


def calling(handler: Callable[..., Any], args: tuple[int, ...], path: bytes, **rules: Any) -> Script:
    context = session(**{"remote": [b"/x"], "missing": [b"/k"], "mapped": {b"/a": b"/b"}, **rules})
    context.objects.add((9, 1), RemoteFile(b"/srv/f", b"/srv/f", STAT))
    task = FakeTask({PATH: path + b"\0"})
    task.keys = {5: (9, 1), 7: (1, 1)}
    return Script(handler, args, task=task, context=context)


@pytest.mark.parametrize(("handler", "args"), CALLS)
def test_routes(handler: Callable[..., Any], args: Arguments) -> None:
    mode = os.R_OK | os.X_OK
    calling(handler, args(mode), b"/x").asks(Access(b"/x", mode, True)).replies(Done()).returns(0, decision=Reason.FS_MODE)
    calling(handler, args(0), b"/x").asks(Access(b"/x", 0, True)).fails(errno.ENOENT).raises(errno.ENOENT, Route.REMOTE)
    calling(handler, args(mode), b"/usr").continues(Reason.DEFAULT_LOCAL)
    calling(handler, args(mode), b"x").continues(Reason.RELATIVE_PATH)
    calling(handler, args(mode), b"").continues(Reason.BAD_ARGUMENT)
    calling(handler, args(mode), b"/k").raises(errno.ENOENT, Route.MISSING)
    script = calling(handler, args(mode), b"/a").runs({args(mode).index(PATH): Scratch(b"/b\0")})
    script.gets(0).keeps(Route.LOCAL)


@pytest.mark.parametrize(("handler", "args"), CALLS)
def test_write_access_is_asked_where_writing_would_be_done(handler: Callable[..., Any], args: Arguments) -> None:
    calling(handler, args(os.W_OK), b"/x").continues(Reason.WRITE_ACCESS)


@pytest.mark.parametrize(("handler", "args"), CALLS)
def test_unknown_modes(handler: Callable[..., Any], args: Arguments) -> None:
    calling(handler, args(8), b"/x").raises(errno.EINVAL, Route.REMOTE)
    calling(handler, args(8), b"/usr").continues(Route.LOCAL)


@pytest.mark.parametrize(("handler", "args"), CALLS)
def test_a_slash_at_the_end(handler: Callable[..., Any], args: Arguments) -> None:
    script = calling(handler, args(0), b"/x/").asks(Stat(b"/x", True)).replies(Attributes(STAT))
    script.raises(errno.ENOTDIR, Route.REMOTE)
    script = calling(handler, args(0), b"/x/").asks(Stat(b"/x", True)).replies(Attributes(replace(STAT, mode=0o40755)))
    script.asks(Access(b"/x", 0, True)).replies(Done()).returns(0)


def test_faccessat_has_no_flags() -> None:
    script = calling(faccessat, (CWD, PATH, 0, f.AT_SYMLINK_NOFOLLOW), b"/x")
    script.asks(Access(b"/x", 0, True)).replies(Done()).returns(0)


def test_faccessat2_flags() -> None:
    nofollow = f.AT_SYMLINK_NOFOLLOW | f.AT_EACCESS
    script = calling(faccessat2, (CWD, PATH, 4, nofollow), b"/x")
    script.asks(Access(b"/x", 4, False)).replies(Done()).returns(0)
    calling(faccessat2, (CWD, PATH, 4, 1), b"/x").raises(errno.EINVAL)
    script = calling(faccessat2, (5, PATH, 4, f.AT_EMPTY_PATH), b"")
    script.asks(Access(b"/srv/f", 4, True)).replies(Done()).returns(0, decision=Reason.REMOTE_OBJECT)
    calling(faccessat2, (7, PATH, 4, f.AT_EMPTY_PATH), b"").continues(Reason.LOCAL_OBJECT)


def test_hostname_file() -> None:
    path = b"/proc/sys/kernel/hostname"
    calling(access, (PATH, os.R_OK), path).returns(0, decision=Reason.POD_HOSTNAME)
    calling(access, (PATH, os.X_OK), path).raises(errno.EACCES)
    calling(access, (PATH, os.W_OK), path).continues(Route.LOCAL)
