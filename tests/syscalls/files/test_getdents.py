"""getdents64(2), getdents(2): the position is the open file description's own."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest
from mirrord_trace.syscalls.abi.dirent import pack_records, to_old_layout
from mirrord_trace.syscalls.actions import Reason
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.getdents import getdents, getdents64
from mirrord_trace.syscalls.files.stand_in import empty_directory
from mirrord_trace.syscalls.objects import RemoteDirectory, RemoteFile
from script import STAT, FakeTask, Script, key_of, memfd, session

BUFFER = 0x9000
NAMES = (b".", b"..", b"one", b"a longer name", b"last")
RECORDS, OFFSETS = pack_records(NAMES, range(5), (4, 4, 8, 8, 10))


@pytest.fixture
def opened() -> tuple[Context, FakeTask]:
    """A thread with the directory as fd 5, a pod file as fd 6."""
    context, task = session(), FakeTask()
    task.fds = {5: empty_directory(), 6: memfd(b"x")}
    context.objects.add(key_of(task.fds[5]), RemoteDirectory(b"/d", b"/d", STAT, RECORDS, OFFSETS))
    context.objects.add(key_of(task.fds[6]), RemoteFile(b"/f", b"/f", STAT))
    return context, task


def reads(opened: tuple[Context, FakeTask], size: int, expected: bytes) -> None:
    fds = set(os.listdir("/proc/self/fd"))
    context, task = opened
    script = Script(getdents64, (5, BUFFER, size), memory={BUFFER: b"\xff" * 1000}, context=context, task=task)
    script.returns(len(expected), {}, Reason.REMOTE_OBJECT)
    assert task.memory[BUFFER] == expected.ljust(1000, b"\xff")
    assert set(os.listdir("/proc/self/fd")) == fds


def test_all_at_once(opened: tuple[Context, FakeTask]) -> None:
    reads(opened, 32768, RECORDS)
    reads(opened, 32768, b"")
    reads(opened, 0, b"")


def test_whole_records_as_they_fit(opened: tuple[Context, FakeTask]) -> None:
    reads(opened, OFFSETS[2] + 7, RECORDS[: OFFSETS[2]])
    reads(opened, OFFSETS[4] - OFFSETS[2], RECORDS[OFFSETS[2] : OFFSETS[4]])
    reads(opened, 2**64 - 1, RECORDS[OFFSETS[4] :])


def test_a_buffer_too_small_moves_nothing(opened: tuple[Context, FakeTask]) -> None:
    for size in (0, 23):
        Script(getdents64, (5, BUFFER, size), context=opened[0], task=opened[1]).raises(errno.EINVAL)
    reads(opened, 24, RECORDS[:24])


def test_telldir_seekdir_and_duplicates(opened: tuple[Context, FakeTask]) -> None:
    _, task = opened
    reads(opened, OFFSETS[3], RECORDS[: OFFSETS[3]])
    assert os.lseek(task.fds[5], 0, os.SEEK_CUR) == OFFSETS[3]
    os.lseek(task.fds[5], 0, os.SEEK_SET)
    duplicate = os.dup(task.fds[5])
    os.lseek(duplicate, OFFSETS[1], os.SEEK_SET)
    os.close(duplicate)
    reads(opened, 32768, RECORDS[OFFSETS[1] :])
    os.lseek(task.fds[5], OFFSETS[3] + 1, os.SEEK_SET)
    reads(opened, 32768, RECORDS[OFFSETS[4] :])
    os.lseek(task.fds[5], 10**9, os.SEEK_SET)
    reads(opened, 32768, b"")


@pytest.mark.parametrize("handler", [getdents64, getdents])
@pytest.mark.parametrize("memory", [{}, {BUFFER: bytes(len(RECORDS) - 1)}])
def test_a_bad_buffer_moves_nothing(
    opened: tuple[Context, FakeTask], handler: Callable[..., Any], memory: dict[int, bytes]
) -> None:
    context, task = opened
    script = Script(handler, (5, BUFFER, 32768), memory=memory, context=context, task=task)
    script.raises(errno.EFAULT, Reason.REMOTE_OBJECT)
    reads(opened, 32768, RECORDS)


@pytest.mark.parametrize("handler", [getdents64, getdents])
def test_at_the_end_no_buffer_is_needed(opened: tuple[Context, FakeTask], handler: Callable[..., Any]) -> None:
    os.lseek(opened[1].fds[5], len(RECORDS), os.SEEK_SET)
    Script(handler, (5, 0, 100), context=opened[0], task=opened[1]).returns(0)


@pytest.mark.parametrize("handler", [getdents64, getdents])
def test_other_descriptors_are_the_kernels(opened: tuple[Context, FakeTask], handler: Callable[..., Any]) -> None:
    for fd in (6, 7, -1):
        Script(handler, (fd, BUFFER, 100), context=opened[0], task=opened[1]).continues(Reason.LOCAL_OBJECT)
    looks = opened[1].reads
    Script(handler, (5, BUFFER, 100), task=opened[1]).continues(Reason.LOCAL_OBJECT)
    assert opened[1].reads == looks, "no object, no look at the fd"


def test_old_layout(opened: tuple[Context, FakeTask]) -> None:
    context, task = opened
    script = Script(getdents, (5, BUFFER, 32768), memory={BUFFER: bytes(len(RECORDS))}, context=context, task=task)
    script.returns(len(RECORDS))
    assert task.memory[BUFFER] == to_old_layout(RECORDS)
    Script(getdents, (5, BUFFER, 32768), context=opened[0], task=opened[1]).returns(0)


def test_path_only_descriptors_cannot_be_read(opened: tuple[Context, FakeTask]) -> None:
    context, task = opened
    task.fds[8] = os.open(f"/proc/self/fd/{task.fds[5]}", os.O_PATH)
    Script(getdents64, (8, BUFFER, 100), context=context, task=task).raises(errno.EBADF)
