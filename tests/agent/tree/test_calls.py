from __future__ import annotations

import errno
import os
import threading

import pytest
from mirrord_trace.agent import kernel
from mirrord_trace.agent.tree import calls
from mirrord_trace.agent.wire.stats import GONE, pack_stat


def test_attributes_are_those_of_statx_in_packed_form(tmp_path):
    os.symlink("nowhere", tmp_path / "link")
    (tmp_path / "file").write_bytes(b"abc")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        assert calls.packed_stat(directory) == pack_stat(kernel.file_stat(directory))
        for name in (b"link", b"file"):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory)
            assert calls.packed_stat(directory, name) == calls.packed_stat(fd) == pack_stat(kernel.file_stat(fd))
            assert calls.packed_mode(calls.packed_stat(fd)) == os.fstat(fd).st_mode
            os.close(fd)
        assert calls.packed_size(calls.packed_stat(directory, b"file")) == 3
        assert calls.packed_stats(directory, [b"none", b"file"]) == [GONE, calls.packed_stat(directory, b"file")]
    finally:
        os.close(directory)


def test_devices_have_their_numbers():
    directory = os.open("/dev", os.O_RDONLY)
    assert calls.packed_stat(directory, b"null") == pack_stat(kernel.file_stat(os.open("/dev/null", os.O_PATH)))
    os.close(directory)


def test_without_statx_all_but_the_birth_is_there(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    directory = os.open(tmp_path, os.O_RDONLY)
    try:
        for name in (b"", b"file"):
            assert calls._without_statx(directory, name)[:-8] == calls.packed_stat(directory, name)[:-8]
    finally:
        os.close(directory)


def test_times_far_off_are_cut_to_what_fits():
    fields = [0] * 23
    fields[0], fields[11], fields[17] = 0xFFF, 2**40, -(2**40)
    times = [int.from_bytes(calls._repacked(tuple(fields))[at : at + 8], "little", signed=True) for at in (60, 68)]
    assert times == [2**63 - 1, -(2**63 - 1)]


def test_entries_of_a_directory_in_blocks(tmp_path):
    wanted = {b"file-%05d" % index for index in range(20000)}  # more than one block
    for name in wanted:
        os.mknod(os.fsencode(tmp_path) + b"/" + name)
    names, types, inodes = [], bytearray(), []
    fd = os.open(tmp_path, os.O_RDONLY)
    blocks = list(calls.directory_blocks(fd))
    for block in blocks:
        calls.split_entries(block, names, types, inodes)
    os.close(fd)
    assert len(blocks) > 1
    assert set(names) == wanted
    assert set(types) == {8}
    assert inodes[7] == os.stat(tmp_path / os.fsdecode(names[7])).st_ino


def test_times_may_be_left_or_now(tmp_path):
    path = os.fsencode(tmp_path)
    calls.set_times(path, (7, 8), (9, 10))
    calls.set_times(path, (0, calls.UTIME_OMIT), (0, calls.UTIME_NOW))
    assert os.stat(path).st_atime_ns == 7000000008
    assert os.stat(path).st_mtime_ns > 10**18


def test_renameat2_exchanges_and_refuses(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    fd = os.open(tmp_path, os.O_PATH)
    calls.renameat2(fd, b"a", fd, b"b", 2)
    assert (tmp_path / "a").read_text() == "b"
    with pytest.raises(FileExistsError):
        calls.renameat2(fd, b"a", fd, b"b", 1)
    os.close(fd)


def test_copying_and_allocating(tmp_path):
    (tmp_path / "from").write_bytes(b"0123456789")
    with open(tmp_path / "from", "rb") as source, open(tmp_path / "to", "wb") as target:
        assert calls.copy_file_range(source.fileno(), 2, target.fileno(), 1, 5) == 5
        calls.fallocate(target.fileno(), 0, 0, 100)
    assert (tmp_path / "to").read_bytes() == b"\00023456".ljust(100, b"\0")
    with pytest.raises(OSError) as caught:
        calls.fallocate(-1, 0, 0, 1)
    assert caught.value.errno == errno.EBADF


def test_inotify(tmp_path):
    fd = calls.inotify_init()
    descriptor = calls.inotify_add_watch(fd, os.fsencode(tmp_path), calls.IN_CHANGES)
    (tmp_path / "file").touch()
    assert os.read(fd, 4096)[:4] == descriptor.to_bytes(4, "little")
    calls.inotify_rm_watch(fd, descriptor)
    with pytest.raises(OSError):
        calls.inotify_rm_watch(fd, descriptor)
    with pytest.raises(FileNotFoundError):
        calls.inotify_add_watch(fd, b"/nowhere", calls.IN_CHANGES)
    os.close(fd)


def test_rights_change_for_one_thread_alone():
    before = calls.thread_capabilities()
    seen = []

    def give_up():
        _, permitted, inheritable = calls.thread_capabilities()
        calls.set_thread_capabilities(0, permitted, inheritable)
        seen.append(calls.thread_capabilities())

    thread = threading.Thread(target=give_up)
    thread.start()
    thread.join()
    assert seen == [(0, *before[1:])]
    assert calls.thread_capabilities() == before
