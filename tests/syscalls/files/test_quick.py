"""syscalls/files/quick.py: a check never lets through what the handler would not."""

from __future__ import annotations

import os

import pytest
from mirrord_trace.syscalls.actions import Continue
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.files.quick import CHECKS
from mirrord_trace.syscalls.files.rows import HANDLERS
from mirrord_trace.syscalls.objects import RemoteFile
from script import STAT, FakePolicy, FakeTask, key_of, memfd, session

PATH, EMPTY, NOWHERE = 0x1000, 0x2000, 0x9000
FIRST = ("open", "stat", "lstat", "readlink")
SECOND = ("openat", "newfstatat", "statx", "readlinkat")
READ = 0
WRITE = os.O_WRONLY | os.O_CREAT


def _call(name: str, context: Context, task: FakeTask, address: int, flags: int = READ) -> tuple[bool, object]:
    """What the check says, and how the handler ends or what it does first."""
    args: Args = (address, flags, 100, 0, 0, 0) if name in FIRST else (2**64 - 100, address, flags, 0x1000, 100, 0)
    said = CHECKS[name](context, task, args)
    try:
        return said, next(HANDLERS[name](context, task, args))
    except StopIteration as end:
        return said, end.value


@pytest.mark.parametrize("name", [*FIRST, *SECOND])
def test_known_local_paths_only(name: str) -> None:
    context, task = session(FakePolicy(remote=(b"/pod/x",))), FakeTask({PATH: b"/etc/x\0", EMPTY: b"/pod/x\0"})
    flags = READ if "open" in name else 0
    assert _call(name, context, task, PATH, flags)[0] is False  # not known yet
    said, ended = _call(name, context, task, PATH, flags)
    assert said
    assert isinstance(ended, Continue)
    for _ in range(2):
        said, done = _call(name, context, task, EMPTY, flags)
        assert not said
        assert not isinstance(done, Continue)
    assert _call(name, context, task, NOWHERE, flags)[0] is False


@pytest.mark.parametrize("name", ["open", "openat"])
def test_reading_and_writing_are_known_apart(name: str) -> None:
    context, task = session(FakePolicy()), FakeTask({PATH: b"/etc/x\0"})
    _call(name, context, task, PATH, READ)
    assert _call(name, context, task, PATH, WRITE)[0] is False
    assert _call(name, context, task, PATH, WRITE)[0] is True
    assert _call(name, context, task, PATH, WRITE | os.O_PATH)[0] is True  # known for reading


def test_descriptors_while_there_are_no_pod_files() -> None:
    context, task = session(FakePolicy()), FakeTask({PATH: b"\0"})
    task.fds = {5: memfd(b"x")}
    args: Args = (5, PATH, 0, 0x1000, 0, 0)
    names = [name for name in CHECKS if name not in (*FIRST, "openat")]
    assert all(CHECKS[name](context, task, args) for name in names)
    context.objects.add(key_of(task.fds[5]), RemoteFile(b"/f", b"/f", STAT))
    assert not any(CHECKS[name](context, task, args) for name in names)
