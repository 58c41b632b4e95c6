"""Which file a path argument means."""

from __future__ import annotations

import errno
import os
import posixpath

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Continue, Reason, Route, SyscallError
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files import place as places
from mirrord_trace.syscalls.files.place import Place, find, normalise
from mirrord_trace.syscalls.objects import RemoteDirectory, RemoteFile
from script import STAT, FakeTask, session

PATH = 0x1000
DIRECTORY = RemoteDirectory(b"/srv/dir", b"/pod/dir", STAT)
FILE = RemoteFile(b"/srv/file", b"/srv/file", STAT)


def at(path: bytes, **fds: tuple[int, int]) -> FakeTask:
    task = FakeTask({PATH: path + b"\0"})
    task.keys = {int(name[2:]): key for name, key in fds.items()}
    return task


def with_objects(context: Context) -> Context:
    context.objects.add((9, 1), DIRECTORY)
    context.objects.add((9, 2), FILE)
    return context


@pytest.mark.parametrize(
    ("path", "name", "directory"),
    [
        (b"/", b"/", True),
        (b"//", b"/", True),
        (b"/a/b", b"/a/b", False),
        (b"/a//b", b"/a/b", False),
        (b"/a/b/", b"/a/b", True),
        (b"/a/./b/.", b"/a/b", True),
        (b"/a/../b", b"/b", False),
        (b"/../..", b"/", True),
        (b"/a/b/..", b"/a", True),
        (b"/.hidden/...", b"/.hidden/...", False),
    ],
)
def test_normalise(path: bytes, name: bytes, directory: bool) -> None:
    assert normalise(path) == (name, directory)


@given(st.text("ab./", max_size=20))
def test_normalise_agrees_with_the_standard_library(text: str) -> None:
    path = ("/" + text).encode()
    name, directory = normalise(path)
    # POSIX lets two leading slashes mean something else; Linux does not.
    assert name == b"/" + posixpath.normpath(path).lstrip(b"/")
    assert directory == (path.split(b"/")[-1] in (b"", b".", b".."))


def test_a_local_path_costs_one_read_and_one_question_ever() -> None:
    context = session()
    task = at(b"/usr/lib//x.so")
    first = find(context, task, AT_FDCWD, PATH)
    assert isinstance(first, Continue)
    assert first.decision.reason is Reason.DEFAULT_LOCAL
    assert find(context, task, 77, PATH) is first
    assert task.reads == 2
    assert context.policy.asked == [b"/usr/lib/x.so"]  # type: ignore[attr-defined]


def test_reading_and_writing_are_remembered_apart() -> None:
    context = session(remote=[b"/data/x"])
    task = at(b"/data/x")
    written = find(context, task, AT_FDCWD, PATH, write=True)
    assert isinstance(written, Continue)
    assert written.decision.reason is Reason.WRITE_ACCESS
    read = find(context, task, AT_FDCWD, PATH)
    assert isinstance(read, Place)
    assert read.decision.route is Route.REMOTE


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_KNOWN_LIMIT", 3)
    context = session()
    for number in range(10):
        find(context, at(b"/usr/%d" % number), AT_FDCWD, PATH)
    assert 1 <= len(context.local_reads) <= 3


@pytest.mark.parametrize("dirfd", [AT_FDCWD, 2**64 - 100, 0xFFFFFF9C, 5])
def test_relative_paths_are_local_without_a_look(dirfd: int) -> None:
    task = at(b"sub/x")
    assert find(session(), task, dirfd, PATH) is places.RELATIVE_PATH
    assert task.reads == 1


def test_relative_to_the_current_directory_looks_at_no_fd() -> None:
    task = at(b"x", fd5=(9, 1))
    assert find(with_objects(session()), task, AT_FDCWD, PATH) is places.RELATIVE_PATH
    assert task.reads == 1


@pytest.mark.parametrize("memory", [{}, {PATH: b"x" * 10}, {PATH: b"/" * 4096}, {PATH: b"\0"}])
def test_bad_paths_are_the_kernels(memory: dict[int, bytes]) -> None:
    assert find(session(), FakeTask(memory), AT_FDCWD, PATH) is places.BAD_ARGUMENT


def test_hidden_paths() -> None:
    with pytest.raises(SyscallError) as caught:
        find(session(missing=[b"/home/u/.kube"]), at(b"/home/u/.kube/"), AT_FDCWD, PATH)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.decision is not None
    assert caught.value.decision.route is Route.MISSING


def test_below_a_pod_directory() -> None:
    context = with_objects(session(remote=[b"/srv/dir/a", b"/srv"], mapped={b"/srv/dir/a": b"/pod/dir/a"}))
    found = find(context, at(b"./a/", fd5=(9, 1)), 5, PATH)
    assert isinstance(found, Place)
    assert (found.name, found.decision.path, found.base) == (b"/srv/dir/a", b"/pod/dir/a", b"/pod/dir")
    assert found.directory
    up = find(context, at(b"..", fd5=(9, 1)), 5, PATH)
    assert isinstance(up, Place)
    assert up.name == b"/srv"


def test_below_a_pod_directory_but_local_by_policy() -> None:
    found = find(with_objects(session()), at(b"x.py", fd5=(9, 1)), 5, PATH)
    assert isinstance(found, Place)
    assert (found.name, found.decision.route) == (b"/srv/dir/x.py", Route.LOCAL)


@pytest.mark.parametrize(("fd", "path", "error"), [(6, b"x", errno.ENOTDIR), (5, b"x/" * 2045, errno.ENAMETOOLONG)])
def test_impossible_below_pod_objects(fd: int, path: bytes, error: int) -> None:
    with pytest.raises(SyscallError) as caught:
        find(with_objects(session()), at(path, fd5=(9, 1), fd6=(9, 2)), fd, PATH)
    assert caught.value.errno == error


def test_empty_path_means_the_descriptor_if_asked_for() -> None:
    context = with_objects(session())
    for address in (PATH, 0):
        task = at(b"", fd5=(9, 2), fd7=(1, 1))
        found = find(context, task, 5, address, empty=True)
        assert isinstance(found, Place)
        assert found.remote is FILE
        assert find(context, task, 7, address, empty=True) is places.LOCAL_OBJECT
        assert find(context, task, AT_FDCWD, address, empty=True) is places.LOCAL_OBJECT
        assert find(context, task, 5, address) is places.BAD_ARGUMENT
    assert find(session(), at(b"", fd5=(9, 2)), 5, PATH, empty=True) is places.LOCAL_OBJECT


@pytest.mark.parametrize(
    "path",
    [
        b"/proc/self/fd/5", b"/proc/thread-self/fd/5", b"/proc/4242/fd/5", b"/dev/fd/5", b"/proc/self/task/4242/fd/5",
        b"/proc//self/./fd/5",
    ],
)  # fmt: skip
def test_descriptors_in_proc(path: bytes) -> None:
    context = with_objects(session())
    found = find(context, at(path, fd5=(9, 2)), AT_FDCWD, PATH)
    assert isinstance(found, Place)
    assert (found.remote, found.proc_fd) == (FILE, 5)
    itself = find(context, at(path, fd5=(9, 2)), AT_FDCWD, PATH, follow=False)
    assert isinstance(itself, Continue)
    local = find(context, at(path, fd5=(1, 1)), AT_FDCWD, PATH)
    assert isinstance(local, Continue)
    assert not context.local_reads, "what a number in /proc means changes"


@pytest.mark.parametrize("path", [b"/proc/1/fd/5", b"/proc/self/fd/4294967301", b"/proc/self/fd/05x", b"/proc/self/fd"])
def test_other_places_in_proc_are_local(path: bytes) -> None:
    found = find(with_objects(session()), at(path, fd5=(9, 2)), AT_FDCWD, PATH)
    assert isinstance(found, Continue)


def test_below_a_descriptor_in_proc() -> None:
    context = with_objects(session(remote=[b"/srv/dir/a"]))
    found = find(context, at(b"/proc/self/fd/5/a", fd5=(9, 1)), AT_FDCWD, PATH, follow=False)
    assert isinstance(found, Place)
    assert (found.name, found.base, found.proc_fd, found.directory) == (b"/srv/dir/a", b"", 5, False)
    with pytest.raises(SyscallError) as caught:
        find(context, at(b"/proc/self/fd/6/a", fd6=(9, 2)), AT_FDCWD, PATH)
    assert caught.value.errno == errno.ENOTDIR


def test_hostname_file() -> None:
    path = places.HOSTNAME_FILE
    found = find(session(), at(path), AT_FDCWD, PATH)
    assert isinstance(found, Place)
    assert found.decision.reason is Reason.POD_HOSTNAME
    assert found.remote is not None
    assert found.remote.stat.size == len(places.hostname_content(session())) == len(b"pod-7f9c\n")
    for context, write in ((session(), True), (session(pod_hostname=False), False)):
        assert isinstance(find(context, at(path), AT_FDCWD, PATH, write=write), Continue)


def test_a_local_path_that_comes_out_of_a_pod_directory() -> None:
    context = session(remote=[b"/data"])
    found = find(context, at(b"/data/.."), AT_FDCWD, PATH)
    assert isinstance(found, Place)
    assert (found.name, found.decision.route, found.directory) == (b"/", Route.LOCAL, True)
    for path in (b"/usr/../tmp", b"/../data/x", b"/data/..hidden"):
        assert isinstance(find(context, at(path), AT_FDCWD, PATH), Continue)


def test_a_mapped_local_path_is_a_place() -> None:
    found = find(session(mapped={b"/a": b"/b"}), at(b"/a"), AT_FDCWD, PATH)
    assert isinstance(found, Place)
    assert (found.decision.route, found.decision.path) == (Route.LOCAL, b"/b")


def test_fds_are_closed_with_their_fakes() -> None:
    task = FakeTask()
    task.fds[3] = fd = os.open("/", os.O_RDONLY)
    task.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


@pytest.mark.parametrize("path", [b"/proc/4242/net/route", b"/proc/4242/task/4242/net/route", b"/proc/4242/net"])
def test_the_network_of_the_process_itself(path: bytes) -> None:
    own = path.replace(b"4242/task/", b"").replace(b"4242", b"self")
    found = find(session(remote=[own]), at(path), AT_FDCWD, PATH)
    assert isinstance(found, Place)
    assert (found.name, found.decision.route, found.decision.path) == (path, Route.REMOTE, own)
    assert isinstance(find(session(), at(path), AT_FDCWD, PATH), Continue)
    assert isinstance(find(session(remote=[own]), at(path.replace(b"4242", b"4243", 1)), AT_FDCWD, PATH), Continue)
