"""open(2), creat(2), openat(2) in the mounted tree."""

from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.files.mounted.opening import creat, follows, open_, openat
from mirrord_trace.syscalls.requests import Foretell
from script import PREFIX, FakeTask, Script, mounted, told

PATH = 0x1000
X = Scratch(PREFIX + b"/app/x\0")


def test_the_three_are_the_same() -> None:
    for handler, args, at in ((open_, (PATH, 0), 0), (openat, (AT_FDCWD, PATH, 0), 1)):
        script = Script(handler, args, memory={PATH: b"/app/x\0"}, context=mounted(remote=[b"/app/x"]))
        script.runs({at: X}).gets(3).keeps(Reason.FS_MODE)
    context = mounted(remote=[b"/app/x"], writable=[b"/app/x"])
    Script(creat, (PATH, 0o644), memory={PATH: b"/app/x\0"}, context=context).runs({0: X}).gets(3).keeps(Reason.FS_MODE)
    assert told(context) == [Foretell(b"/app/x", True, False, False)]


def test_writing_goes_where_policy_says() -> None:
    args = (AT_FDCWD, PATH, os.O_WRONLY | os.O_CREAT)
    Script(openat, args, memory={PATH: b"/app/x\0"}, context=mounted(remote=[b"/app/x"])).continues(Reason.WRITE_ACCESS)
    context = mounted(remote=[b"/app/x"], writable=[b"/app/x"])
    Script(openat, args, memory={PATH: b"/app/x\0"}, context=context).runs({1: X}).gets(-errno.EROFS).keeps(Route.REMOTE)


@pytest.mark.parametrize(
    ("flags", "path", "follow", "content", "directory"),
    [
        (os.O_RDONLY, b"/app/x", True, True, False),
        (os.O_RDWR, b"/app/x", True, True, False),
        (os.O_WRONLY, b"/app/x", True, False, False),
        (os.O_RDWR | os.O_TRUNC, b"/app/x", True, False, False),
        (os.O_RDONLY | os.O_NOFOLLOW, b"/app/x", False, True, False),
        (os.O_WRONLY | os.O_CREAT | os.O_EXCL, b"/app/x", False, False, False),
        (os.O_RDONLY | os.O_DIRECTORY, b"/app/x", True, False, True),
        (os.O_PATH | os.O_DIRECTORY, b"/app/x", True, False, False),
        (os.O_PATH, b"/app/x", True, False, False),
        (os.O_RDONLY, b"/app/x/", True, False, False),
    ],
)
def test_the_relay_is_told_what_is_coming(flags: int, path: bytes, follow: bool, content: bool, directory: bool) -> None:
    context = mounted(remote=[b"/app/x"], writable=[b"/app/x"])
    end = b"/\0" if path.endswith(b"/") else b"\0"
    script = Script(openat, (AT_FDCWD, PATH, flags), memory={PATH: path + b"\0"}, context=context)
    script.runs({1: Scratch(PREFIX + b"/app/x" + end)}).gets(3).keeps()
    assert told(context) == [Foretell(b"/app/x", follow, content, directory)]


def test_behind_a_pod_directory_one_stop() -> None:
    task, context = FakeTask({PATH: b"x\0"}), mounted(is_used=True, remote=[b"/app/x"])
    task.enters(7, b"/app")
    Script(openat, (7, PATH, 0), task=task, context=context).continues(Reason.FS_MODE)
    assert told(context) == [Foretell(b"/app/x", True, True, False)]


def test_local_files_and_the_hostname() -> None:
    context = mounted()
    Script(openat, (AT_FDCWD, PATH, 0), memory={PATH: b"/usr/x\0"}, context=context).continues(Reason.DEFAULT_LOCAL)
    assert context.mount is not None
    assert not context.mount.is_used
    script = Script(openat, (AT_FDCWD, PATH, 0), memory={PATH: b"/proc/sys/kernel/hostname\0"}, context=context)
    script.gives(b"pod-7f9c\n", 0).given(5).keeps(Reason.POD_HOSTNAME)


def test_which_opens_follow_links() -> None:
    assert follows(os.O_CREAT)
    assert follows(os.O_EXCL)
    assert not follows(os.O_CREAT | os.O_EXCL)
