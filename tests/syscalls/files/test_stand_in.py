"""Files of our own that a tracee holds."""

from __future__ import annotations

import errno
import os
import resource
import stat
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from mirrord_trace.syscalls.actions import Action, Decision, GiveFile, Given, Keep, Outcome, Reason, Route, SyscallError
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files import stand_in
from mirrord_trace.syscalls.files.stand_in import empty_directory, give, sealed_memfd
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


def test_an_empty_directory_is_nobody_elses() -> None:
    fd, other = empty_directory(), empty_directory()
    assert key_of(fd) != key_of(other)
    assert os.listdir(fd) == []
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o755
    assert not os.get_inheritable(fd)
    assert not Path(os.readlink(f"/proc/self/fd/{fd}")).exists()
    for create in (os.mkdir, os.mknod):
        with pytest.raises(FileNotFoundError):
            create("x", dir_fd=fd)
    os.close(other)
    os.close(fd)


def test_an_empty_directory_keeps_any_position() -> None:
    fd = empty_directory()
    assert os.lseek(fd, 10**6, os.SEEK_SET) == os.lseek(fd, 0, os.SEEK_CUR) == 10**6
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_DIRECTORY)
    assert os.lseek(again, 0, os.SEEK_CUR) == 0
    os.close(again)
    os.close(fd)


def test_an_empty_directory_where_there_is_no_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "_SHARED_MEMORY", str(tmp_path / "none"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fd = empty_directory()
    assert os.fstat(fd).st_dev == tmp_path.stat().st_dev
    assert list(tmp_path.iterdir()) == []
    os.close(fd)


def test_no_descriptor_for_an_empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stand_in, "_SHARED_MEMORY", str(tmp_path))
    with no_descriptors_left(), pytest.raises(SyscallError) as caught:
        empty_directory()
    assert caught.value.errno == errno.EMFILE
    assert list(tmp_path.iterdir()) == []


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


def test_a_directory_stays_one(tmp_path: Path) -> None:
    context = session()
    giving = give(context, empty_directory(), os.O_DIRECTORY | os.O_PATH | os.O_NOFOLLOW, REMOTE, DECISION)
    given = next(giving)
    assert isinstance(given, GiveFile)
    assert given.flags == os.O_DIRECTORY | os.O_PATH
    giving.close()
    os.close(given.fd)


@pytest.mark.parametrize("end", ["fails", "abandoned"])
def test_no_pin_is_left_behind(tmp_path: Path, end: str) -> None:
    context = session()
    fd = unlinked(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    giving = gift(context, fd)
    if end == "fails":
        with pytest.raises(SyscallError):
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
