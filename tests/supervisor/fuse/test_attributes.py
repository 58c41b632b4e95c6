from __future__ import annotations

import errno
import os
import stat
import struct
from collections.abc import Callable
from typing import Any

import pytest
from fakekernel import ROOT, Clock, Kernel
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import (
    SET_ATIME,
    SET_GID,
    SET_MODE,
    SET_MTIME,
    SET_MTIME_NOW,
    SET_SIZE,
    SET_UID,
    GetXattr,
    SetAttributes,
    SetXattr,
    StatHandle,
)
from mirrord_trace.agent.wire.file_messages import Content as Value
from mirrord_trace.agent.wire.file_messages import FileSystem as FileSystemReply
from mirrord_trace.agent.wire.messages import Access, Done, Failed
from mirrord_trace.supervisor.fuse import protocol
from mirrord_trace.supervisor.fuse.protocol import Op

KILL = protocol.FATTR_KILL_SUIDGID


def fails(code: int, call: Callable[[], Any]) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == code


def valid_s(body: bytes) -> float:
    seconds, nanoseconds = struct.unpack_from("=QI", body)
    return float(seconds + nanoseconds / 1e9)


# -- GETATTR ------------------------------------------------------------------------------------------------------------


def test_attributes_are_asked_for_when_they_are_not_known(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    pod.take()
    attr = kernel.getattr(number)
    real = (pod.folder / "a").stat()
    assert (attr.size, attr.mode) == (5, real.st_mode)
    assert (attr.mtime, attr.mtimensec) == divmod(real.st_mtime_ns, 10**9)
    assert pod.take() == []
    clock.passes(0.5)
    assert valid_s(kernel.finish(kernel.begin_getattr(number))) == 0.5
    clock.passes(0.5)
    assert valid_s(kernel.finish(kernel.begin_getattr(number))) == 1.0
    assert pod.take() == ["Walk"]


def test_attributes_of_the_root(pod: Pod, kernel: Kernel) -> None:
    attr = kernel.getattr(ROOT)
    assert stat.S_ISDIR(attr.mode)
    assert attr.ino == pod.folder.stat().st_ino
    assert pod.take() == ["Walk"]


def test_statx_has_the_birth_time(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    body = kernel.call(kernel.attributes.statx, Op.STATX, kernel.node("a"), protocol.STATX_IN.pack(0, 0, 0, 0xFFF))
    assert len(body) == 288
    assert struct.unpack_from("=Q", body, 32 + 40) == (5,)


def test_attributes_of_an_open_file_come_by_its_handle(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    handle = kernel.open(number)
    clock.passes(1.0)
    pod.take()
    assert kernel.getattr(number).size == 5
    assert pod.asked == [StatHandle(handle)]


def test_what_an_open_file_is_like_says_nothing_of_what_is_at_its_path(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    """tail -F: somebody in the pod has rotated the log. It looks at the open file and at the name once a second."""
    pod.write("log", "old")
    number = kernel.node("log")
    handle = kernel.open(number)
    clock.passes(1.0)
    (pod.folder / "log").rename(pod.folder / "log.1")
    pod.write("log", "newer")
    assert kernel.getattr(number, handle).size == 3
    entry = kernel.lookup("log")
    assert (entry.node != number, entry.attr.size) == (True, 5)
    assert kernel.getattr(number, handle).size == 3


def test_a_file_that_is_not_there_any_more(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a")
    number = kernel.node("a")
    (pod.folder / "a").unlink()
    clock.passes(1.0)
    fails(errno.ENOENT, lambda: kernel.getattr(number))
    fails(errno.ESTALE, lambda: kernel.getattr(number))
    fails(errno.ESTALE, lambda: kernel.getattr(999))


def test_another_file_in_its_place_is_not_it(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a", "old")
    number = kernel.node("a")
    pod.replace("a", b"newer")
    clock.passes(1.0)
    fails(errno.ESTALE, lambda: kernel.getattr(number))
    fails(errno.ESTALE, lambda: kernel.setattr(number, SET_MODE, mode=0o600))
    assert stat.S_IMODE((pod.folder / "a").stat().st_mode) == 0o644
    again = kernel.lookup("a")
    assert (again.node != number, again.attr.size) == (True, 5)


def test_a_file_renamed_while_it_is_looked_at(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    clock.passes(1.0)
    looking = kernel.begin_getattr(number)
    renaming = kernel.begin_rename("a", "b")
    pod.answer(1)
    renaming.body()
    assert len(kernel.finish(looking)) == 104
    assert kernel.inode(number).path == b"/b"


def test_other_names_of_a_file_whose_last_one_has_gone(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a", "hello")
    (pod.folder / "b").hardlink_to(pod.folder / "a")
    number = kernel.node("a")
    assert kernel.node("b") == number
    (pod.folder / "b").unlink()
    clock.passes(1.0)
    assert kernel.getattr(number).nlink == 1


# -- SETATTR ------------------------------------------------------------------------------------------------------------


def test_setattr_is_one_round_trip_and_its_answer_counts(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    pod.take()
    before = kernel.generation.now
    what = SET_MODE | SET_SIZE | SET_UID | SET_GID
    attr = kernel.setattr(number, what, mode=0o100600, size=2, uid=os.getuid(), gid=os.getgid())
    assert (attr.mode, attr.size) == (0o100600, 2)
    assert kernel.generation.now > before
    assert kernel.getattr(number) == attr == kernel.lookup("a").attr
    assert pod.take() == ["SetAttributes"]


@pytest.mark.parametrize(
    ("seconds", "nanoseconds", "sent"),
    [
        (5, 7, 5_000_000_007),
        (-5, 7, -4_999_999_993),
        (32_503_680_000, 0, 2**63 - 1),  # the year 3000
        (-(2**62), 0, -(2**63) + 1),
    ],
)
def test_times(pod: Pod, kernel: Kernel, seconds: int, nanoseconds: int, sent: int) -> None:
    pod.write("a")
    number = kernel.node("a")
    call = kernel.begin_setattr(number, SET_ATIME | SET_MTIME, atime=seconds, atime_ns=nanoseconds, mtime=seconds)
    message = pod.asked[-1]
    assert isinstance(message, SetAttributes)
    assert (message.what, message.atime_ns) == (SET_ATIME | SET_MTIME, sent)
    assert -(2**63) < message.mtime_ns < 2**63
    kernel.finish(call)


def test_the_time_of_now_is_the_pods(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    kernel.setattr(kernel.node("a"), SET_MTIME | SET_MTIME_NOW | 1024 | protocol.FATTR_LOCKOWNER)
    message = pod.asked[-1]
    assert isinstance(message, SetAttributes)
    assert message.what == SET_MTIME | SET_MTIME_NOW


def test_ftruncate_by_the_handle(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello", 0o600)
    number = kernel.node("a")
    handle = kernel.open(number, os.O_RDWR)
    assert kernel.read(handle) == b"hello"
    kernel.begin_write(handle, 5, b" there").body()
    assert kernel.setattr(number, SET_SIZE, handle=handle, size=2).size == 2
    message = pod.asked[-1]
    assert isinstance(message, SetAttributes)
    assert message.handle == handle
    assert kernel.read(handle) == b"he"
    assert kernel.lookup("a").attr.size == 2


def test_setattr_of_an_open_file_says_nothing_of_what_is_at_its_path(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a", "old")
    number = kernel.node("a")
    handle = kernel.open(number, os.O_RDWR)
    clock.passes(1.0)
    (pod.folder / "a").rename(pod.folder / "b")
    pod.write("a", "newer")
    kernel.setattr(number, SET_SIZE, handle=handle, size=1)
    assert kernel.lookup("a").attr.size == 5


def test_setattr_of_a_file_that_has_no_name(pod: Pod, kernel: Kernel) -> None:
    entry, _ = kernel.create("a")
    kernel.unlink("a")
    assert kernel.setattr(entry.node, SET_MODE, mode=0o600).mode & 0o777 == 0o600


def test_an_answer_that_was_overtaken_by_a_write_is_not_learnt(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    handle = kernel.open(number, os.O_WRONLY)
    changing = kernel.begin_setattr(number, SET_MODE, mode=0o600)
    pod.carry_out()
    kernel.begin_write(handle, 5, b" there").body()
    pod.answer(1)
    kernel.finish(changing)
    assert kernel.getattr(number).size == 11


def test_a_change_that_fails(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    pod.refusals[SetAttributes] = errno.EPERM
    fails(errno.EPERM, lambda: kernel.setattr(number, SET_MODE, mode=0o600))
    pod.take()
    assert kernel.getattr(number).mode & 0o777 == 0o644
    assert pod.take() == ["Walk"]  # what has become of it had to be asked for


@pytest.mark.parametrize(
    ("mode", "what", "kept"),
    [
        (0o6755, SET_SIZE, 0o755),
        (0o6745, SET_SIZE, 0o2745),
        (0o6755, SET_UID, 0o755),
        (0o6755, SET_UID | SET_MODE, 0o4700),
    ],
)
def test_set_id_bits_that_the_kernel_wants_dropped(pod: Pod, kernel: Kernel, mode: int, what: int, kept: int) -> None:
    pod.write("tool", "hello", mode)
    number = kernel.node("tool")
    attr = kernel.setattr(number, what | KILL, mode=0o4700, size=1, uid=os.getuid())
    assert attr.mode & 0o7777 == kept == stat.S_IMODE((pod.folder / "tool").stat().st_mode)


def test_a_directory_that_has_changed_may_show_something_else(pod: Pod, kernel: Kernel) -> None:
    pod.write("d/x")
    kernel.node("d/x")
    kernel.setattr(kernel.node("d"), SET_MODE, mode=0o700)
    assert kernel.tree.knowledge.look(b"/d/x") is None


# -- ACCESS, STATFS -----------------------------------------------------------------------------------------------------


def test_access(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    pod.take()
    for mask in (os.R_OK, os.F_OK):
        assert kernel.call(kernel.attributes.access, Op.ACCESS, number, protocol.ACCESS_IN.pack(mask)) == b""
    assert pod.asked == [Access(b"/a", os.R_OK, False)]
    pod.refusals[Access] = errno.EACCES
    fails(errno.EACCES, lambda: kernel.call(kernel.attributes.access, Op.ACCESS, number, protocol.ACCESS_IN.pack(os.X_OK)))


def statfs(kernel: Kernel, number: int) -> tuple[int, ...]:
    return struct.unpack_from("=QQQQQIII", kernel.call(kernel.attributes.statfs, Op.STATFS, number, b""))


def test_statfs(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a")
    number = kernel.node("a")
    real = os.statvfs(pod.folder)
    pod.take()
    for _ in range(2):
        found = statfs(kernel, number)
        assert (found[0], found[5], found[6], found[7]) == (real.f_blocks, real.f_bsize, real.f_namemax, real.f_frsize)
    assert pod.take() == ["StatFs"]
    clock.passes(1.0)
    statfs(kernel, number)
    assert pod.take() == ["StatFs"]


def test_statfs_of_several_file_systems(pod: Pod, kernel: Kernel) -> None:
    """df asks for one after the other."""
    pod.write("a")
    pod.write("b")
    one, other = kernel.node("a"), kernel.node("b")
    kernel.inode(other).key = (99, *kernel.inode(other).key[1:])
    statfs(kernel, one)
    asking = kernel.begin(kernel.attributes.statfs, Op.STATFS, other, b"")
    pod.answer(0, FileSystemReply(*range(8)))
    assert struct.unpack_from("=QQQQQIII", asking.body()) == tuple(range(8))
    assert statfs(kernel, one)[0] == os.statvfs(pod.folder).f_blocks


# -- extended attributes ------------------------------------------------------------------------------------------------


def getxattr(kernel: Kernel, number: int, size: int, name: bytes = b"user.a") -> bytes:
    body = protocol.GETXATTR_IN.pack(size) + name + b"\0"
    return kernel.call(kernel.attributes.getxattr, Op.GETXATTR, number, body)


def listxattr(kernel: Kernel, number: int, size: int) -> bytes:
    return kernel.call(kernel.attributes.listxattr, Op.LISTXATTR, number, protocol.GETXATTR_IN.pack(size))


def test_values_and_their_sizes(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    asking = kernel.begin(kernel.attributes.getxattr, Op.GETXATTR, number, protocol.GETXATTR_IN.pack(0) + b"user.a\0")
    assert pod.asked[-1] == GetXattr(b"/a", 0, b"user.a")
    pod.answer(0, Value(b"value"))
    assert asking.body() == struct.pack("=II", 5, 0)
    for size, result in ((5, b"value"), (99, b"value")):
        asking = kernel.begin(kernel.attributes.getxattr, Op.GETXATTR, number, protocol.GETXATTR_IN.pack(size) + b"user.a\0")
        pod.answer(0, Value(b"value"))
        assert asking.body() == result
    asking = kernel.begin(kernel.attributes.getxattr, Op.GETXATTR, number, protocol.GETXATTR_IN.pack(4) + b"user.a\0")
    pod.answer(0, Value(b"value"))
    fails(errno.ERANGE, asking.body)


def test_setting_listing_and_removing(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    before = kernel.generation.now
    setting = kernel.begin(
        kernel.attributes.setxattr, Op.SETXATTR, number, protocol.SETXATTR_IN.pack(5, os.XATTR_CREATE) + b"user.a\0va\0ue"
    )
    assert pod.asked[-1] == SetXattr(b"/a", 0, b"user.a", b"va\0ue", os.XATTR_CREATE)
    pod.answer(0, Done())
    assert setting.body() == b""
    assert kernel.generation.now > before
    listing = kernel.begin(kernel.attributes.listxattr, Op.LISTXATTR, number, protocol.GETXATTR_IN.pack(64))
    pod.answer(0, Value(b"user.a\0"))
    assert listing.body() == b"user.a\0"
    removing = kernel.begin(kernel.attributes.removexattr, Op.REMOVEXATTR, number, b"user.a\0")
    pod.answer(0, Failed(errno.ENODATA))
    fails(errno.ENODATA, removing.body)


def test_what_is_known_to_have_none_is_not_asked_for(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    kernel.tree.knowledge.saw(b"/a", kernel.inode(number).stat, kernel.tree.knowledge.ticket(), no_xattrs=True)
    pod.take()
    fails(errno.ENODATA, lambda: getxattr(kernel, number, 64))
    assert listxattr(kernel, number, 64) == b""
    assert listxattr(kernel, number, 0) == bytes(8)
    assert pod.take() == []


def test_what_a_file_system_does_not_support_is_asked_once(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    pod.write("b")
    (pod.folder / "link").symlink_to("a")
    numbers = kernel.node("a"), kernel.node("b")
    pod.refusals[GetXattr] = errno.EOPNOTSUPP
    pod.take()
    for number in numbers:
        fails(errno.EOPNOTSUPP, lambda number=number: getxattr(kernel, number, 64))
    assert pod.take() == ["GetXattr"]
    fails(errno.EOPNOTSUPP, lambda: getxattr(kernel, numbers[0], 64, b"system.posix_acl_access"))
    assert pod.take() == ["GetXattr"]


def test_what_links_do_not_have_files_may_have(pod: Pod, kernel: Kernel) -> None:
    """system.posix_acl_access of a link is EOPNOTSUPP on any file system."""
    pod.write("a")
    (pod.folder / "link").symlink_to("a")
    pod.refusals[GetXattr] = errno.EOPNOTSUPP
    fails(errno.EOPNOTSUPP, lambda: getxattr(kernel, kernel.node("link"), 64, b"system.posix_acl_access"))
    pod.refusals[GetXattr] = errno.ENODATA
    fails(errno.ENODATA, lambda: getxattr(kernel, kernel.node("a"), 64, b"system.posix_acl_access"))


def test_names_without_end_are_not_all_remembered(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    pod.refusals[GetXattr] = errno.EOPNOTSUPP
    for index in range(5000):
        fails(errno.EOPNOTSUPP, lambda index=index: getxattr(kernel, number, 64, b"strange.%d" % index))
    assert len(kernel.attributes._unsupported) <= 4096


def test_a_file_without_a_name_is_asked_by_its_handle(pod: Pod, kernel: Kernel) -> None:
    entry, handle = kernel.create("a")
    kernel.unlink("a")
    pod.refusals[GetXattr] = errno.ENODATA
    fails(errno.ENODATA, lambda: getxattr(kernel, entry.node, 64))
    assert pod.asked[-1] == GetXattr(b"", handle, b"user.a")


def test_a_directory_without_attributes_is_asked_once(pod: Pod, kernel: Kernel) -> None:
    (pod.folder / "d").mkdir()
    number = kernel.node("d")
    pod.take()
    for name in (b"security.selinux", b"system.posix_acl_access", b"system.posix_acl_default"):
        fails(errno.ENODATA, lambda name=name: getxattr(kernel, number, 64, name))
    assert pod.take() == ["ListXattr"]


def test_a_directory_with_attributes(pod: Pod, kernel: Kernel) -> None:
    (pod.folder / "d").mkdir()
    os.setxattr(pod.folder / "d", "user.a", b"value")
    number = kernel.node("d")
    pod.take()
    assert getxattr(kernel, number, 64) == b"value"
    assert pod.take() == ["ListXattr", "GetXattr"]
