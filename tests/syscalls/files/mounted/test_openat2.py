"""openat2(2) in the mounted tree."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import replace

import pytest
from mirrord_trace.agent.wire.messages import LinkTarget, ReadLink
from mirrord_trace.syscalls.abi import open_how
from mirrord_trace.syscalls.abi.flags import (
    AT_FDCWD,
    RESOLVE_BENEATH,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from mirrord_trace.syscalls.abi.open_how import OpenHow
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.openat2 import openat2
from mirrord_trace.syscalls.requests import PathStat, StatPath
from script import PREFIX, STAT, FakeTask, Script, mounted

PATH, HOW = 0x1000, 0x2000
X = Scratch(PREFIX + b"/app/x\0")
DIRECTORY = replace(STAT, mode=stat.S_IFDIR | 0o755)
LINK = replace(STAT, mode=stat.S_IFLNK | 0o777)


def opening(path: bytes, resolve: int = 0, flags: int = 0, dirfd: int = AT_FDCWD, context: Context | None = None) -> Script:
    task = FakeTask({PATH: path + b"\0", HOW: open_how.pack(OpenHow(flags, 0, resolve))})
    task.enters(7, b"/app")
    context = context or mounted(is_used=True, remote=[b"/app/x", b"/app"], writable=[b"/app/x"])
    return Script(openat2, (dirfd, PATH, HOW, 24), task=task, context=context)


def how(resolve: int, flags: int = 0) -> Scratch:
    return Scratch(open_how.pack(OpenHow(flags, 0, resolve)))


def found(reply: object) -> PathStat:
    assert isinstance(reply, type(STAT))
    return PathStat(0, reply, 0, 0)


def test_without_rules_it_is_openat() -> None:
    opening(b"/app/x").runs({1: X}).gets(3).keeps(Reason.FS_MODE)
    opening(b"/app/x", flags=os.O_WRONLY).runs({1: X}).gets(3).keeps(Reason.FS_MODE)
    opening(b"/usr/x").continues(Reason.DEFAULT_LOCAL)
    opening(b"x", dirfd=7).continues(Reason.FS_MODE)
    opening(b"/proc/sys/kernel/hostname").gives(b"pod-7f9c\n", 0).given(3).keeps()


def test_bad_arguments_are_the_kernels() -> None:
    Script(openat2, (AT_FDCWD, PATH, HOW, 8), memory={PATH: b"/app/x\0"}, context=mounted()).continues(Reason.BAD_ARGUMENT)
    Script(openat2, (AT_FDCWD, PATH, HOW, 24), memory={PATH: b"/app/x\0"}, context=mounted()).continues(Reason.BAD_ARGUMENT)
    Script(openat2, (AT_FDCWD, PATH, HOW, 24), context=mounted()).continues(Reason.BAD_ARGUMENT)


@pytest.mark.parametrize(
    "rule", [RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_NO_XDEV | RESOLVE_BENEATH, RESOLVE_IN_ROOT]
)
def test_behind_a_pod_directory_the_kernel_keeps_the_rules(rule: int) -> None:
    opening(b"x", rule, dirfd=7).continues(Route.REMOTE)


def test_beneath_takes_no_absolute_path() -> None:
    opening(b"/app/x", RESOLVE_BENEATH, dirfd=7).continues(Reason.BAD_ARGUMENT)


def test_in_root_ends_at_the_directory() -> None:
    opening(b"/../x", RESOLVE_IN_ROOT, dirfd=7).continues(Route.REMOTE)
    opening(b"/x", RESOLVE_IN_ROOT, dirfd=8).continues(Reason.RELATIVE_PATH)
    opening(b"", RESOLVE_IN_ROOT, dirfd=7).continues(Reason.REMOTE_OBJECT)
    opening(b"/elsewhere", RESOLVE_IN_ROOT, dirfd=7).raises(errno.EXDEV)


def test_in_root_of_what_is_no_directory_is_nothing() -> None:
    task = FakeTask({PATH: b"/x\0", HOW: open_how.pack(OpenHow(0, 0, RESOLVE_IN_ROOT))})
    task.enters(7, b"/app", is_directory=False)
    context = mounted(is_used=True, remote=[b"/app"])
    Script(openat2, (7, PATH, HOW, 24), task=task, context=context).continues(Reason.REMOTE_OBJECT)


def test_a_wrong_struct_comes_before_the_path() -> None:
    nonsense = os.O_CREAT | os.O_DIRECTORY
    opening(b"/app/x", RESOLVE_NO_SYMLINKS, nonsense).asks(StatPath(b"/app", False)).replies(found(LINK)).raises(errno.EINVAL)
    hiding = mounted(is_used=True, remote=[b"/app"], missing=[b"/hidden"])
    opening(b"/hidden", 0, nonsense, context=hiding).raises(errno.EINVAL)
    opening(b"/elsewhere", RESOLVE_IN_ROOT, nonsense, 7).raises(errno.EINVAL)
    opening(b"/app/x", 0, nonsense).runs({1: X}).gets(-errno.EINVAL).keeps(Route.REMOTE)  # the kernel knows what it has


def test_rules_that_the_prefix_would_break_are_taken_out() -> None:
    for rule in (RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS):
        opening(b"/app/x", rule | 0x40).runs({2: how(0x40), 1: X}).gets(3).keeps(Route.REMOTE)
    opening(b"x/../../usr/x", RESOLVE_NO_XDEV, dirfd=7).runs({1: Scratch(b"/usr/x\0")}).gets(3).keeps(Route.LOCAL)


def test_no_xdev_lets_no_absolute_link_be_followed_on_the_way_from_a_directory() -> None:
    def walking(path: bytes, flags: int = 0) -> Script:
        context = mounted(is_used=True, remote=[b"/app", b"/app/x", b"/app/d/x", b"/app/x/y"])
        return opening(path, RESOLVE_NO_XDEV, flags, dirfd=7, context=context)

    x, y = StatPath(b"/app/x", False), StatPath(b"/app/y", False)
    walking(b"x").asks(x).replies(found(STAT)).continues(Route.REMOTE)
    walking(b"x").asks(x).replies(PathStat(errno.ENOENT, STAT, 0, 0)).continues(Route.REMOTE)
    walking(b"x", os.O_NOFOLLOW).continues(Route.REMOTE)
    script = walking(b"x").asks(x).replies(found(LINK)).asks(ReadLink(b"/app/x")).replies(LinkTarget(b"/app/y"))
    script.raises(errno.EXDEV)
    script = walking(b"d/../x/y", os.O_NOFOLLOW).asks(StatPath(b"/app/d", False)).replies(found(DIRECTORY))
    script.asks(x).replies(found(LINK)).asks(ReadLink(b"/app/x")).replies(LinkTarget(b"./y"))
    script.asks(y).replies(found(DIRECTORY)).continues(Route.REMOTE)
    script = walking(b"x").asks(x).replies(found(LINK)).asks(ReadLink(b"/app/x")).replies(LinkTarget(b"x"))
    for _ in range(40):
        script.asks(x).replies(found(LINK)).asks(ReadLink(b"/app/x")).replies(LinkTarget(b"x"))
    script.continues(Route.REMOTE)  # for the kernel to say ELOOP


def test_a_detached_mount_of_an_ordinary_user_never_lets_a_link_and_a_step_back_pass() -> None:
    context = mounted(is_used=True, remote=[b"/app", b"/app/x"])
    assert context.mount is not None
    context.mount.is_ordinary = True
    script = opening(b"d/../x", RESOLVE_BENEATH, dirfd=7, context=context)
    script.asks(StatPath(b"/app/d", False)).replies(found(LINK)).asks(ReadLink(b"/app/d")).replies(LinkTarget(b"e/f"))
    script.asks(StatPath(b"/app/e", False)).replies(found(DIRECTORY)).asks(StatPath(b"/app/e/f", False))
    script.replies(found(DIRECTORY)).asks(StatPath(b"/app/e/x", False)).replies(found(STAT))
    script.runs({1: Scratch(b"e/x\0")}).gets(3).keeps(Route.REMOTE)
    for rule in (RESOLVE_BENEATH, RESOLVE_IN_ROOT):
        script = opening(b"x", rule, dirfd=7, context=context).asks(StatPath(b"/app/x", False))
        script.replies(PathStat(errno.ENOENT, STAT, 0, 0)).continues(Route.REMOTE)
    opening(b"d/../x", RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS, dirfd=7, context=context).continues(Route.REMOTE)


def test_no_symlinks_looks_at_each_name() -> None:
    script = opening(b"/app/x", RESOLVE_NO_SYMLINKS)
    script.asks(StatPath(b"/app", False)).replies(found(DIRECTORY)).asks(StatPath(b"/app/x", False)).replies(found(STAT))
    script.runs({2: how(0), 1: X}).gets(3).keeps(Route.REMOTE)
    opening(b"/app/x", RESOLVE_NO_SYMLINKS).asks(StatPath(b"/app", False)).replies(found(LINK)).raises(errno.ELOOP)
    script = opening(b"/app/x", RESOLVE_NO_SYMLINKS, os.O_PATH | os.O_NOFOLLOW)
    script.asks(StatPath(b"/app", False)).replies(found(DIRECTORY))
    script.runs({2: how(0, os.O_PATH | os.O_NOFOLLOW), 1: X}).gets(3).keeps(Route.REMOTE)


def test_no_symlinks_of_a_file_that_is_to_be_created() -> None:
    create = os.O_CREAT | os.O_WRONLY
    script = opening(b"/app/x", RESOLVE_NO_SYMLINKS, create).asks(StatPath(b"/app", False)).replies(found(DIRECTORY))
    script.asks(StatPath(b"/app/x", False)).replies(PathStat(errno.ENOENT, STAT, 0, 0))
    script.runs({2: how(0, create), 1: X}).gets(3).keeps(Route.REMOTE)
    script = opening(b"/app/x", RESOLVE_NO_SYMLINKS, create).asks(StatPath(b"/app", False))
    script.replies(PathStat(errno.ENOENT, STAT, 0, 0)).raises(errno.ENOENT)
