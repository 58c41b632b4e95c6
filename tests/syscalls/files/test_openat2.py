"""openat2(2)."""

from __future__ import annotations

import errno
import os
import stat
import struct
from dataclasses import replace

import pytest
from mirrord_trace.agent.wire.messages import Attributes, Opened, OpenFile, Stat
from mirrord_trace.syscalls.abi import flags as f
from mirrord_trace.syscalls.actions import Reason, Route
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.open import INLINE_LIMIT
from mirrord_trace.syscalls.files.openat2 import openat2
from mirrord_trace.syscalls.objects import RemoteDirectory, RemoteFile
from script import STAT, FakeTask, Script, memfd, session

PATH, HOW = 0x1000, 0x8000
DIR_STAT = replace(STAT, mode=stat.S_IFDIR | 0o755)
LINK_STAT = replace(STAT, mode=stat.S_IFLNK | 0o777)
BASE = RemoteDirectory(b"/srv", b"/srv", DIR_STAT)
ALL = [b"/srv", b"/srv/a", b"/srv/a/b", b"/b", b"/x"]


def opening(
    path: bytes, flags: int = 0, resolve: int = 0, *, mode: int = 0, dirfd: int = f.AT_FDCWD, size: int = 24,
    extra: bytes = b"", context: Context | None = None,
) -> Script:  # fmt: skip
    """openat2 in a thread whose fd 5 is the pod directory /srv and whose fd 6 is local."""
    context = context if context is not None else session(remote=ALL)
    context.objects.add((9, 1), BASE)
    task = FakeTask({PATH: path + b"\0", HOW: struct.pack("<QQQ", flags, mode, resolve) + extra})
    task.keys = {5: (9, 1), 6: (1, 1)}
    return Script(openat2, (dirfd, PATH, HOW, size), task=task, context=context)


def opens(script: Script, path: bytes, flags: int = 0) -> None:
    script.asks(OpenFile(path, flags, INLINE_LIMIT, 1)).replies(Opened(STAT, b"", False), memfd(b"y"))
    script.gives(b"y", os.O_CLOEXEC).given(7).keeps(Route.REMOTE)


def test_a_pod_file() -> None:
    opens(opening(b"/x", f.O_CLOEXEC), b"/x")
    opens(opening(b"a", f.O_CLOEXEC, dirfd=5), b"/srv/a")
    opens(opening(b"/x", f.O_CLOEXEC, size=32, extra=bytes(8)), b"/x")


@pytest.mark.parametrize("size", [0, 23, 4097, 2**64 - 1])
def test_sizes_that_the_kernel_refuses(size: int) -> None:
    opening(b"/x", size=size).continues(Reason.BAD_ARGUMENT)


def test_bad_pointers_are_the_kernels() -> None:
    opening(b"/x", size=64).continues(Reason.BAD_ARGUMENT)
    for resolve in (0, f.RESOLVE_IN_ROOT):
        how = struct.pack("<QQQ", 0, 0, resolve)
        Script(openat2, (-100, PATH, HOW, 24), memory={HOW: how}).continues(Reason.BAD_ARGUMENT)
        Script(openat2, (-100, PATH, HOW, 24), memory={HOW: how, PATH: b"\0"}).continues(Reason.BAD_ARGUMENT)


def test_local_and_hidden_paths_are_not_checked_here() -> None:
    opening(b"/usr", 1 << 40).continues(Reason.DEFAULT_LOCAL)
    opening(b"x", 1 << 40).continues(Reason.RELATIVE_PATH)
    opening(b"/x", f.O_WRONLY).continues(Reason.WRITE_ACCESS)
    opening(b"/x", context=session(missing=[b"/x"])).raises(errno.ENOENT, Route.MISSING)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"flags": 1 << 40}, errno.EINVAL),
        ({"mode": 0o644}, errno.EINVAL),
        ({"resolve": 0x40}, errno.EINVAL),
        ({"resolve": f.RESOLVE_CACHED}, errno.EAGAIN),
        ({"resolve": f.RESOLVE_NO_XDEV}, errno.EXDEV),
        ({"resolve": f.RESOLVE_BENEATH}, errno.EXDEV),
        ({"size": 32, "extra": bytes(7) + b"\1"}, errno.E2BIG),
    ],
)
def test_refused_for_pod_files(arguments: dict[str, int], error: int) -> None:
    opening(b"/x", **arguments).raises(error, Route.REMOTE)  # type: ignore[arg-type]


@pytest.mark.parametrize("resolve", [f.RESOLVE_BENEATH, f.RESOLVE_IN_ROOT, f.RESOLVE_NO_SYMLINKS])
def test_walks_that_meet_no_link(resolve: int) -> None:
    script = opening(b"a/b", f.O_CLOEXEC, resolve, dirfd=5)
    script.asks(Stat(b"/srv/a", False)).replies(Attributes(DIR_STAT))
    script.asks(Stat(b"/srv/a/b", False)).replies(Attributes(STAT))
    opens(script, b"/srv/a/b")


def test_walks_that_meet_a_link() -> None:
    for resolve, error in ((f.RESOLVE_BENEATH, errno.EXDEV), (f.RESOLVE_NO_SYMLINKS, errno.ELOOP)):
        script = opening(b"a/b", 0, resolve, dirfd=5).asks(Stat(b"/srv/a", False)).replies(Attributes(LINK_STAT))
        script.raises(error, Route.REMOTE)


def test_the_last_name_may_be_a_link_that_is_not_followed() -> None:
    script = opening(b"a", f.O_CLOEXEC | f.NATIVE.nofollow, f.RESOLVE_BENEATH, dirfd=5)
    opens(script, b"/srv/a", f.X86_64.nofollow)


def test_a_walk_from_the_root() -> None:
    script = opening(b"/srv/a", f.O_CLOEXEC, f.RESOLVE_NO_SYMLINKS)
    script.asks(Stat(b"/srv", False)).replies(Attributes(DIR_STAT))
    script.asks(Stat(b"/srv/a", False)).replies(Attributes(STAT))
    opens(script, b"/srv/a")


def test_the_pods_errno_on_the_way() -> None:
    script = opening(b"a", 0, f.RESOLVE_BENEATH, dirfd=5).asks(Stat(b"/srv/a", False)).fails(errno.ENOENT)
    script.raises(errno.ENOENT, Route.REMOTE)


def test_leaving_the_directory() -> None:
    opening(b"../b", 0, f.RESOLVE_BENEATH, dirfd=5).raises(errno.EXDEV)


def test_in_root_an_absolute_path_begins_at_the_directory() -> None:
    for path in (b"/a", b"../a", b"/../../a"):
        script = opening(path, f.O_CLOEXEC, f.RESOLVE_IN_ROOT, dirfd=5)
        script.asks(Stat(b"/srv/a", False)).replies(Attributes(STAT))
        opens(script, b"/srv/a")
    opening(b"/a", 0, f.RESOLVE_IN_ROOT, dirfd=6).continues(Reason.RELATIVE_PATH)
    opening(b"/x", 0, f.RESOLVE_IN_ROOT).continues(Reason.RELATIVE_PATH)
    opening(b"/local", 0, f.RESOLVE_IN_ROOT, dirfd=5).raises(errno.EXDEV)


def test_descriptors_in_proc_are_magic_links() -> None:
    context = session(remote=ALL)
    context.objects.add((1, 1), RemoteFile(b"/x", b"/x", STAT))
    for resolve in (f.RESOLVE_NO_MAGICLINKS, f.RESOLVE_NO_SYMLINKS):
        opening(b"/proc/self/fd/5", 0, resolve, context=context).raises(errno.ELOOP)
        opening(b"/proc/self/fd/5/a", 0, resolve, context=context).raises(errno.ELOOP)
    opening(b"/proc/self/fd/6", 0, context=context).continues(Reason.REMOTE_OBJECT)
    opens(opening(b"/x", f.O_CLOEXEC, f.RESOLVE_NO_MAGICLINKS), b"/x")
