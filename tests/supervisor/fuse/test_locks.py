from __future__ import annotations

import errno
import fcntl
import os
import struct

import pytest
from fakekernel import Kernel
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import NO_LOCK, READ_LOCK, WRITE_LOCK, GetLock, GiveUpWait, LockFile
from mirrord_trace.supervisor.fuse import protocol
from mirrord_trace.supervisor.fuse.protocol import Op

END = 2**63 - 1
ONE, TWO = 11, 2**63 + 22
"""Owners: the kernel scrambles them, so that they may have 64 bits."""


@pytest.fixture
def files(pod: Pod, kernel: Kernel) -> tuple[int, int]:
    """The same file, open twice."""
    pod.write("a", "hello")
    number = kernel.node("a")
    handles = kernel.open(number, os.O_RDWR), kernel.open(number, os.O_RDWR)
    pod.take()
    return handles


def is_locked_in_the_pod(pod: Pod) -> bool:
    """For somebody else there."""
    with (pod.folder / "a").open("r+b") as file:
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        return bool(struct.unpack("hhqqi4x", fcntl.fcntl(file, 36, asked))[0] != fcntl.F_UNLCK)  # F_OFD_GETLK


def getlk(kernel: Kernel, handle: int, owner: int) -> tuple[int, ...]:
    body = protocol.LOCK_IN.pack(handle, owner, 0, END, WRITE_LOCK, 0, 0)
    return struct.unpack("=QQII", kernel.call(kernel.locks.get, Op.GETLK, 0, body))


def test_a_lock_is_one_round_trip_and_is_there_for_the_pod(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    kernel.lock(files[0], ONE, WRITE_LOCK)
    assert pod.asked == [LockFile(files[0], ONE, WRITE_LOCK, 0, END, False, False)]
    assert is_locked_in_the_pod(pod)
    kernel.lock(files[0], ONE, NO_LOCK)
    assert not is_locked_in_the_pod(pod)


def test_two_owners_exclude_each_other(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    kernel.lock(files[0], ONE, WRITE_LOCK)
    with pytest.raises(BlockingIOError):
        kernel.lock(files[1], TWO, READ_LOCK)
    assert getlk(kernel, files[1], TWO)[:3] == (0, END, WRITE_LOCK)
    assert getlk(kernel, files[0], ONE)[2] == NO_LOCK
    assert isinstance(pod.asked[-1], GetLock)
    assert 0 < pod.asked[-2].owner < 2**63  # type: ignore[attr-defined]


def test_a_file_that_is_open_here_alone_is_opened_in_the_pod(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    kernel.tree.asking.foretell(b"/a", True, True, False)
    handle = kernel.open(kernel.node("a"))
    pod.take()
    kernel.lock(handle, ONE, READ_LOCK)
    assert pod.take() == ["OpenHandle", "LockFile"]
    kernel.release(handle)
    assert pod.closed() == [handle]
    assert not is_locked_in_the_pod(pod)


@pytest.mark.parametrize("flock", [False, True])
def test_under_a_lock_the_file_is_seen_anew(pod: Pod, kernel: Kernel, files: tuple[int, int], flock: bool) -> None:
    assert kernel.read(files[0]) == b"hello"
    number = kernel.handles.get(files[0]).node.id
    assert kernel.getattr(number).size == 5
    pod.write("a", "HELLO THERE")
    before = kernel.generation.now
    kernel.lock(files[0], ONE, READ_LOCK, flock=flock)
    assert kernel.invalidated == [number]
    assert kernel.generation.now > before
    assert kernel.getattr(number).size == 11
    assert kernel.read(files[0]) == b"HELLO THERE"
    kernel.lock(files[0], ONE, NO_LOCK, flock=flock)
    assert kernel.invalidated == [number]


def test_a_lock_that_was_not_got_changes_nothing(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    pod.refusals[LockFile] = errno.ENOLCK
    with pytest.raises(OSError) as caught:
        kernel.lock(files[0], ONE, WRITE_LOCK)
    assert caught.value.errno == errno.ENOLCK
    assert kernel.invalidated == []


def test_what_was_written_under_a_lock_is_in_the_pod_before_it_is_released(
    pod: Pod, kernel: Kernel, files: tuple[int, int]
) -> None:
    kernel.lock(files[0], ONE, WRITE_LOCK)
    kernel.begin_write(files[0], 0, b"H").body()
    pod.take()
    releasing = kernel.begin_lock(files[0], ONE, NO_LOCK)
    assert pod.take() == []
    kernel.finish(releasing)
    assert pod.take() == ["LockFile"]


# -- waiting ------------------------------------------------------------------------------------------------------------


def test_who_waits_gets_the_lock_when_it_is_free(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    kernel.lock(files[0], ONE, WRITE_LOCK)
    waiting = kernel.begin_lock(files[1], TWO, WRITE_LOCK, wait=True)
    assert not pod.answer()
    kernel.lock(files[0], ONE, NO_LOCK)
    assert kernel.finish(waiting) == b""


def test_a_wait_that_is_interrupted_is_given_up_in_the_pod(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    kernel.lock(files[0], ONE, WRITE_LOCK)
    request = kernel.request(Op.SETLKW, 0, protocol.LOCK_IN.pack(files[1], TWO, 0, END, WRITE_LOCK, 0, 0))
    waiting = kernel.begin(lambda _: kernel.locks.set(request), Op.SETLKW, 0, b"")
    assert not pod.answer()
    kernel.locks.give_up(request)
    (notice,) = pod.notices
    assert isinstance(notice, GiveUpWait)
    assert notice.owner == pod.asked[-1].owner != 0  # type: ignore[attr-defined]
    with pytest.raises(InterruptedError):
        kernel.finish(waiting)
    assert not kernel.locks._given_up


def test_a_wait_that_is_interrupted_before_it_has_begun_does_not_begin(
    pod: Pod, kernel: Kernel, files: tuple[int, int]
) -> None:
    """The kernel interrupts once, and waits for an answer even if the program is killed."""
    kernel.begin_write(files[1], 0, b"H").body()
    request = kernel.request(Op.SETLKW, 0, protocol.LOCK_IN.pack(files[1], TWO, 0, END, WRITE_LOCK, 0, 0))
    waiting = kernel.begin(lambda _: kernel.locks.set(request), Op.SETLKW, 0, b"")
    kernel.locks.give_up(request)
    with pytest.raises(InterruptedError):
        kernel.finish(waiting)
    assert pod.take() == ["WriteHandle"]
    assert not kernel.locks._given_up


# -- closing ------------------------------------------------------------------------------------------------------------


def test_closing_any_descriptor_of_a_file_releases_its_owners_locks(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    kernel.lock(files[0], ONE, WRITE_LOCK)
    pod.take()
    kernel.flush(files[1], TWO)
    assert pod.take() == []
    assert is_locked_in_the_pod(pod)
    kernel.flush(files[1], ONE)
    assert pod.take() == ["LockFile"]
    assert not is_locked_in_the_pod(pod)
    kernel.flush(files[0], ONE)
    assert pod.take() == []


def test_locks_are_released_after_what_was_written_under_them(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    kernel.lock(files[0], ONE, WRITE_LOCK)
    kernel.begin_write(files[0], 0, b"H").body()
    flushing = kernel.begin_flush(files[0], ONE)
    assert pod.take() == ["LockFile", "WriteHandle"]
    kernel.finish(flushing)
    assert pod.take() == ["LockFile"]


def test_a_flock_belongs_to_the_open_file(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    kernel.lock(files[0], ONE, WRITE_LOCK, flock=True)
    with pytest.raises(BlockingIOError):
        kernel.lock(files[1], TWO, WRITE_LOCK, flock=True)
    kernel.flush(files[0], ONE)
    with pytest.raises(BlockingIOError):
        kernel.lock(files[1], TWO, WRITE_LOCK, flock=True)
    kernel.release(files[0])
    kernel.lock(files[1], TWO, WRITE_LOCK, flock=True)


def test_a_file_that_is_closed_by_another_thread_meanwhile(pod: Pod, kernel: Kernel, files: tuple[int, int]) -> None:
    """close(2) of the one must not fail because of the other."""
    for handle in files:
        kernel.lock(handle, ONE, READ_LOCK)
    kernel.begin_write(files[0], 0, b"H").body()
    flushing = kernel.begin_flush(files[0], ONE)
    kernel.release(files[1])
    assert kernel.finish(flushing) == b""
    assert not is_locked_in_the_pod(pod)
