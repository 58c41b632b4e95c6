"""Working directories in the pod."""

from __future__ import annotations

import errno
from typing import Any

from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.directory import chdir, fchdir, getcwd
from script import PREFIX, FakeTask, Script, mounted

PATH, BUFFER = 0x1000, 0x2000


def going(path: bytes, context: Context, task: FakeTask | None = None) -> Script:
    return Script(chdir, (PATH,), memory={PATH: path + b"\0"}, context=context, task=task)


def test_to_the_pod() -> None:
    context = mounted(remote=[b"/app"])
    going(b"/app", context).traps("getcwd").gets(0).runs({0: Scratch(PREFIX + b"/app\0")}).gets(0).keeps(Route.REMOTE)
    assert context.mount is not None
    assert context.mount.is_used


def test_without_the_trap_it_works_and_the_user_is_told() -> None:
    context, lines = mounted(remote=[b"/app"]), []
    context.notice = lambda key, text: lines.append(key)
    script = going(b"/app", context).traps("getcwd").gets(-errno.EPERM)
    script.runs({0: Scratch(PREFIX + b"/app\0")}).gets(0).keeps()
    assert lines == ["trap-getcwd"]


def test_further_and_back() -> None:
    context, task = mounted(is_used=True, remote=[b"/app", b"/app/d"]), FakeTask()
    task.enters(AT_FDCWD, b"/app")
    going(b"d", context, task).traps("getcwd").gets(0).continues(Route.REMOTE)
    going(b"..", context, task).runs({0: Scratch(b"/\0")}).gets(0).keeps(Route.LOCAL)


def test_local_directories() -> None:
    going(b"/usr", mounted()).continues(Reason.DEFAULT_LOCAL)
    going(b"x", mounted()).continues(Reason.RELATIVE_PATH)
    Script(chdir, (1,), context=mounted(is_used=True)).continues(Reason.BAD_ARGUMENT)
    going(b"/proc/sys/kernel/hostname", mounted()).raises(errno.ENOTDIR)


def test_a_magic_link_may_lead_there() -> None:
    going(b"/proc/self/fd/5", mounted()).continues(Reason.DEFAULT_LOCAL)
    going(b"/proc/self/fd/5", mounted(is_used=True)).traps("getcwd").gets(0).continues(Reason.DEFAULT_LOCAL)
    going(b"/usr", mounted(is_used=True)).continues(Reason.DEFAULT_LOCAL)


def test_fchdir() -> None:
    task = FakeTask()
    task.enters(7, b"/app")
    Script(fchdir, (7,), task=task, context=mounted(is_used=True)).traps("getcwd").gets(0).continues(Reason.REMOTE_OBJECT)
    Script(fchdir, (8,), task=task, context=mounted(is_used=True)).continues(Reason.LOCAL_OBJECT)


def where(path: bytes | None, size: int = 100, context: Context | None = None) -> Script:
    task = FakeTask()
    if path is not None:
        task.enters(AT_FDCWD, path)
    return Script(getcwd, (BUFFER, size), task=task, context=context or mounted(is_used=True))


def test_getcwd() -> None:
    where(b"/app").returns(5, {BUFFER: b"/app\0"}, Reason.REMOTE_OBJECT)
    where(b"/app", 5).returns(5, {BUFFER: b"/app\0"})
    where(b"/app", 4).raises(errno.ERANGE)
    where(None).continues(Reason.LOCAL_OBJECT)
    where(b"").raises(errno.ENAMETOOLONG)
    where(b"/" + b"a" * 4095, 9000).raises(errno.ENAMETOOLONG)


def test_getcwd_of_a_directory_that_may_have_gone() -> None:
    where(b"/app (deleted)").runs().gets(-errno.ENOENT).keeps(Reason.REMOTE_OBJECT)
    where(b"/app (deleted)").runs().gets(30).returns(15, {BUFFER: b"/app (deleted)\0"})


def test_getcwd_has_the_tracees_name() -> None:
    context: Any = mounted(is_used=True)
    context.mount.note_name(b"/pod/d", b"/d")
    where(b"/pod/d/s", context=context).returns(5, {BUFFER: b"/d/s\0"})
