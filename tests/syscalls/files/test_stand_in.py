"""Files of our own that a tracee holds."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from mirrord_trace.syscalls.actions import Action, Decision, GiveFile, Given, Keep, Outcome, Reason, Route, SyscallError
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.stand_in import give, sealed_memfd
from mirrord_trace.syscalls.objects import RemoteFile
from script import STAT, key_of, session

REMOTE = RemoteFile(b"/x", b"/x", STAT)
DECISION = Decision(Route.REMOTE, Reason.FS_MODE, b"/x")


@contextmanager
def no_descriptors_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def descriptors_of(key: tuple[int, int]) -> int:
    """How many of our fds are open on this file."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            count += key_of(int(name)) == key
    return count


def unlinked(tmp_path: Path) -> int:
    fd = os.open(tmp_path / "large", os.O_RDWR | os.O_CREAT)
    (tmp_path / "large").unlink()
    return fd


def test_nobody_can_change_it() -> None:
    fd = sealed_memfd(b"content")
    assert os.read(fd, 100) == b"content"
    writable = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    with pytest.raises(PermissionError):
        os.write(writable, b"x")
    with pytest.raises(PermissionError):
        os.truncate(writable, 3)
    os.close(writable)
    os.close(fd)


def test_a_new_description_starts_at_the_beginning() -> None:
    fd = sealed_memfd(b"content")
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
    assert os.read(again, 100) == b"content"
    os.close(again)
    os.close(fd)


def test_no_descriptor_for_a_memfd() -> None:
    with no_descriptors_left(), pytest.raises(SyscallError) as caught:
        sealed_memfd(b"x")
    assert caught.value.errno == errno.EMFILE


def gift(context: Context, fd: int) -> Generator[Action, Outcome, Keep]:
    giving = give(context, fd, os.O_CLOEXEC | os.O_RDWR | os.O_CREAT, REMOTE, DECISION)
    assert next(giving) == GiveFile(fd, os.O_CLOEXEC)
    return giving


def test_an_unlinked_file_is_pinned_while_it_is_known(tmp_path: Path) -> None:
    context = session()
    fd = unlinked(tmp_path)
    key = key_of(fd)
    giving = gift(context, fd)
    os.close(fd)
    with pytest.raises(StopIteration):
        giving.send(Given(3, key))
    assert context.objects.get(key) is REMOTE
    assert descriptors_of(key) == 1
    context.objects.close()
    assert descriptors_of(key) == 0


@pytest.mark.parametrize("end", ["fails", "abandoned"])
def test_no_pin_is_left_behind(tmp_path: Path, end: str) -> None:
    context = session()
    fd = unlinked(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    giving = gift(context, fd)
    if end == "fails":
        with pytest.raises(StopIteration):
            giving.send(Given(-errno.EMFILE, (0, 0)))
    else:
        giving.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert not context.objects
    os.close(fd)


def test_no_descriptor_for_a_pin(tmp_path: Path) -> None:
    fd = unlinked(tmp_path)
    giving = give(session(), fd, 0, REMOTE, DECISION)
    with no_descriptors_left(), pytest.raises(SyscallError) as caught:
        next(giving)
    assert caught.value.errno == errno.EMFILE
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
