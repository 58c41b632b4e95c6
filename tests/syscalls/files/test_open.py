"""open(2), creat(2), openat(2)."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from mirrord_trace.agent.wire.messages import Attributes, Done, Opened, OpenedDirectory, OpenFile, Stat
from mirrord_trace.syscalls.abi.dirent import pack_records
from mirrord_trace.syscalls.abi.flags import AT_FDCWD, X86_64
from mirrord_trace.syscalls.actions import Decision, Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.open import INLINE_LIMIT, creat, open_, openat
from mirrord_trace.syscalls.files.stand_in import empty_directory
from mirrord_trace.syscalls.objects import RemoteDirectory, RemoteFile
from script import STAT, FakePolicy, FakeTask, Script, key_of, memfd, session

PATH = 0x1000
DIR_STAT = replace(STAT, mode=stat.S_IFDIR | 0o755)
LINK_STAT = replace(STAT, mode=stat.S_IFLNK | 0o777)
LISTING = OpenedDirectory(DIR_STAT, (b".", b"..", b"a"), (1, 2, 3), (4, 4, 8))
RECORDS, OFFSETS = pack_records(LISTING.names, LISTING.inodes, LISTING.types)


def opening(path: bytes, flags: int = 0, *, context: Context | None = None, task: FakeTask | None = None) -> Script:
    """openat(AT_FDCWD, path, flags)."""
    context = context if context is not None else session(remote=[b"/data/x", b"/data"])
    return Script(openat, (AT_FDCWD, PATH, flags), memory={PATH: path + b"\0"}, context=context, task=task)


def request(path: bytes, flags: int = 0) -> OpenFile:
    return OpenFile(path, flags, INLINE_LIMIT, 1)


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_a_small_file_costs_one_round_trip() -> None:
    context = session(remote=[b"/data/x"], mapped={b"/data/x": b"/pod/x"})
    script = opening(b"/data//x", os.O_CLOEXEC | os.O_NOCTTY | os.O_SYNC, context=context)
    task = script.task
    script.asks(request(b"/pod/x")).replies(Opened(STAT, b"", False), memfd(b"hello")).gives(b"hello", os.O_CLOEXEC)
    script.given(7).keeps(Reason.FS_MODE)
    assert context.objects.get(key_of(task.fds[7])) == RemoteFile(b"/data/x", b"/pod/x", STAT)
    assert os.read(task.fds[7], 10) == b"hello"


@pytest.mark.parametrize(("handler", "args"), [(open_, (PATH, os.O_APPEND)), (openat, (-100, PATH, os.O_APPEND))])
def test_open_and_openat_are_the_same(handler: Callable[..., Any], args: tuple[int, ...]) -> None:
    script = Script(handler, args, memory={PATH: b"/data/x\0"}, context=session(remote=[b"/data/x"]))
    script.asks(request(b"/data/x")).replies(Opened(STAT, b"", False), memfd()).gives(b"", os.O_APPEND)
    script.given(-errno.EMFILE).raises(errno.EMFILE)
    assert not script.context.objects


def test_nothing_but_a_look_at_the_path_for_local_files() -> None:
    for path, reason in ((b"/usr/x", Reason.DEFAULT_LOCAL), (b"x", Reason.RELATIVE_PATH), (b"", Reason.BAD_ARGUMENT)):
        script = opening(path)
        script.continues(reason)
        assert script.task.reads == 1


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_TRUNC, os.O_TMPFILE | os.O_RDWR, 3])
def test_writing_is_local(flags: int) -> None:
    opening(b"/data/x", flags).continues(Reason.WRITE_ACCESS)


def test_creat_is_local_and_a_bad_pointer_the_kernels() -> None:
    Script(creat, (PATH, 0o644), memory={PATH: b"/data/x\0"}, context=session(remote=[b"/data/x"])).continues(
        Reason.WRITE_ACCESS
    )
    Script(creat, (1, 0o644)).continues(Reason.BAD_ARGUMENT)
    Script(open_, (1, 0)).continues(Reason.BAD_ARGUMENT)


def test_creat_of_a_mapped_path_goes_there() -> None:
    context = session(mapped={b"/a": b"/b"})
    script = Script(creat, (PATH, 0o644), memory={PATH: b"/a\0"}, context=context)
    script.runs({0: Scratch(b"/b\0")}).gets(3).keeps(Route.LOCAL)


def test_hidden_files() -> None:
    context = session(missing=[b"/k"])
    opening(b"/k", context=context).raises(errno.ENOENT, Route.MISSING)


def test_the_pods_errno() -> None:
    opening(b"/data/x").asks(request(b"/data/x")).fails(errno.EACCES).raises(errno.EACCES, Reason.FS_MODE)


def test_writing_to_the_pod_is_refused_not_done_locally() -> None:
    notices: list[str] = []

    class WritesToThePod(FakePolicy):
        """A policy as a later mode may be: what is remote is so for writing, too."""

        def file(self, path: bytes, *, write: bool = False) -> Decision:
            return super().file(path)

    context = session(WritesToThePod(remote=[b"/data/x"]), notices=notices)
    opening(b"/data/x", os.O_RDWR, context=context).raises(errno.EROFS, Route.REMOTE)
    assert len(notices) == 1


def test_a_directory_is_an_empty_one_with_known_entries() -> None:
    script = opening(b"/data", os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK)
    script.asks(request(b"/data", X86_64.directory)).replies(LISTING)
    script.gives_directory(os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK).given(5).keeps()
    directory = script.context.objects.get(key_of(script.task.fds[5]))
    assert directory == RemoteDirectory(b"/data", b"/data", DIR_STAT, RECORDS, OFFSETS)
    with pytest.raises(IsADirectoryError):
        os.read(script.task.fds[5], 1)


def test_a_directory_opened_without_saying_so() -> None:
    script = opening(b"/data").asks(request(b"/data")).replies(LISTING)
    script.gives_directory(0).given(5).keeps()
    script = opening(b"/data/", os.O_NOFOLLOW).asks(request(b"/data", X86_64.directory)).replies(LISTING)
    script.gives_directory(os.O_DIRECTORY).given(5).keeps()


def test_no_descriptor_is_left_of_a_directory_that_was_refused() -> None:
    before = open_fds()
    script = opening(b"/data").asks(request(b"/data")).replies(LISTING, memfd())
    script.gives_directory(0).given(-errno.EMFILE).raises(errno.EMFILE)
    assert open_fds() == before
    assert not script.context.objects


def test_a_file_where_a_directory_was_demanded() -> None:
    for path, flags in ((b"/data/x", os.O_DIRECTORY), (b"/data/x/", os.O_NOFOLLOW), (b"/data/x/.", 0)):
        before = open_fds()
        script = opening(path, flags).asks(request(b"/data/x", X86_64.directory))
        script.replies(Opened(STAT, b"", False), memfd(b"x")).raises(errno.ENOTDIR)
        assert open_fds() == before
    script = opening(b"/data/x/").asks(request(b"/data/x", X86_64.directory)).fails(errno.ENOTDIR)
    script.raises(errno.ENOTDIR)


def test_nofollow_is_the_pods_business() -> None:
    script = opening(b"/data/x", os.O_NOFOLLOW).asks(request(b"/data/x", X86_64.nofollow))
    script.fails(errno.ELOOP).raises(errno.ELOOP)


@pytest.mark.parametrize("message", [Done(), Opened(STAT, b"", False), LISTING])
def test_replies_that_make_no_sense(message: Any) -> None:
    before = open_fds()
    if isinstance(message, OpenedDirectory):
        message = replace(message, types=())
    fd = memfd() if isinstance(message, Done) else -1
    opening(b"/data/x").asks(request(b"/data/x")).replies(message, fd).raises(errno.EPROTO, Route.REMOTE)
    assert open_fds() == before


def test_path_only() -> None:
    for flags, follow, attributes in (
        (os.O_PATH, True, STAT),
        (os.O_PATH | os.O_RDWR | os.O_CREAT, True, STAT),
        (os.O_PATH | os.O_NOFOLLOW, False, LINK_STAT),
        (os.O_PATH | os.O_DIRECTORY, True, DIR_STAT),
    ):
        script = opening(b"/data/x", flags | os.O_CLOEXEC).asks(Stat(b"/data/x", follow)).replies(Attributes(attributes))
        if attributes is DIR_STAT:
            script.gives_directory(os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC).given(4).keeps()
        else:
            script.gives(b"", os.O_PATH | os.O_CLOEXEC).given(4).keeps()
        found = script.context.objects.get(key_of(script.task.fds[4]))
        assert found is not None
        assert found.stat == attributes
        assert isinstance(found, RemoteDirectory) == (attributes is DIR_STAT)
    script = opening(b"/data/x/", os.O_PATH).asks(Stat(b"/data/x", True))
    script.replies(Attributes(STAT)).raises(errno.ENOTDIR)


def with_directory(context: Context) -> FakeTask:
    # A thread that has the pod directory /data open as fd 5.
    task = FakeTask()
    task.fds[5] = empty_directory()
    context.objects.add(key_of(task.fds[5]), RemoteDirectory(b"/data", b"/data", DIR_STAT, RECORDS, OFFSETS))
    return task


def test_relative_to_a_pod_directory() -> None:
    context = session(remote=[b"/data/x"])
    task = with_directory(context)
    script = Script(openat, (5, PATH, 0), memory={PATH: b"x\0"}, context=context, task=task)
    script.asks(request(b"/data/x")).replies(Opened(STAT, b"", False), memfd(b"y")).gives(b"y", 0).given(6).keeps()


def test_relative_to_a_pod_directory_but_local() -> None:
    context = session()
    task = with_directory(context)
    script = Script(openat, (5, PATH, os.O_RDWR), memory={PATH: b"x.py/\0"}, context=context, task=task)
    script.runs({1: Scratch(b"/data/x.py/\0")}).gets(-errno.ENOENT).keeps(Route.LOCAL)


def test_a_directory_again_through_proc() -> None:
    context = session()
    task = with_directory(context)
    os.lseek(task.fds[5], 24, os.SEEK_SET)
    script = opening(b"/proc/self/fd/5", os.O_DIRECTORY, context=context, task=task)
    script.gives_directory(os.O_DIRECTORY).given(6).keeps(Reason.REMOTE_OBJECT)
    first, second = (context.objects.get(key_of(task.fds[fd])) for fd in (5, 6))
    assert first is second
    assert [os.lseek(task.fds[fd], 0, os.SEEK_CUR) for fd in (5, 6)] == [24, 0]


def test_a_file_again_through_proc_is_the_kernels() -> None:
    context = session()
    task = FakeTask()
    task.keys[3] = (9, 9)
    context.objects.add((9, 9), RemoteFile(b"/data/x", b"/data/x", STAT))
    opening(b"/proc/self/fd/3", context=context, task=task).continues(Reason.REMOTE_OBJECT)
    opening(b"/proc/self/fd/3", os.O_DIRECTORY, context=context, task=task).raises(errno.ENOTDIR)
    opening(b"/proc/self/fd/3/", context=context, task=task).raises(errno.ENOTDIR)
    opening(b"/proc/self/fd/3", os.O_NOFOLLOW, context=context, task=task).continues(Route.LOCAL)


def test_hostname_file_without_a_round_trip() -> None:
    script = opening(b"/proc/sys/kernel/hostname", os.O_CLOEXEC)
    script.gives(b"pod-7f9c\n", os.O_CLOEXEC).given(3).keeps(Reason.POD_HOSTNAME)
    found = script.context.objects.get(key_of(script.task.fds[3]))
    assert found is not None
    assert stat.S_ISREG(found.stat.mode)
    opening(b"/proc/sys/kernel/hostname", os.O_RDWR).continues(Route.LOCAL)
    opening(b"/proc/sys/kernel/hostname/").raises(errno.ENOTDIR)
