"""inotify_add_watch(2) on files of the pod."""

from __future__ import annotations

import errno

from mirrord_trace.agent.wire.messages import Done
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Reason, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.watching import inotify_add_watch
from mirrord_trace.syscalls.requests import WatchTree
from script import PREFIX, FakeTask, Script, mounted

PATH, MASK, DONT_FOLLOW = 0x1000, 0xFFF, 0x02000000


def script(path: bytes, mask: int = MASK, context: Context | None = None, task: FakeTask | None = None) -> Script:
    context = context or mounted(remote=[b"/app/x"])
    return Script(inotify_add_watch, (3, PATH, mask), memory={PATH: path + b"\0"}, context=context, task=task)


def test_the_pod_watches_before_the_kernel_does() -> None:
    watched = script(b"/app/x").asks(WatchTree(b"/app/x", True)).replies(Done())
    watched.runs({1: Scratch(PREFIX + b"/app/x\0")}).gets(1).keeps(Reason.FS_MODE)


def test_a_link_itself() -> None:
    watched = script(b"/app/x", MASK | DONT_FOLLOW).asks(WatchTree(b"/app/x", False)).replies(Done())
    watched.runs({1: Scratch(PREFIX + b"/app/x\0")}).gets(1).keeps(Reason.FS_MODE)


def test_a_pod_that_cannot_watch_costs_a_line_and_the_pods_own_events() -> None:
    notices: list[str] = []
    context = mounted(remote=[b"/app/x"], notices=notices)
    watched = script(b"/app/x", context=context).asks(WatchTree(b"/app/x", True)).fails(errno.ENOSPC)
    watched.runs({1: Scratch(PREFIX + b"/app/x\0")}).gets(1).keeps(Reason.FS_MODE)
    assert len(notices) == 1


def test_local_paths_are_the_kernels() -> None:
    script(b"/usr/x").continues(Reason.DEFAULT_LOCAL)
    Script(inotify_add_watch, (3, PATH, MASK), memory={}, context=mounted()).continues(Reason.BAD_ARGUMENT)


def test_behind_a_pod_directory_the_kernel_gets_there_by_itself() -> None:
    task = FakeTask({PATH: b"x\0"})
    task.enters(AT_FDCWD, b"/app")
    context = mounted(is_used=True, remote=[b"/app/x"])
    watched = Script(inotify_add_watch, (3, PATH, MASK), context=context, task=task)
    watched.asks(WatchTree(b"/app/x", True)).replies(Done()).continues(Reason.FS_MODE)
