"""stat(2), lstat(2), fstat(2), newfstatat(2), statx(2)."""

from __future__ import annotations

import errno
import stat as modes
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Attributes, FileStat, Stat
from mirrord_trace.syscalls.abi import flags as f
from mirrord_trace.syscalls.abi import stat as stat_layout
from mirrord_trace.syscalls.abi import statx as statx_layout
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.stat import fstat, lstat, newfstatat, stat, statx
from mirrord_trace.syscalls.objects import RemoteDirectory, RemoteFile
from script import STAT, FakeTask, Script, session

PATH, BUFFER = 0x7000, 0x9000
CWD = f.AT_FDCWD
DIR_STAT = replace(STAT, mode=modes.S_IFDIR | 0o755)
PACKED = {BUFFER: stat_layout.NATIVE.pack(STAT)}
PACKED_X = {BUFFER: statx_layout.pack(STAT)}
MASK = statx_layout.BASIC_STATS

CALLS = [
    (stat, (PATH, BUFFER), True, PACKED),
    (lstat, (PATH, BUFFER), False, PACKED),
    (newfstatat, (CWD, PATH, BUFFER, 0), True, PACKED),
    (newfstatat, (CWD, PATH, BUFFER, f.AT_SYMLINK_NOFOLLOW | f.AT_EMPTY_PATH), False, PACKED),
    (statx, (CWD, PATH, 0, MASK, BUFFER), True, PACKED_X),
    (statx, (CWD, PATH, f.AT_SYMLINK_NOFOLLOW | f.AT_NO_AUTOMOUNT, MASK, BUFFER), False, PACKED_X),
]


def calling(handler: Callable[..., Any], args: tuple[int, ...], path: bytes, context: Context) -> Script:
    """In a thread whose fd 5 is the pod file /srv/f, fd 6 the pod directory /srv, and fd 7 local."""
    task = FakeTask({PATH: path + b"\0"})
    task.keys = {5: (9, 1), 6: (9, 2), 7: (1, 1)}
    return Script(handler, args, task=task, context=context)


def with_objects(**rules: Any) -> Context:
    context = session(**rules)
    context.objects.add((9, 1), RemoteFile(b"/srv/f", b"/srv/f", STAT))
    context.objects.add((9, 2), RemoteDirectory(b"/srv", b"/srv", DIR_STAT))
    return context


@pytest.mark.parametrize(("handler", "args", "follow", "packed"), CALLS)
def test_paths(handler: Callable[..., Any], args: tuple[int, ...], follow: bool, packed: dict[int, bytes]) -> None:
    context = with_objects(remote=[b"/x", b"/d"], missing=[b"/k"])
    script = calling(handler, args, b"/x", context).asks(Stat(b"/x", follow)).replies(Attributes(STAT))
    script.returns(0, packed, Reason.FS_MODE)
    calling(handler, args, b"/x", context).asks(Stat(b"/x", follow)).fails(errno.EACCES).raises(errno.EACCES)
    calling(handler, args, b"/k", context).raises(errno.ENOENT, Route.MISSING)
    for path, reason in ((b"/usr", Reason.DEFAULT_LOCAL), (b"y", Reason.RELATIVE_PATH)):
        script = calling(handler, args, path, context)
        script.continues(reason)
        assert script.task.reads == 1


@pytest.mark.parametrize(("handler", "args", "follow", "packed"), CALLS)
def test_a_slash_at_the_end(handler: Callable[..., Any], args: tuple[int, ...], follow: bool, packed: Any) -> None:
    context = session(remote=[b"/x"])
    script = calling(handler, args, b"/x/", context).asks(Stat(b"/x", True)).replies(Attributes(STAT))
    script.raises(errno.ENOTDIR, Route.REMOTE)


@pytest.mark.parametrize(("handler", "args", "follow", "packed"), CALLS)
def test_mapped_local_paths(handler: Callable[..., Any], args: tuple[int, ...], follow: bool, packed: Any) -> None:
    context = session(mapped={b"/a": b"/b"})
    script = calling(handler, args, b"/a", context)
    script.runs({args.index(PATH): Scratch(b"/b\0")}).gets(0).keeps(Route.LOCAL)


@pytest.mark.parametrize(("handler", "args", "follow", "packed"), CALLS)
def test_bad_path(handler: Callable[..., Any], args: tuple[int, ...], follow: bool, packed: Any) -> None:
    Script(handler, args).continues(Reason.BAD_ARGUMENT)


EMPTY = f.AT_EMPTY_PATH


@pytest.mark.parametrize(
    ("handler", "args", "packed"),
    [
        (fstat, (5, BUFFER), PACKED),
        (fstat, (0x1_0000_0005, BUFFER), PACKED),
        (newfstatat, (5, PATH, BUFFER, EMPTY), PACKED),
        (newfstatat, (5, 0, BUFFER, EMPTY), PACKED),
        (statx, (5, PATH, EMPTY, MASK, BUFFER), PACKED_X),
        (statx, (5, 0, EMPTY, MASK, BUFFER), PACKED_X),
    ],
)
def test_descriptors(handler: Callable[..., Any], args: tuple[int, ...], packed: dict[int, bytes]) -> None:
    calling(handler, args, b"", with_objects()).returns(0, packed, Reason.REMOTE_OBJECT)
    calling(handler, (7, *args[1:]), b"", with_objects()).continues(Reason.LOCAL_OBJECT)
    calling(handler, (-1, *args[1:]), b"", with_objects()).continues(Reason.LOCAL_OBJECT)
    script = calling(handler, args, b"", session())
    script.continues(Reason.LOCAL_OBJECT)
    assert script.task.reads == (1 if PATH in args else 0), "no object, no look at the fd"


def test_descriptors_in_proc() -> None:
    calling(stat, (PATH, BUFFER), b"/proc/self/fd/5", with_objects()).returns(0, PACKED)
    calling(lstat, (PATH, BUFFER), b"/proc/self/fd/5", with_objects()).continues(Route.LOCAL)
    calling(stat, (PATH, BUFFER), b"/proc/self/fd/5/", with_objects()).raises(errno.ENOTDIR)


def test_relative_to_a_pod_directory() -> None:
    script = calling(newfstatat, (6, PATH, BUFFER, 0), b"x", with_objects(remote=[b"/srv/x"]))
    script.asks(Stat(b"/srv/x", True)).replies(Attributes(STAT)).returns(0, PACKED)


def test_unknown_flags() -> None:
    context = with_objects(remote=[b"/x"])
    calling(newfstatat, (CWD, PATH, BUFFER, 1 << 20), b"/x", context).raises(errno.EINVAL, Route.REMOTE)
    calling(statx, (CWD, PATH, 1 << 20, MASK, BUFFER), b"/x", context).raises(errno.EINVAL, Route.REMOTE)
    calling(statx, (CWD, PATH, 0, 0x80000000, BUFFER), b"/x", context).raises(errno.EINVAL, Route.REMOTE)
    calling(newfstatat, (CWD, PATH, BUFFER, 1 << 20), b"/usr", context).continues(Route.LOCAL)


def test_the_hostname_file_is_as_long_as_the_pods_name() -> None:
    size = len(b"pod-7f9c\n")
    expected = FileStat(0, 1, modes.S_IFREG | 0o644, 1, 0, 0, 0, size, 4096, 0, 0, 0, 0, -1)
    script = calling(stat, (PATH, BUFFER), b"/proc/sys/kernel/hostname", session())
    script.returns(0, {BUFFER: stat_layout.NATIVE.pack(expected)}, Reason.POD_HOSTNAME)
