from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest
from fakekernel import Call, Clock, Kernel, read_entry
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import (
    CloseHandle,
    CopyRange,
    GiveUpWait,
    LockFile,
    OpenHandle,
    ReadHandle,
    SetAttributes,
    SyncHandle,
    WriteHandle,
)
from mirrord_trace.agent.wire.messages import Failed
from mirrord_trace.supervisor.fuse import protocol
from mirrord_trace.supervisor.fuse.asking import CONTENT_LIMIT
from mirrord_trace.supervisor.fuse.protocol import Op

KEEP, DIRECT = protocol.FOPEN_KEEP_CACHE, protocol.FOPEN_DIRECT_IO


def foretold(kernel: Kernel, path: str) -> int:
    """The inode of a path that the tracer has announced."""
    kernel.tree.asking.foretell(b"/" + path.encode(), True, True, False)
    return kernel.node(path)


def fails(code: int, call: Callable[[], Any]) -> None:
    with pytest.raises(OSError) as caught:
        call()
    assert caught.value.errno == code


# -- opening to read ----------------------------------------------------------------------------------------------------


def test_a_foretold_small_file_is_opened_and_read_in_one_round_trip_and_then_in_none(pod: Pod, kernel: Kernel) -> None:
    pod.write("etc/conf", "hello")
    for _ in range(3):
        handle = kernel.open(foretold(kernel, "etc/conf"))
        assert kernel.read(handle) == b"hello"
        assert kernel.read(handle, 5) == b""
        kernel.flush(handle)
        kernel.release(handle)
    assert pod.take() == ["Walk"]
    assert pod.closed() == []


def test_any_other_file_is_opened_in_one_round_trip_and_closed_in_none(pod: Pod, kernel: Kernel) -> None:
    pod.write("conf", "hello")
    number = kernel.node("conf")
    pod.take()
    handle = kernel.open(number)
    assert pod.take() == ["OpenHandle"]
    assert kernel.read(handle) == b"hello"
    kernel.flush(handle)
    kernel.release(handle)
    assert pod.take() == ["ReadHandle"]
    assert pod.closed() == [handle]


def test_open_waits_for_content_that_is_on_its_way(pod: Pod, kernel: Kernel) -> None:
    pod.write("conf", "hello")
    number = kernel.node("conf")
    kernel.tree.asking.foretell(b"/conf", True, True, False)
    handle = kernel.open(number)
    assert kernel.read(handle) == b"hello"
    assert pod.take() == ["Walk", "Walk"]


def test_a_large_file_comes_piece_by_piece(pod: Pod, kernel: Kernel) -> None:
    content = os.urandom(CONTENT_LIMIT * 5)
    pod.write("large", content)
    handle = kernel.open(foretold(kernel, "large"))
    assert b"".join(kernel.read(handle, at, 65536) for at in range(0, len(content), 65536)) == content
    assert pod.take().count("ReadHandle") == 3


def test_the_kernels_pages_stay_while_the_file_is_the_same(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    assert kernel.open_flags(number) == 0
    assert kernel.open_flags(number) == KEEP
    pod.write("a", "hello there")
    clock.passes(1.0)
    assert kernel.open_flags(number) == 0
    assert kernel.open_flags(number) == KEEP
    handle = kernel.open(number, os.O_WRONLY)
    kernel.write(handle, 0, b"H")
    kernel.flush(handle)
    assert kernel.open_flags(number) == 0


def test_flags_that_mean_something_in_the_pod(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_CLOEXEC | os.O_NOATIME | os.O_LARGEFILE
    kernel.open(kernel.node("a"), flags)
    (request,) = (message for message in pod.asked if isinstance(message, OpenHandle))
    assert request == OpenHandle(1, b"/a", 0o2 | 0o2000 | 0o4000 | 0o4010000 | 0o1000000, 0, 0)


def test_files_whose_size_says_nothing_go_around_the_page_cache(pod: Pod, kernel: Kernel) -> None:
    pod.write("empty")
    number = kernel.node("empty")
    assert kernel.open_flags(number) == DIRECT
    assert kernel.open_flags(number, os.O_RDWR) & DIRECT == 0


def test_a_file_that_may_not_be_opened(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    pod.refusals[OpenHandle] = errno.EACCES
    fails(errno.EACCES, lambda: kernel.open(number))
    assert (len(kernel.handles), pod.closed()) == (0, [])
    fails(errno.ESTALE, lambda: kernel.open(999))


# -- what has changed in the pod meanwhile ------------------------------------------------------------------------------


def test_another_file_in_its_place_makes_the_kernel_look_again(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "old")
    number = kernel.node("a")
    pod.replace("a", b"newer")
    fails(errno.ESTALE, lambda: kernel.open(number))
    assert pod.closed() == [1]
    again = kernel.node("a")
    assert again != number
    assert kernel.read(kernel.open(again)) == b"newer"
    assert len(kernel.handles) == 1


def test_a_file_that_has_gone(pod: Pod, kernel: Kernel) -> None:
    pod.write("a").unlink()
    pod.write("a")
    number = kernel.node("a")
    (pod.folder / "a").unlink()
    fails(errno.ENOENT, lambda: kernel.open(number))


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR])
def test_a_file_renamed_by_another_thread_while_it_is_opened(pod: Pod, kernel: Kernel, flags: int, clock: Clock) -> None:
    """Its old name says nothing of it any more: the kernel is to look again, and the file is not said to be missing."""
    pod.write("a", "hello")
    number = kernel.node("a")
    opening = kernel.begin_open(number, flags)
    renaming = kernel.begin_rename("a", "b")
    pod.answer(1)
    renaming.body()
    fails(errno.ESTALE, lambda: kernel.finish(opening))
    assert kernel.read(kernel.open(kernel.node("b"), flags)) == b"hello"
    assert len(kernel.handles) == 1


def test_attributes_that_came_with_an_open_and_were_overtaken_by_a_write_do_not_count(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    writer = kernel.open(number, os.O_WRONLY)
    opening = kernel.begin_open(number)
    pod.carry_out()
    kernel.begin_write(writer, 5, b" there").body()
    pod.answer(1)  # the write arrives in the pod, and its acknowledgement here, before the answer to the open
    kernel.finish(opening)
    assert kernel.getattr(number).size == 11
    assert kernel.lookup("a").attr.size == 11


def test_an_open_file_is_readable_though_another_one_is_in_its_place(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    """As a container's configuration is replaced. A program that reads slowly gets the end of its file, not ESTALE."""
    pod.write("a", "hello")
    handle = kernel.open(foretold(kernel, "a"))
    number = kernel.handles.get(handle).node.id
    pod.replace("a", b"another one")
    clock.passes(10.0)
    assert kernel.getattr(number, handle).size == 5
    assert kernel.read(handle, 5) == b""
    assert kernel.read(handle) == b"hello"
    kernel.release(handle)
    assert kernel.read(kernel.open(foretold(kernel, "a"))) == b"another one"
    assert sorted(pod.handles) == sorted(file.id for file in map(kernel.handles.get, pod.handles))


def test_another_file_is_never_read_in_place_of_the_one_that_was_opened(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    handle = kernel.open(foretold(kernel, "a"))
    pod.replace("a", b"other")
    kernel.handles.get(handle).content = None  # as after a write by somebody else
    for _ in range(2):
        fails(errno.ESTALE, lambda: kernel.read(handle))
    kernel.release(handle)
    assert pod.closed() == [handle, handle]
    assert pod.handles == {}


def test_a_file_that_has_grown_is_read_on(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("log", "one\n")
    handle = kernel.open(foretold(kernel, "log"))
    number = kernel.handles.get(handle).node.id
    assert kernel.read(handle) == b"one\n"
    with (pod.folder / "log").open("a") as log:
        log.write("two\n")
    clock.passes(2.0)
    assert kernel.getattr(number, handle).size == 8
    assert kernel.read(handle, 4) == b"two\n"
    assert kernel.read(handle) == b"one\ntwo\n"


# -- creating -----------------------------------------------------------------------------------------------------------


def test_create_is_one_round_trip(pod: Pod, kernel: Kernel) -> None:
    assert kernel.lookup("new").node == 0
    pod.take()
    entry, handle = kernel.create("new", os.O_RDWR | os.O_EXCL, 0o100640)
    assert pod.asked == [OpenHandle(handle, b"/new", 0o2 | 0o100 | 0o200, 0o640, 0)]
    assert (entry.attr.mode, entry.attr.size, entry.attr_s) == (0o100640, 0, 1.0)
    assert kernel.lookup("new").node == entry.node
    assert kernel.getattr(entry.node, handle).size == 0
    kernel.write(handle, 0, b"hello")
    assert kernel.read(handle) == b"hello"
    assert pod.take() == ["OpenHandle", "WriteHandle", "ReadHandle"]


def test_create_of_what_exists_by_now(pod: Pod, kernel: Kernel) -> None:
    assert kernel.lookup("new").node == 0
    pod.write("new", "hello")
    fails(errno.EEXIST, lambda: kernel.create("new", os.O_WRONLY | os.O_EXCL))
    assert kernel.lookup("new").attr.size == 5
    entry, _ = kernel.create("new", os.O_WRONLY | os.O_TRUNC)
    assert kernel.getattr(entry.node).size == 0
    assert len(kernel.handles) == 1


def test_a_file_without_a_name(pod: Pod, kernel: Kernel) -> None:
    (pod.folder / "tmp").mkdir()
    directory = kernel.node("tmp")
    body = protocol.CREATE_IN.pack(os.O_RDWR | os.O_TMPFILE, 0o100600, 0, 0)
    made = kernel.call(kernel.files.tmpfile, Op.TMPFILE, directory, body)
    entry, handle = read_entry(made), int.from_bytes(made[128:136], "little")
    kernel.write(handle, 0, b"hello")
    assert kernel.read(handle) == b"hello"
    assert kernel.getattr(entry.node, handle)[:2] == (entry.attr.ino, 5)
    assert list((pod.folder / "tmp").iterdir()) == []
    again = kernel.open(entry.node)  # by /proc/self/fd
    assert kernel.read(again) == b"hello"
    assert pod.asked[-2] == OpenHandle(again, b"", 0, 0, handle)
    kernel.forget(entry.node)
    kernel.release(handle)
    kernel.release(again)
    fails(errno.ESTALE, lambda: kernel.inode(entry.node))


def test_truncating_open(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    reader = kernel.open(foretold(kernel, "a"))
    number = kernel.handles.get(reader).node.id
    before = kernel.generation.now
    writer = kernel.open(number, os.O_WRONLY | os.O_TRUNC)
    assert kernel.generation.now > before
    assert (pod.folder / "a").read_bytes() == b""
    assert kernel.read(reader) == b""
    pod.take()
    assert kernel.getattr(number).size == 0
    assert pod.take() == []  # it came with the answer
    kernel.write(writer, 0, b"new")
    assert kernel.getattr(number).size == 3


# -- closing ------------------------------------------------------------------------------------------------------------


def test_every_handle_of_the_pod_is_closed_once(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    handles = [kernel.open(number) for _ in range(3)]
    for handle in handles:
        kernel.release(handle)
    kernel.release(handles[0])
    assert pod.closed() == handles
    assert pod.handles == {}
    kernel.forget(number)
    fails(errno.ESTALE, lambda: kernel.inode(number))


def test_a_file_that_is_closed_while_the_pod_is_still_opening_it(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    handle = kernel.open(foretold(kernel, "a"))
    number = kernel.handles.get(handle).node.id
    syncing = kernel.begin(kernel.files.fsync, Op.FSYNC, number, protocol.FSYNC_IN.pack(handle, 0))
    assert pod.take() == ["Walk", "OpenHandle"]
    kernel.release(handle)
    assert pod.closed() == [handle]
    pod.answer_all()
    assert syncing.is_over
    assert pod.closed() == [handle]


def test_an_open_that_fails_after_the_pod_has_opened_leaves_nothing_open(pod: Pod, kernel: Kernel) -> None:
    pod.write("tool", "hello", 0o4755)
    number = kernel.node("tool")
    pod.refusals[SetAttributes] = errno.EIO
    fails(errno.EIO, lambda: kernel.open(number, os.O_WRONLY, open_flags=1))
    assert (len(kernel.handles), pod.handles, pod.closed()) == (0, {}, [1])


def test_operations_on_what_is_not_open(kernel: Kernel) -> None:
    for call in (
        lambda: kernel.call(kernel.files.read, Op.READ, 0, protocol.READ_IN.pack(7, 0, 1, 0, 0, 0)),
        lambda: kernel.call(kernel.files.write, Op.WRITE, 0, protocol.WRITE_IN.pack(7, 0, 0, 0, 0, 0)),
        lambda: kernel.call(kernel.files.flush, Op.FLUSH, 0, protocol.FLUSH_IN.pack(7, 0)),
        lambda: kernel.fsync(7),
    ):
        fails(errno.EBADF, call)
    kernel.release(7)


# -- writing ------------------------------------------------------------------------------------------------------------


def test_a_write_returns_at_once_and_who_looks_waits_for_it(pod: Pod, kernel: Kernel) -> None:
    entry, handle = kernel.create("a")
    pod.take()
    before = kernel.generation.now
    kernel.begin_write(handle, 0, b"hello").body()
    assert kernel.generation.now > before
    looking = [kernel.begin_getattr(entry.node), kernel.begin_lookup("a"), kernel.begin_read(handle, 0, 5)]
    assert not any(call.is_over for call in looking)
    assert pod.asked == [WriteHandle(handle, 0, b"hello")]
    assert kernel.finish(looking[2]) == b"hello"
    assert kernel.getattr(entry.node).size == 5
    assert read_entry(kernel.finish(looking[1])).attr.size == 5


def test_every_write_is_a_round_trip_where_that_is_wanted(pod: Pod, kernel_with: Callable[..., Kernel]) -> None:
    kernel = kernel_with(write_behind=False)
    _, handle = kernel.create("a")
    call = kernel.begin_write(handle, 0, b"hello")
    assert not call.is_over
    pod.refusals[WriteHandle] = errno.ENOSPC
    fails(errno.ENOSPC, lambda: kernel.finish(call))
    kernel.flush(handle)


def test_a_failed_write_is_told_by_close_once(pod: Pod, kernel: Kernel) -> None:
    _, handle = kernel.create("a")
    pod.refusals[WriteHandle] = errno.ENOSPC
    kernel.write(handle, 0, b"hello")
    fails(errno.ENOSPC, lambda: kernel.flush(handle))
    kernel.flush(handle)


def test_a_failed_write_is_told_by_fsync_once(pod: Pod, kernel: Kernel) -> None:
    _, handle = kernel.create("a")
    kernel.begin_write(handle, 0, b"hello").body()
    pod.answer(0, Failed(errno.EDQUOT))
    fails(errno.EDQUOT, lambda: kernel.fsync(handle))
    kernel.fsync(handle)
    kernel.flush(handle)


def test_a_failed_write_is_told_though_locks_cannot_be_released(pod: Pod, kernel: Kernel) -> None:
    _, handle = kernel.create("a")
    kernel.lock(handle, 1, 1)
    pod.refusals[WriteHandle] = errno.ENOSPC
    pod.refusals[LockFile] = errno.EBADF
    kernel.write(handle, 0, b"hello")
    fails(errno.ENOSPC, lambda: kernel.flush(handle, 1))


def test_flush_waits_until_everything_is_in_the_pod(pod: Pod, kernel: Kernel) -> None:
    _, handle = kernel.create("a")
    kernel.begin_write(handle, 0, b"hello").body()
    flushing = kernel.begin_flush(handle)
    assert not flushing.is_over
    kernel.finish(flushing)
    assert (pod.folder / "a").read_bytes() == b"hello"


def test_what_one_file_wrote_is_read_by_another(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    here = kernel.open(foretold(kernel, "a"))
    number = kernel.handles.get(here).node.id
    there, writer = kernel.open(number, os.O_RDWR), kernel.open(number, os.O_RDWR)
    assert [kernel.read(handle) for handle in (here, there)] == [b"hello"] * 2
    kernel.begin_write(writer, 0, b"HE").body()
    assert [kernel.read(handle) for handle in (here, there)] == [b"HEllo"] * 2


def test_append(pod: Pod, kernel: Kernel) -> None:
    """Somebody in the pod appends as well: where the end is, the pod knows."""
    pod.write("log", "one\n")
    handle = kernel.open(kernel.node("log"), os.O_WRONLY | os.O_APPEND)
    with (pod.folder / "log").open("a") as log:
        log.write("two\n")
    kernel.write(handle, 4, b"three\n")
    kernel.flush(handle)
    assert (pod.folder / "log").read_bytes() == b"one\ntwo\nthree\n"


def test_pages_of_a_mapping_have_their_place_also_with_append(pod: Pod, kernel: Kernel) -> None:
    pod.write("log", "one\ntwo\n")
    number = kernel.node("log")
    handle = kernel.open(number, os.O_RDWR | os.O_APPEND)
    writing = [kernel.begin_write(handle, at, b"X", protocol.WRITE_CACHE) for at in (0, 4)]
    for call in writing:
        kernel.finish(call)
    kernel.flush(handle)
    assert (pod.folder / "log").read_bytes() == b"Xne\nXwo\n"
    assert pod.take().count("OpenHandle") == 2
    kernel.release(handle)
    assert len(pod.closed()) == 2
    assert (pod.handles, len(kernel.handles)) == ({}, 0)
    kernel.forget(number)
    fails(errno.ESTALE, lambda: kernel.inode(number))


def test_pages_of_a_mapping_that_find_no_way_to_their_place(pod: Pod, kernel: Kernel) -> None:
    pod.write("log")
    handle = kernel.open(kernel.node("log"), os.O_RDWR | os.O_APPEND)
    pod.refusals[OpenHandle] = errno.EMFILE
    fails(errno.EMFILE, lambda: kernel.write(handle, 0, b"X", protocol.WRITE_CACHE))
    del pod.refusals[OpenHandle]
    kernel.write(handle, 0, b"X", protocol.WRITE_CACHE)
    kernel.release(handle)
    pod.answer_all()
    assert pod.handles == {}


@pytest.mark.parametrize(("mode", "kept"), [(0o6755, 0o755), (0o2745, 0o2745), (0o4644, 0o644), (0o755, 0o755)])
def test_set_id_bits_are_dropped_by_writing(pod: Pod, kernel: Kernel, mode: int, kept: int) -> None:
    """set-group-ID without the group's x bit means something else."""
    pod.write("tool", "hello", mode)
    number = kernel.node("tool")
    handle = kernel.open(number, os.O_WRONLY)
    pod.take()
    for _ in range(2):
        kernel.write(handle, 0, b"x", protocol.WRITE_KILL_SUIDGID)
    kernel.flush(handle)
    assert stat.S_IMODE((pod.folder / "tool").stat().st_mode) == kept
    assert kernel.getattr(number).mode & 0o7777 == kept
    assert pod.take().count("SetAttributes") == (mode != kept)


def test_set_id_bits_are_dropped_by_truncating(pod: Pod, kernel: Kernel) -> None:
    pod.write("tool", "hello", 0o4755)
    number = kernel.node("tool")
    kernel.open(number, os.O_WRONLY | os.O_TRUNC, open_flags=1)
    assert stat.S_IMODE((pod.folder / "tool").stat().st_mode) == 0o755
    assert kernel.lookup("tool").attr.mode & 0o7777 == 0o755


def test_a_write_to_a_set_id_file_of_somebody_else_succeeds(pod: Pod, kernel: Kernel) -> None:
    """The pod's kernel has dropped the bits already: who may not change the mode, may not keep them either."""
    pod.write("tool", "hello", 0o4777)
    handle = kernel.open(kernel.node("tool"), os.O_WRONLY)
    pod.refusals[SetAttributes] = errno.EPERM
    kernel.write(handle, 0, b"x", protocol.WRITE_KILL_SUIDGID)


# -- the rest -----------------------------------------------------------------------------------------------------------


def test_fsync(pod: Pod, kernel: Kernel) -> None:
    _, handle = kernel.create("a")
    kernel.begin_write(handle, 0, b"hello").body()
    pod.take()
    kernel.fsync(handle, protocol.FSYNC_DATA)
    assert pod.asked == [SyncHandle(handle, True)]
    assert (pod.folder / "a").read_bytes() == b"hello"


def test_fallocate(pod: Pod, kernel: Kernel) -> None:
    entry, handle = kernel.create("a")
    body = protocol.FALLOCATE_IN.pack(handle, 0, 4096, 0)
    kernel.call(kernel.files.fallocate, Op.FALLOCATE, entry.node, body)
    assert kernel.getattr(entry.node).size == 4096
    assert kernel.lookup("a").attr.size == 4096


@pytest.mark.parametrize(("offset", "whence", "found"), [(0, 3, 0), (0, 4, 5)])
def test_lseek(pod: Pod, kernel: Kernel, offset: int, whence: int, found: int) -> None:
    pod.write("a", "hello")
    handle = kernel.open(foretold(kernel, "a"))
    body = kernel.call(kernel.files.lseek, Op.LSEEK, 0, protocol.LSEEK_IN.pack(handle, offset, whence))
    assert int.from_bytes(body, "little") == found
    fails(errno.ENXIO, lambda: kernel.call(kernel.files.lseek, Op.LSEEK, 0, protocol.LSEEK_IN.pack(handle, 9, 3)))


def test_copy_file_range_moves_no_byte_through_the_channel(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    source = kernel.open(foretold(kernel, "a"))
    entry, target = kernel.create("b")
    kernel.begin_write(target, 0, b"> ").body()
    pod.take()
    body = protocol.COPY_IN.pack(source, 0, entry.node, target, 2, 1 << 62, 0)
    copied = kernel.call(kernel.files.copy_file_range, Op.COPY_FILE_RANGE, 0, body)
    assert int.from_bytes(copied[:4], "little") == 5
    assert [type(message) for message in pod.asked] == [OpenHandle, CopyRange]
    assert kernel.getattr(entry.node).size == 7
    assert kernel.read(target) == b"> hello"


# -- what waits for others ----------------------------------------------------------------------------------------------


def fifo(pod: Pod, kernel: Kernel) -> int:
    os.mkfifo(pod.folder / "fifo")
    return kernel.node("fifo")


def interrupt(kernel: Kernel, call: Call) -> None:
    kernel.files.give_up_open(call.unique)


def test_a_fifo_is_read_where_it_stands(pod: Pod, kernel: Kernel) -> None:
    number = fifo(pod, kernel)
    opening = kernel.begin_open(number)
    assert not pod.answer()  # nobody writes
    other = os.open(pod.folder / "fifo", os.O_RDWR)
    os.write(other, b"hello")
    body = kernel.finish(opening)
    handle, flags = int.from_bytes(body[:8], "little"), int.from_bytes(body[8:12], "little")
    assert flags == DIRECT | protocol.FOPEN_NONSEEKABLE | protocol.FOPEN_STREAM
    assert kernel.read(handle) == b"hello"
    assert pod.asked[-1] == ReadHandle(handle, 0, 4096)
    assert kernel.files.is_stream(handle)
    assert not kernel.files.is_stream(999)
    os.close(other)


def test_what_is_written_to_a_fifo_is_there_when_the_write_returns(pod: Pod, kernel: Kernel) -> None:
    number = fifo(pod, kernel)
    other = os.open(pod.folder / "fifo", os.O_RDWR)
    handle = kernel.open(number, os.O_WRONLY)
    writing = kernel.begin_write(handle, 0, b"hello")
    assert not writing.is_over
    kernel.finish(writing)
    assert os.read(other, 9) == b"hello"
    os.close(other)


def test_an_interrupted_open_of_a_fifo_is_given_up_in_the_pod(pod: Pod, kernel: Kernel) -> None:
    opening = kernel.begin_open(fifo(pod, kernel))
    interrupt(kernel, opening)
    assert pod.notices == [GiveUpWait(1, 0)]
    fails(errno.EINTR, lambda: kernel.finish(opening))
    assert (len(kernel.handles), pod.handles) == (0, {})
    interrupt(kernel, opening)  # too late
    assert len(pod.notices) == 1


def test_an_open_that_is_interrupted_before_the_pod_is_asked_asks_it_no_more(pod: Pod, kernel: Kernel) -> None:
    """Else it would wait for ever: the kernel interrupts once, and waits for the answer even if the program is killed."""
    number = fifo(pod, kernel)
    kernel.inode(number).unsent = 1
    opening = kernel.begin_open(number)
    interrupt(kernel, opening)
    node = kernel.inode(number)
    node.unsent = 0
    for settle in node.waiting:
        settle(None)
    fails(errno.EINTR, opening.body)
    assert pod.take() == ["Walk"]
    assert not kernel.files._given_up


def test_an_interrupted_read_of_a_fifo(pod: Pod, kernel: Kernel) -> None:
    number = fifo(pod, kernel)
    other = os.open(pod.folder / "fifo", os.O_RDWR)
    handle = kernel.open(number)
    reading = kernel.begin_read(handle, 0, 10)
    kernel.files.give_up(handle)
    fails(errno.EINTR, lambda: kernel.finish(reading))
    kernel.release(handle)
    assert pod.notices[-1] == CloseHandle(handle)
    os.close(other)
