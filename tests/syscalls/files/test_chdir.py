"""fchdir(2)."""

from __future__ import annotations

import errno

import pytest
from mirrord_trace.syscalls.actions import Reason
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.chdir import fchdir
from mirrord_trace.syscalls.files.stand_in import empty_directory
from mirrord_trace.syscalls.objects import RemoteDirectory, RemoteFile
from script import STAT, FakeTask, Script, key_of, memfd, session


@pytest.fixture
def notices() -> list[str]:
    """The lines for the user."""
    return []


@pytest.fixture
def opened(notices: list[str]) -> tuple[Context, FakeTask]:
    """A thread with a pod directory as fd 5, a pod file as fd 6; fd 7 is local."""
    context, task = session(notices=notices), FakeTask()
    task.fds = {5: empty_directory(), 6: memfd(b"x"), 7: memfd()}
    context.objects.add(key_of(task.fds[5]), RemoteDirectory(b"/d", b"/d", STAT))
    context.objects.add(key_of(task.fds[6]), RemoteFile(b"/f", b"/f", STAT))
    return context, task


def test_a_pod_directory_is_refused_and_the_user_is_told(opened: tuple[Context, FakeTask], notices: list[str]) -> None:
    Script(fchdir, (5,), context=opened[0], task=opened[1]).raises(errno.EACCES, Reason.REMOTE_OBJECT)
    assert len(notices) == 1


@pytest.mark.parametrize("fd", [6, 7, 8, -1])
def test_all_else_is_the_kernels(opened: tuple[Context, FakeTask], notices: list[str], fd: int) -> None:
    Script(fchdir, (fd,), context=opened[0], task=opened[1]).continues(Reason.LOCAL_OBJECT)
    assert not notices


def test_no_look_at_the_descriptor_while_there_are_no_pod_files(opened: tuple[Context, FakeTask]) -> None:
    Script(fchdir, (5,), task=opened[1]).continues(Reason.LOCAL_OBJECT)
    assert opened[1].reads == 0
