"""Access lists of pod files, where the tool is an ordinary user."""

from __future__ import annotations

import errno

import pytest
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Reason, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.acl import fsetxattr
from mirrord_trace.syscalls.files.mounted.paths import HANDLERS
from script import PREFIX, FakeTask, Script, mounted

PATH, NAME, FD = 0x1000, 0x2000, 5
LIST = b"system.posix_acl_access\0"
BY_PATH: list[tuple[str, tuple[int, ...]]] = [
    ("setxattr", (PATH, NAME, 0, 0, 0)),
    ("lsetxattr", (PATH, NAME, 0, 0, 0)),
    ("setxattrat", (AT_FDCWD, PATH, 0, NAME, 0, 0)),
]


def pod(*, is_ordinary: bool = True, is_used: bool = True) -> Context:
    context = mounted(is_used=is_used, remote=[b"/app/x"], writable=[b"/app/x"])
    assert context.mount is not None
    context.mount.is_ordinary = is_ordinary
    return context


def opened(name: bytes, context: Context) -> Script:
    task = FakeTask({NAME: name})
    task.enters(FD, b"/app/x")
    return Script(fsetxattr, (FD, NAME), task=task, context=context)


def test_on_a_descriptor() -> None:
    opened(LIST, pod()).raises(errno.EOPNOTSUPP, Reason.UNSUPPORTED)
    opened(b"user.x\0", pod()).continues(Reason.REMOTE_OBJECT)
    opened(LIST, pod(is_ordinary=False)).continues(Reason.REMOTE_OBJECT)
    Script(fsetxattr, (FD, NAME), memory={NAME: LIST}, context=pod()).continues(Reason.LOCAL_OBJECT)
    Script(fsetxattr, (FD, NAME), memory={NAME: LIST}, context=pod(is_used=False)).continues(Reason.LOCAL_OBJECT)


def test_a_name_that_cannot_be_read_is_the_kernels() -> None:
    task = FakeTask()
    task.enters(FD, b"/app/x")
    Script(fsetxattr, (FD, NAME), task=task, context=pod()).continues(Reason.REMOTE_OBJECT)


@pytest.mark.parametrize(("name", "args"), BY_PATH, ids=[name for name, _ in BY_PATH])
def test_on_a_path(name: str, args: tuple[int, ...]) -> None:
    memory = {PATH: b"/app/x\0", NAME: LIST}
    Script(HANDLERS[name], args, memory=memory, context=pod()).raises(errno.EOPNOTSUPP, Reason.UNSUPPORTED)
    script = Script(HANDLERS[name], args, memory={**memory, NAME: b"user.x\0"}, context=pod())
    script.runs({args.index(PATH): Scratch(PREFIX + b"/app/x\0")}).gets(0).keeps(Reason.FS_MODE)
    Script(HANDLERS[name], args, memory={**memory, PATH: b"/usr/x\0"}, context=pod()).continues(Reason.DEFAULT_LOCAL)
