from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest
from mirrord_trace.agent.tree.handles import Handle
from mirrord_trace.agent.tree.locks import Locks, _without
from mirrord_trace.agent.wire.file_messages import NO_LOCK, READ_LOCK, WRITE_LOCK, GetLock, LockFile, LockState
from mirrord_trace.agent.wire.messages import Done

END = 2**63 - 1

pytestmark = pytest.mark.usefixtures("same_fds")


@pytest.fixture
def open_handle(put, at):
    made = []
    put(b"/file", b"x" * 100)

    def make(flags=os.O_RDWR, path=b"/file"):
        handle = Handle(len(made) + 1, True)
        handle.fd, handle.flags = os.open(at(path), flags), flags
        handle.mode = os.fstat(handle.fd).st_mode
        made.append(handle)
        return handle

    yield make
    for handle in made:
        os.close(handle.fd)


@pytest.fixture
def locks():
    locks = Locks()
    yield locks
    locks.close()


@pytest.fixture
def lock(locks, code_of):
    """`lock(handle, owner, kind, start, end)`: "" or the name of the errno."""

    def do(handle, owner, kind=WRITE_LOCK, start=0, end=END, flock=False):
        return code_of(locks.set, handle, LockFile(1, owner, kind, start, end, False, flock))

    return do


def of_another_process(path, start=0, size=0):
    """Whether another process can have a write lock there."""
    program = f"import fcntl; fcntl.lockf(open({path!r}, 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, {size}, {start})"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0 or b"BlockingIOError" in done.stderr
    return done.returncode == 0


def test_two_owners_exclude_each_other_on_one_handle(open_handle, lock):
    handle = open_handle()
    assert lock(handle, 1) == ""
    assert lock(handle, 1, READ_LOCK) == ""  # a change of one's own
    assert lock(handle, 2, READ_LOCK) == ""
    assert lock(handle, 1, WRITE_LOCK) == "EAGAIN"
    assert lock(handle, 2, NO_LOCK) == ""
    assert lock(handle, 1, WRITE_LOCK) == ""
    assert lock(handle, 2, READ_LOCK) == "EAGAIN"


def test_one_owner_is_one_on_all_handles_of_a_file(open_handle, lock):
    first, second = open_handle(), open_handle(os.O_RDONLY)
    assert lock(first, 1) == ""
    assert lock(second, 1, READ_LOCK, 0, 9) == ""
    assert lock(second, 2, READ_LOCK, 0, 9) == ""
    assert lock(second, 2, READ_LOCK, 9, 10) == "EAGAIN"


def test_other_processes_see_the_locks_and_ours_see_theirs(open_handle, lock, at):
    handle = open_handle()
    assert lock(handle, 1, WRITE_LOCK, 10, 19) == ""
    assert not of_another_process(at(b"/file"))
    assert of_another_process(at(b"/file"), 0, 10)
    assert of_another_process(at(b"/file"), 20)
    assert lock(handle, 1, NO_LOCK, 10, 18) == ""
    assert not of_another_process(at(b"/file"), 19, 1)
    assert lock(handle, 1, NO_LOCK, 19, END) == ""
    assert of_another_process(at(b"/file"))
    with open(at(b"/file"), "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 5)  # this process's own, which is not the locks' owner
        assert lock(handle, 1, READ_LOCK) == "EAGAIN"


def test_the_last_unlock_closes_the_description(open_handle, lock):
    handle = open_handle()
    before = os.listdir("/proc/self/fd")
    assert lock(handle, 1, NO_LOCK) == ""
    lock(handle, 1, WRITE_LOCK, 0, 9)
    lock(handle, 1, READ_LOCK, 20, END)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    lock(handle, 1, NO_LOCK, 5, 30)
    lock(handle, 1, NO_LOCK, 0, 4)
    assert len(os.listdir("/proc/self/fd")) == len(before) + 1
    lock(handle, 1, NO_LOCK, 31, END)
    assert os.listdir("/proc/self/fd") == before


def test_a_lock_that_is_not_to_be_had_leaves_nothing(open_handle, lock):
    handle = open_handle()
    lock(handle, 1)
    before = os.listdir("/proc/self/fd")
    assert lock(handle, 2) == "EAGAIN"
    assert os.listdir("/proc/self/fd") == before


def test_what_is_in_the_way(open_handle, lock, locks, at, code_of):
    handle = open_handle()
    ask = lambda owner, kind=WRITE_LOCK, start=0, end=END: locks.get(handle, GetLock(1, owner, kind, start, end))  # noqa: E731
    assert ask(1) == LockState(NO_LOCK, 0, END, 0)
    lock(handle, 1, WRITE_LOCK, 10, 19)
    assert ask(1) == LockState(NO_LOCK, 0, END, 0)
    assert ask(2) == LockState(WRITE_LOCK, 10, 19, 0)
    lock(handle, 1, READ_LOCK, 10, END)
    assert ask(2, READ_LOCK).kind == NO_LOCK
    assert ask(2) == LockState(READ_LOCK, 10, END, 0)
    with open(at(b"/file"), "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 5)
        assert ask(1) == LockState(WRITE_LOCK, 0, 4, os.getpid())
    assert code_of(ask, 1, 7) == "EINVAL"


def test_closing_one_handle_leaves_other_owners_their_locks(open_handle, lock, locks, at):
    first, second = open_handle(), open_handle()
    lock(first, 1, WRITE_LOCK, 0, 9)
    lock(second, 2, WRITE_LOCK, 10, 19)
    locks.release(first)
    assert of_another_process(at(b"/file"), 0, 10)
    assert not of_another_process(at(b"/file"), 10, 10)
    lock(first, 2, WRITE_LOCK, 20, 29)
    locks.release(second)
    assert not of_another_process(at(b"/file"), 10, 1)
    locks.release(first)
    assert of_another_process(at(b"/file"))


def test_flock(open_handle, lock, locks, at):
    first, second = open_handle(), open_handle(os.O_RDONLY)
    assert lock(first, 1, READ_LOCK, flock=True) == ""
    assert lock(second, 1, READ_LOCK, flock=True) == ""
    assert lock(second, 1, WRITE_LOCK, flock=True) == "EAGAIN"  # has lost what it had
    assert lock(first, 1, WRITE_LOCK, flock=True) == ""
    assert lock(first, 2, READ_LOCK, flock=True) == "EAGAIN"
    with open(at(b"/file"), "rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    assert lock(first, 1, NO_LOCK, flock=True) == ""
    assert lock(first, 1, NO_LOCK, flock=True) == ""
    assert lock(second, 1, WRITE_LOCK, flock=True) == ""
    assert lock(first, 1) == ""  # the two kinds know nothing of each other
    locks.release(second)
    assert lock(first, 2, WRITE_LOCK, flock=True) == ""


def test_files_that_may_only_be_read_or_only_written(open_handle, lock, at):
    if os.geteuid() == 0:
        pytest.skip("root may do both: this needs an ordinary user")
    os.chmod(at(b"/file"), 0o400)
    reading = open_handle(os.O_RDONLY)
    assert lock(reading, 1, READ_LOCK) == ""
    assert lock(reading, 1, WRITE_LOCK) == "EBADF"
    os.chmod(at(b"/file"), 0o200)
    assert lock(open_handle(os.O_WRONLY), 2, WRITE_LOCK, 500, 501) == "EAGAIN"
    os.chmod(at(b"/file"), 0)
    assert lock(reading, 2, READ_LOCK) == ""  # the handle's own description


def test_directories_and_fifos(open_handle, lock, at):
    os.mkfifo(at(b"/fifo"))
    assert lock(open_handle(os.O_RDONLY, b"/"), 1, READ_LOCK) == ""
    assert lock(open_handle(os.O_RDONLY, b"/"), 1, READ_LOCK, flock=True) == ""
    assert lock(open_handle(os.O_RDWR, b"/fifo"), 1, WRITE_LOCK, flock=True) == ""


def test_what_is_no_lock(open_handle, lock):
    handle = open_handle()
    assert lock(handle, 0) == "EINVAL"
    assert lock(handle, 1, 3) == "EINVAL"
    assert lock(handle, 1, WRITE_LOCK, 5, 4) == "EINVAL"
    assert lock(handle, 1, WRITE_LOCK, -1, 4) == "EINVAL"
    assert lock(Handle(9, True), 1) == "EBADF"


def test_ranges_without_another():
    ranges = [(0, 9), (20, 29)]
    assert _without(ranges, 5, 24) == [(0, 4), (25, 29)]
    assert _without(ranges, 22, 25) == [(0, 9), (20, 21), (26, 29)]
    assert _without(ranges, 10, 19) == ranges
    assert _without(ranges, 0, END) == []


def test_done_is_the_answer(open_handle, locks):
    assert locks.set(open_handle(), LockFile(1, 1, WRITE_LOCK, 0, 0, True, False)) == Done()
