"""Tracee memory: its edges, and the slots of our own in it."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Callable, Iterator

import pytest
from mirrord_trace.supervisor.errors import TraceeGone
from mirrord_trace.supervisor.tracer import space as module
from mirrord_trace.supervisor.tracer import space as space_module
from mirrord_trace.supervisor.tracer.space import (
    LARGE_SLOT_BYTES,
    LARGE_SLOTS,
    REGION_BYTES,
    SLOT_BYTES,
    AddressSpace,
    region_for,
)
from mirrord_trace.supervisor.tracer.tracee import Process, Tracee
from mirrord_trace.syscalls.actions import OutOfReach, SyscallError
from rig import Child, apart, libc, syscall

_PAGE = mmap.PAGESIZE
Pages = tuple[int, memoryview]


@pytest.fixture
def pages() -> Iterator[Pages]:
    """Two pages, the third behind them unmapped. This process reads itself: /proc/PID/mem asks for no stop."""
    libc.mmap.restype = ctypes.c_void_p
    libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    base = libc.mmap(None, ctypes.c_size_t(3 * _PAGE), 3, 0x22, -1, 0)
    libc.munmap(base + 2 * _PAGE, _PAGE)
    yield base, memoryview((ctypes.c_char * (2 * _PAGE)).from_address(base)).cast("B")
    libc.munmap(base, 2 * _PAGE)


def _tracee() -> Tracee:
    return Tracee(os.getpid(), Process(os.getpid(), AddressSpace()))


def _errno(action: Callable[[], object]) -> int:
    with pytest.raises(SyscallError) as caught:
        action()
    return caught.value.errno


@pytest.mark.parametrize("length", [0, 1, 254, 255, 256, 257, 300, 4094, 4095])
@pytest.mark.parametrize("warm", [False, True], ids=["first", "later"])
def test_a_string_that_ends_right_before_an_unmapped_page(pages: Pages, length: int, warm: bool) -> None:
    base, memory = pages
    text = b"a" * length
    memory[-length - 1 :] = text + b"\0"
    tracee = _tracee()
    if warm:
        tracee.read(base, 1)
    assert tracee.read_string(base + 2 * _PAGE - length - 1) == text


@pytest.mark.parametrize("length", [1, 255, 256, 257, 4095])
def test_a_string_without_end_before_an_unmapped_page_is_efault(pages: Pages, length: int) -> None:
    base, memory = pages
    memory[:] = b"a" * len(memory)
    tracee = _tracee()
    for _ in range(2):
        assert _errno(lambda: tracee.read_string(base + 2 * _PAGE - length)) == errno.EFAULT


@pytest.mark.parametrize("limit", [1, 100, 256, 1000, 4096])
def test_a_string_as_long_as_the_limit_is_too_long(pages: Pages, limit: int) -> None:
    base, memory = pages
    memory[:] = b"a" * len(memory)
    memory[limit] = 0
    tracee = _tracee()
    for _ in range(2):
        assert _errno(lambda: tracee.read_string(base, limit)) == errno.ENAMETOOLONG
    memory[limit - 1] = 0
    assert tracee.read_string(base, limit) == b"a" * (limit - 1)


@pytest.mark.parametrize("address", [0, 8, 0x8000_0000_0000, 0xFFFF_8000_0000_0000, 0xFFFF_FFFF_FFFF_FFFF])
@pytest.mark.parametrize("warm", [False, True], ids=["first", "later"])
def test_addresses_that_are_none_are_efault(pages: Pages, address: int, warm: bool) -> None:
    tracee = _tracee()
    if warm:
        tracee.read(pages[0], 1)
    assert _errno(lambda: tracee.read(address, 8)) == errno.EFAULT
    assert _errno(lambda: tracee.read_string(address)) == errno.EFAULT
    assert _errno(lambda: tracee.space.write(tracee.tid, address, b"x")) == errno.EFAULT


def test_a_read_is_whole_or_efault(pages: Pages) -> None:
    base, memory = pages
    memory[:] = b"a" * len(memory)
    tracee = _tracee()
    assert tracee.read(base + _PAGE - 4, 8) == b"a" * 8
    assert tracee.read(base, 2 * _PAGE) == b"a" * 2 * _PAGE
    assert tracee.read(base, 0) == b""
    assert _errno(lambda: tracee.read(base + _PAGE, _PAGE + 1)) == errno.EFAULT


def test_a_write_goes_where_the_tracee_could_write(pages: Pages) -> None:
    base, memory = pages
    tracee = _tracee()
    tracee.space.write(tracee.tid, base + _PAGE - 2, b"abcd")
    assert bytes(memory[_PAGE - 2 : _PAGE + 2]) == b"abcd"
    assert _errno(lambda: tracee.space.write(tracee.tid, base + 2 * _PAGE - 2, b"abcd")) == errno.EFAULT
    libc.mprotect(base, _PAGE, 1)
    assert _errno(lambda: tracee.space.write(tracee.tid, base, b"zz")) == errno.EFAULT
    assert bytes(memory[:2]) == b"\0\0"
    libc.mprotect(base, _PAGE, 3)


def test_without_process_vm_writev_the_memory_file_serves(pages: Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: int) -> int:
        ctypes.set_errno(errno.ENOSYS)
        return -1

    monkeypatch.setattr(module, "_process_vm_writev", refused)
    base, memory = pages
    tracee = _tracee()
    tracee.space.write(tracee.tid, base, b"by file")
    assert bytes(memory[:7]) == b"by file"
    assert _errno(lambda: tracee.space.write(tracee.tid, 8, b"x")) == errno.EFAULT


def test_memory_that_may_not_be_opened_is_an_errno(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, flags: int) -> int:
        raise PermissionError(errno.EACCES, "as for a program that is not dumpable", path)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OutOfReach) as caught:
        _tracee().read(4096, 1)
    assert caught.value.errno == errno.EACCES


@pytest.mark.parametrize("reason", ["none left", "all of ours"])
def test_without_a_descriptor_memory_is_read_by_number(pages: Pages, monkeypatch: pytest.MonkeyPatch, reason: str) -> None:
    def refused(path: str, flags: int) -> int:
        raise OSError(errno.EMFILE, "", path)

    if reason == "none left":
        monkeypatch.setattr(os, "open", refused)
    else:
        monkeypatch.setattr(space_module, "_most_memories", lambda: space_module._open_memories[0])
    base, memory = pages
    memory[:] = b"a" * len(memory)
    memory[-4:] = b"end\0"
    tracee = _tracee()
    for _ in range(2):
        assert tracee.read_string(base + 2 * _PAGE - 4) == b"end"
        assert tracee.read(base, 5000) == b"a" * 5000
        assert _errno(lambda: tracee.read(base + 2 * _PAGE - 1, 2)) == errno.EFAULT
    assert tracee.space.memory == space_module.BY_NUMBER
    tracee.write(base, b"b")
    assert tracee.read(base, 2) == b"ba"


@apart
def test_a_dead_tracee_is_gone() -> None:
    child = Child(lambda: syscall("getxattr"))
    child.next()
    tracee = child.tracee()
    child.kill()
    with pytest.raises(TraceeGone):
        tracee.space.write(child.pid, 4096, b"x")
    child.next()
    with pytest.raises(TraceeGone):
        tracee.read(4096, 1)


def test_slots_are_handed_out_once_and_again_after_they_came_back() -> None:
    space = AddressSpace()
    assert space.take_slot() is None
    space.add_region(0x10000)
    first = 0x10000 + LARGE_SLOTS * LARGE_SLOT_BYTES
    slots = [space.take_slot(SLOT_BYTES) for _ in range(first, 0x10000 + REGION_BYTES, SLOT_BYTES)]
    assert sorted(slot for slot in slots if slot) == list(range(first, 0x10000 + REGION_BYTES, SLOT_BYTES))
    assert space.take_slot() is None
    space.give_slot(first)
    assert space.take_slot() == first


def test_long_contents_have_slots_of_their_own() -> None:
    space = AddressSpace()
    assert space.take_slot(SLOT_BYTES + 1) is None
    space.add_region(0x10000, SLOT_BYTES + 1)
    slots = [space.take_slot(LARGE_SLOT_BYTES) for _ in range(LARGE_SLOTS)]
    assert sorted(slot for slot in slots if slot) == [0x10000 + n * LARGE_SLOT_BYTES for n in range(LARGE_SLOTS)]
    assert space.take_slot(SLOT_BYTES + 1) is None
    assert space.take_slot(SLOT_BYTES) is not None
    space.give_slot(0x10000)
    assert space.take_slot(SLOT_BYTES + 1) == 0x10000


def test_what_is_longer_still_has_a_region_of_its_own_that_serves_again() -> None:
    space = AddressSpace()
    assert region_for(LARGE_SLOT_BYTES) == REGION_BYTES
    assert region_for(100_000) == 25 * 4096
    space.add_region(0x900000, 100_000)
    assert space.regions == []
    assert space.take_slot(25 * 4096 + 1) is None
    assert space.take_slot(20_000) == 0x900000
    assert space.take_slot(20_000) is None
    space.give_slot(0x900000)
    assert space.take_slot(100_001) == 0x900000


def test_a_fork_has_the_same_regions_with_every_slot_free() -> None:
    space = AddressSpace()
    space.add_region(0x10000)
    space.add_region(0x90000)
    taken = space.take_slot()
    child = space.fork()
    assert child.regions == space.regions
    slots = {child.take_slot() for _ in range(2 * REGION_BYTES // SLOT_BYTES)}
    assert taken in slots
    assert child.take_slot() is None
    child.add_region(0x200000)
    assert space.regions == [0x10000, 0x90000]


def test_the_memory_descriptor_ends_with_the_space() -> None:
    tracee = _tracee()
    tracee.read(id(tracee), 1)
    memory = tracee.space.memory
    assert os.readlink(f"/proc/self/fd/{memory}") == f"/proc/{os.getpid()}/mem"
    del tracee
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(memory)
