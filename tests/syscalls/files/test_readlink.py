"""readlink(2), readlinkat(2)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Attributes, LinkTarget, ReadLink, Stat
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.files.readlink import readlink, readlinkat
from mirrord_trace.syscalls.objects import RemoteFile
from script import STAT, FakeTask, Script, session

PATH, BUFFER = 0x7000, 0x9000
CALLS = [
    (readlink, lambda size: (PATH, BUFFER, size)),
    (readlinkat, lambda size: (AT_FDCWD, PATH, BUFFER, size)),
]
Arguments = Callable[[int], tuple[int, ...]]
LINK_STAT = replace(STAT, mode=0o120777)


def calling(handler: Callable[..., Any], args: tuple[int, ...], path: bytes) -> Script:
    """In a thread whose fd 5 is a pod file, fd 6 a pod link (O_PATH), and fd 7 local."""
    context = session(remote=[b"/x"], missing=[b"/k"], mapped={b"/a": b"/b"})
    context.objects.add((9, 1), RemoteFile(b"/srv/f", b"/pod/f", STAT))
    context.objects.add((9, 2), RemoteFile(b"/srv/l", b"/pod/l", LINK_STAT))
    task = FakeTask({PATH: path + b"\0"})
    task.keys = {5: (9, 1), 6: (9, 2), 7: (1, 1)}
    return Script(handler, args, task=task, context=context)


@pytest.mark.parametrize(("handler", "args"), CALLS)
def test_routes(handler: Callable[..., Any], args: Arguments) -> None:
    script = calling(handler, args(100), b"/x").asks(ReadLink(b"/x")).replies(LinkTarget(b"target"))
    script.returns(6, {BUFFER: b"target"}, Reason.FS_MODE)
    script = calling(handler, args(3), b"/x").asks(ReadLink(b"/x")).replies(LinkTarget(b"target"))
    script.returns(3, {BUFFER: b"tar"})
    calling(handler, args(9), b"/x").asks(ReadLink(b"/x")).fails(errno.EINVAL).raises(errno.EINVAL, Route.REMOTE)
    calling(handler, args(9), b"/usr").continues(Reason.DEFAULT_LOCAL)
    calling(handler, args(9), b"x").continues(Reason.RELATIVE_PATH)
    calling(handler, args(9), b"/k").raises(errno.ENOENT, Route.MISSING)
    calling(handler, args(9), b"/a").runs({args(9).index(PATH): Scratch(b"/b\0")}).gets(1).keeps()
    Script(handler, args(9)).continues(Reason.BAD_ARGUMENT)


@pytest.mark.parametrize(("handler", "args"), CALLS)
@pytest.mark.parametrize("size", [0, -1, 0xFFFFFFFF, 0x80000000, 0x1_0000_0000])
def test_sizes_that_are_none(handler: Callable[..., Any], args: Arguments, size: int) -> None:
    calling(handler, args(size), b"/x").raises(errno.EINVAL, Route.REMOTE)


@pytest.mark.parametrize(("handler", "args"), CALLS)
def test_a_slash_at_the_end(handler: Callable[..., Any], args: Arguments) -> None:
    for mode, error in ((0o100644, errno.ENOTDIR), (0o40755, errno.EINVAL)):
        script = calling(handler, args(9), b"/x/").asks(Stat(b"/x", True)).replies(Attributes(replace(STAT, mode=mode)))
        script.raises(error, Route.REMOTE)


@pytest.mark.parametrize(("handler", "args"), CALLS)
def test_descriptors_in_proc_show_the_name_that_was_opened(handler: Callable[..., Any], args: Arguments) -> None:
    for path in (b"/proc/self/fd/5", b"/proc/4242/fd/5"):
        calling(handler, args(100), path).returns(6, {BUFFER: b"/srv/f"}, Reason.REMOTE_OBJECT)
    calling(handler, args(100), b"/proc/self/fd/7").continues(Route.LOCAL)
    calling(handler, args(100), b"/proc/self/fd/5/").raises(errno.ENOTDIR)


@pytest.mark.parametrize(("handler", "args"), CALLS)
def test_the_hostname_file_is_no_link(handler: Callable[..., Any], args: Arguments) -> None:
    calling(handler, args(9), b"/proc/sys/kernel/hostname").raises(errno.EINVAL)


def test_empty_path_is_the_link_itself() -> None:
    script = calling(readlinkat, (6, PATH, BUFFER, 100), b"").asks(ReadLink(b"/pod/l")).replies(LinkTarget(b"t"))
    script.returns(1, {BUFFER: b"t"}, Reason.REMOTE_OBJECT)
    calling(readlinkat, (5, PATH, BUFFER, 100), b"").raises(errno.ENOENT)
    calling(readlinkat, (7, PATH, BUFFER, 100), b"").continues(Reason.LOCAL_OBJECT)


def test_no_path_is_the_kernels_to_judge() -> None:
    calling(readlinkat, (6, 0, BUFFER, 100), b"").continues(Reason.BAD_ARGUMENT)
