"""The short way in the mounted tree: a check never lets through what the handler would not."""

from __future__ import annotations

import os

import pytest
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Continue, SyscallError
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.files.mounted.paths import CALLS
from mirrord_trace.syscalls.files.mounted.quick import CHECKS
from mirrord_trace.syscalls.files.mounted.rows import HANDLERS, LATER
from script import FakeTask, mounted

LOCAL, POD, EMPTY, RELATIVE, MAGIC, NOWHERE = 0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x9000
MEMORY = {LOCAL: b"/usr/x\0", POD: b"/app/x\0", EMPTY: b"\0", RELATIVE: b"x\0", MAGIC: b"/proc/self/fd/5\0"}
FIRST = ("open", "creat", "stat", "lstat", "readlink", "access", "chdir", "execve")
PATHS = {call.name: call.paths for call in CALLS}
WITH_PATHS = [name for name in CHECKS if name not in ("fchdir", "getcwd", "fsetxattr")]


def _call(name: str, context: Context, address: int, mode: int = 0) -> tuple[bool, object]:
    """What the check says, and how the handler ends or what it does first."""
    words = [mode] * 6
    for path in PATHS.get(name, ()):
        words[path.at] = address
        if path.dirfd >= 0:
            words[path.dirfd] = AT_FDCWD & 0xFFFF_FFFF
    if name not in PATHS:
        at = 0 if name in FIRST else 1
        words[at] = address
        words[:at] = [AT_FDCWD & 0xFFFF_FFFF] * at
    a, b, c, d, e, f = words
    args: Args = (a, b, c, d, e, f)
    task = FakeTask(MEMORY)
    said = CHECKS[name](context, task, args)
    try:
        return said, next(HANDLERS[name](context, task, args))
    except StopIteration as end:
        return said, end.value
    except SyscallError as error:
        return said, error


@pytest.mark.parametrize("name", WITH_PATHS)
def test_known_local_paths_only(name: str) -> None:
    context = mounted(remote=[b"/app/x"], writable=[b"/app/x"])
    assert _call(name, context, LOCAL)[0] is False  # not known yet
    said, ended = _call(name, context, LOCAL)
    assert said
    assert isinstance(ended, Continue)
    for _ in range(2):
        said, done = _call(name, context, POD)
        assert not said
        assert not isinstance(done, Continue)
    assert _call(name, context, NOWHERE)[0] is False


@pytest.mark.parametrize(("name", "write"), [("open", os.O_WRONLY), ("openat", os.O_CREAT), ("access", 2), ("faccessat", 2)])
def test_reading_and_writing_are_known_apart(name: str, write: int) -> None:
    context = mounted()
    _call(name, context, LOCAL)
    assert _call(name, context, LOCAL)[0] is True
    assert _call(name, context, LOCAL, write)[0] is False
    assert _call(name, context, LOCAL, write)[0] is True


@pytest.mark.parametrize("name", WITH_PATHS)
def test_relative_and_magic_paths(name: str) -> None:
    for is_used in (False, True):
        context = mounted(is_used=is_used)
        for address in (RELATIVE, EMPTY, MAGIC, MAGIC):
            said, done = _call(name, context, address)
            assert isinstance(done, Continue) or not said
    assert name != "chdir" or not _call(name, context, MAGIC)[0]


def test_descriptors() -> None:
    args: Args = (5, EMPTY, 0, 0x1000, 0x1000, 0)
    task = FakeTask(MEMORY)
    assert CHECKS["newfstatat"](mounted(is_used=True), task, args)
    for name in ("statx", "readlinkat"):
        assert CHECKS[name](mounted(), task, args)
        assert not CHECKS[name](mounted(is_used=True), task, args)
    for name in ("fchdir", "getcwd", "fsetxattr"):
        assert CHECKS[name](mounted(), task, args)
        assert not CHECKS[name](mounted(is_used=True), task, args)


def test_every_call_with_a_path_has_one() -> None:
    assert set(CHECKS) == {*HANDLERS, *LATER} - {"openat2", "uname"}
