"""From path arguments to files, where the pod's tree is mounted."""

from __future__ import annotations

import errno
from typing import Any

import pytest
from mirrord_trace.syscalls.abi.flags import AT_FDCWD
from mirrord_trace.syscalls.actions import Continue, Decision, Reason, Route, SyscallError
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.find import REMOTE_OBJECT, find, is_magic, opened_path
from mirrord_trace.syscalls.files.place import BAD_ARGUMENT, LOCAL_OBJECT, RELATIVE_PATH, Place
from script import FakeTask, mounted, session

PATH = 0x1000
REMOTE = [b"/app", b"/app/x", b"/app/y", b"/app/d/x"]


def at(context: Context, path: bytes, dirfd: int = AT_FDCWD, task: FakeTask | None = None, **how: Any) -> Continue | Place:
    task = task or FakeTask()
    task.memory[PATH] = bytearray(path + b"\0")
    return find(context, task, dirfd & 0xFFFF_FFFF_FFFF_FFFF, PATH, **how)


def inside(path: bytes, cwd: bytes = b"/app", context: Context | None = None, **how: Any) -> Continue | Place:
    task = FakeTask()
    task.enters(AT_FDCWD, cwd)
    return at(context or mounted(is_used=True, remote=REMOTE), path, task=task, **how)


def test_absolute_paths_are_decided_by_their_text() -> None:
    context = mounted(remote=REMOTE)
    assert at(context, b"//app/./x/") == Place(b"/app/x", Decision(Route.REMOTE, Reason.FS_MODE, b"/app/x"), True, tail=b"/")
    climbing = Decision(Route.REMOTE, Reason.FS_MODE, b"/app/x/y/..")  # y may be a link
    assert at(context, b"/app/./x/y/..") == Place(b"/app/x", climbing, True, tail=b"/.")
    local = at(context, b"/usr/x")
    assert isinstance(local, Continue)
    assert context.local_reads == {b"/usr/x": local}
    assert isinstance(at(context, b"/app/x", write=True), Continue)
    assert list(context.local_writes) == [b"/app/x"]
    with pytest.raises(SyscallError) as caught:
        at(mounted(missing=[b"/hidden"]), b"/hidden")
    assert caught.value.errno == errno.ENOENT


def test_a_local_path_by_way_of_a_pod_directory_is_written_anew() -> None:
    assert at(mounted(remote=REMOTE), b"/app/../usr/x") == Place(b"/usr/x", Decision(Route.LOCAL, Reason.DEFAULT_LOCAL))


def test_bad_arguments_and_descriptors_are_the_kernels() -> None:
    context, task = mounted(is_used=True), FakeTask()
    assert find(context, task, AT_FDCWD, 1) is BAD_ARGUMENT
    assert find(context, task, 5, 0) is BAD_ARGUMENT
    assert find(context, task, 5, 0, empty=True) is LOCAL_OBJECT
    assert at(context, b"") is BAD_ARGUMENT
    assert at(context, b"", 5, empty=True) is LOCAL_OBJECT


def test_what_is_relative_to_an_open_root_directory_is_absolute() -> None:
    task = FakeTask()
    task.enters(5, b"/")
    task.enters(6, b"/usr")
    remote = Place(b"/app/x", Decision(Route.REMOTE, Reason.FS_MODE, b"/app/x"))
    assert at(mounted(remote=REMOTE), b"app/x", 5, task) == remote
    assert at(mounted(remote=REMOTE), b"../app/x", 5, task) == remote
    assert isinstance(at(mounted(remote=REMOTE), b"usr", 5, task), Continue)
    assert at(mounted(remote=REMOTE), b"app/x", 6, task) is RELATIVE_PATH


def test_relative_paths_are_not_looked_at_while_nobody_has_a_pod_directory() -> None:
    task = FakeTask()
    task.enters(AT_FDCWD, b"/app")
    assert at(mounted(remote=REMOTE), b"x", task=task) is RELATIVE_PATH
    assert task.reads == 1


def test_behind_a_pod_directory_the_kernel_walks() -> None:
    assert inside(b"x") == Place(b"/app/x", Decision(Route.REMOTE, Reason.FS_MODE, b"/app/x"), base=b"/app")
    task = FakeTask()
    task.enters(7, b"/app/d")
    context = mounted(is_used=True, remote=REMOTE)
    place = at(context, b"../y", 7, task)
    assert isinstance(place, Place)
    assert (place.decision.path, place.base) == (b"/app/y", b"/app/d")
    assert at(context, b"x", 8, task) is RELATIVE_PATH
    assert at(context, b"x", -5, task) is RELATIVE_PATH


def test_behind_what_is_no_directory_is_nothing() -> None:
    task = FakeTask()
    task.enters(7, b"/app/d", is_directory=False)  # O_PATH|O_NOFOLLOW of a link to a directory, for one
    context = mounted(is_used=True, remote=REMOTE, missing=[b"/app/hidden"])
    for path in (b"x", b"../y", b"../../usr/x", b"../hidden"):
        assert at(context, path, 7, task) is REMOTE_OBJECT  # for the kernel to say ENOTDIR, or what comes before that


def test_a_name_that_may_be_a_link_is_climbed_out_of_by_the_kernel() -> None:
    as_written = {b"d/../x": b"/app/d/../x", b"../app/d/../x": b"/app/../app/d/../x", b"./d/..//x": b"/app/d/../x"}
    for path, written in as_written.items():
        place = inside(path)
        assert isinstance(place, Place)
        assert (place.base, place.decision.path) == (b"/app", written)
    for path in (b"../app/x", b"x..", b"./x"):
        assert isinstance(inside(path, context=mounted(is_used=True, remote=[*REMOTE, b"/app/x.."])), Place)


def test_what_policy_sends_elsewhere_is_an_absolute_path() -> None:
    assert inside(b"../usr/x") == Place(b"/usr/x", Decision(Route.LOCAL, Reason.DEFAULT_LOCAL))
    assert inside(b"x", write=True) == Place(b"/app/x", Decision(Route.LOCAL, Reason.WRITE_ACCESS))
    context = mounted(is_used=True, remote=REMOTE, mapped={b"/app/x": b"/other"})
    assert inside(b"x", context=context) == Place(b"/app/x", Decision(Route.REMOTE, Reason.FS_MODE, b"/other"))
    with pytest.raises(SyscallError):
        inside(b"x", context=mounted(is_used=True, missing=[b"/app/x"]))


def test_a_mapped_directory_is_known_by_the_tracees_name() -> None:
    context = mounted(is_used=True, remote=[b"/d", b"/d/s/x"], mapped={b"/d": b"/pod/d", b"/d/s/x": b"/pod/d/s/x"})
    assert isinstance(at(context, b"/d"), Place)
    place = inside(b"x", b"/pod/d/s", context)
    assert isinstance(place, Place)
    assert (place.name, place.base) == (b"/d/s/x", b"/pod/d/s")


def test_a_directory_without_a_name_or_with_too_long_a_name_is_the_kernels() -> None:
    context = mounted(is_used=True, remote=[b"/app (deleted)/x"])
    found = inside(b"x", b"/app (deleted)", context)
    assert isinstance(found, Continue)
    assert found.decision.route is Route.REMOTE
    assert inside(b"x", b"") is REMOTE_OBJECT


def test_what_is_open() -> None:
    task = FakeTask()
    task.enters(7, b"/app")
    assert opened_path(mounted(), task, 7) is None
    context = mounted(is_used=True)
    assert opened_path(context, task, 7) == b"/app"
    assert opened_path(context, task, 8) is None
    assert opened_path(context, task, 2**64 - 1) is None


def test_special_paths_are_not_remembered() -> None:
    context, task = mounted(remote=[b"/pod/prog", b"/proc/self/net/dev"]), FakeTask()
    for path in (b"/proc/self/exe", b"/proc/4242/exe"):
        assert isinstance(at(context, path, task=task), Continue)
        task.programs = {4242: b"/pod/prog"}
        place = at(context, path, task=task)
        assert isinstance(place, Place)
        assert place.decision.path == b"/pod/prog"
        assert isinstance(at(context, path, task=task, follow=False), Continue)
        task.programs = {4242: b"/usr/prog"}
        assert isinstance(at(context, path, task=task), Continue)
        task.programs = {}
    hostname = at(context, b"/proc/sys/kernel/hostname")
    assert isinstance(hostname, Place)
    assert hostname.remote is not None
    network = at(context, b"/proc/4242/net/dev")
    assert isinstance(network, Place)
    assert network.decision.path == b"/proc/self/net/dev"
    assert isinstance(at(context, b"/proc/4242/net/x"), Continue)
    assert not context.local_reads


def test_magic_links() -> None:
    assert [is_magic(path) for path in (b"/proc/self/fd/5", b"/dev/fd/5", b"/dev/stdin", b"/usr", b"x")] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_without_a_mount_nothing_here_runs() -> None:
    with pytest.raises(AssertionError):
        at(session(), b"x")
