"""readlink(2), readlinkat(2) in the mounted tree."""

from __future__ import annotations

import errno
import stat
from dataclasses import replace
from typing import Any

from mirrord_trace.agent.wire.messages import LinkTarget, ReadLink
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.files.mounted.readlink import readlink, readlinkat
from mirrord_trace.syscalls.requests import PathStat, StatPath
from script import STAT, FakeTask, Script, mounted

PATH, BUFFER = 0x1000, 0x2000
LINK = PathStat(0, replace(STAT, mode=stat.S_IFLNK | 0o777), 0, 0)


def reading(path: bytes, size: int = 100, task: FakeTask | None = None, **rules: Any) -> Script:
    context = mounted(**{"remote": [b"/app/x"], **rules})
    return Script(readlink, (PATH, BUFFER, size), memory={PATH: path + b"\0"}, context=context, task=task)


def test_a_link_of_the_pod_has_its_own_target() -> None:
    script = reading(b"/app/x").asks(StatPath(b"/app/x", False)).replies(LINK)
    script.asks(ReadLink(b"/app/x")).replies(LinkTarget(b"/abs")).returns(4, {BUFFER: b"/abs"}, Route.REMOTE)
    script = reading(b"/app/x", 2).asks(StatPath(b"/app/x", False)).replies(LINK)
    script.asks(ReadLink(b"/app/x")).replies(LinkTarget(b"/abs")).returns(2, {BUFFER: b"/a"})


def test_what_is_no_link() -> None:
    reading(b"/app/x").asks(StatPath(b"/app/x", False)).replies(PathStat(0, STAT, 0, 0)).raises(errno.EINVAL, Route.REMOTE)
    reading(b"/app/x", 0).raises(errno.EINVAL)
    reading(b"/proc/sys/kernel/hostname").raises(errno.EINVAL, Reason.POD_HOSTNAME)


def test_local_links() -> None:
    reading(b"/usr/x").continues(Reason.DEFAULT_LOCAL)
    reading(b"/proc/self/fd/5").continues()
    reading(b"/a", mapped={b"/a": b"/b"}).runs({0: Scratch(b"/b\0")}).gets(3).keeps(Route.LOCAL)
    Script(readlink, (1, BUFFER, 9), context=mounted()).continues(Reason.BAD_ARGUMENT)


def test_a_program_that_its_loader_has_started() -> None:
    task = FakeTask()
    task.programs = {task.tgid: b"/app/prog", 99: b"/app/other"}
    reading(b"/proc/self/exe", task=task).returns(9, {BUFFER: b"/app/prog"}, Reason.REMOTE_OBJECT)
    reading(b"/proc/99/exe", 4, task=task).returns(4, {BUFFER: b"/app"})
    reading(b"/proc/98/exe", task=task).continues()
    reading(b"/proc/self/exe", 0, task=task).raises(errno.EINVAL)


def opened(context_used: bool = True, size: int = 100, path: bytes = b"/app/x") -> Script:
    task = FakeTask({PATH: b"\0"})
    task.enters(7, path)
    return Script(readlinkat, (7, PATH, BUFFER, size), task=task, context=mounted(is_used=context_used))


def test_an_open_link() -> None:
    opened().asks(ReadLink(b"/app/x")).replies(LinkTarget(b"/abs")).returns(4, {BUFFER: b"/abs"}, Reason.REMOTE_OBJECT)
    opened().asks(ReadLink(b"/app/x")).fails(errno.EINVAL).raises(errno.ENOENT)
    opened().asks(ReadLink(b"/app/x")).fails(errno.EIO).raises(errno.EIO)
    opened(size=0).raises(errno.EINVAL)
    opened(False).continues(Reason.LOCAL_OBJECT)
    opened(path=b"/app/x (deleted)").continues(Reason.REMOTE_OBJECT)


def test_readlinkat_of_a_path() -> None:
    context = mounted(remote=[b"/app/x"])
    script = Script(readlinkat, (AT_FDCWD, PATH, BUFFER, 100), memory={PATH: b"/app/x\0"}, context=context)
    script.asks(StatPath(b"/app/x", False)).replies(LINK).asks(ReadLink(b"/app/x")).replies(LinkTarget(b"t"))
    script.returns(1, {BUFFER: b"t"})
