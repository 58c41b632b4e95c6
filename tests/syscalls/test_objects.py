"""Objects are known by their inode, forgotten when nobody has them open, and never mistaken for another file."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from mirrord_trace.syscalls.abi.dirent import pack_records
from mirrord_trace.syscalls.objects import SWEEP_AT, SWEEP_AT_PINS, Objects, RemoteDirectory, RemoteFile, pin_for
from script import STAT, key_of, memfd

FILE = RemoteFile(b"/a", b"/a", STAT)


def due(objects: Objects) -> bool:
    """As a call, since a property changes under mypy's eyes."""
    return objects.wants_sweep


def is_open(fd: int) -> bool:
    return Path(f"/proc/self/fd/{fd}").exists()


def test_empty_is_false_and_finds_nothing() -> None:
    objects = Objects()
    assert bool(objects) is False
    assert objects.get((1, 2)) is None
    assert objects.get(None) is None
    objects.add((1, 2), FILE)
    assert len(objects) == 1
    assert objects.get((1, 2)) is FILE
    assert objects.get((2, 1)) is None
    assert objects.get(None) is None


def test_sweep_keeps_the_living_and_waits_twice_as_long() -> None:
    objects = Objects()
    for number in range(SWEEP_AT - 1):
        objects.add((1, number), FILE)
    assert not due(objects)
    objects.add((1, SWEEP_AT), FILE)
    assert due(objects)
    assert objects.sweep({(1, number) for number in range(800)}) == SWEEP_AT - 800
    assert len(objects) == 800
    for number in range(799):
        objects.add((2, number), FILE)
        assert not due(objects)
    objects.add((2, 800), FILE)
    assert due(objects)
    assert objects.sweep(frozenset()) == 1600
    assert not objects


def test_memfds_need_no_pin_and_files_do(tmp_path: Path) -> None:
    fd = memfd(b"x")
    assert pin_for(fd) == -1
    os.close(fd)
    path = tmp_path / "large"
    path.touch()
    fd = os.open(path, os.O_RDWR)
    path.unlink()
    pin = pin_for(fd)
    assert key_of(pin) == key_of(fd)
    os.close(fd)
    os.close(pin)


def test_pins_live_as_long_as_their_objects() -> None:
    objects = Objects()
    first, second, third = memfd(), memfd(), memfd()
    objects.add((1, 1), FILE, first)
    objects.add((1, 1), FILE, second)
    assert not is_open(first)
    objects.add((1, 2), FILE, third)
    objects.sweep({(1, 2)})
    assert not is_open(second)
    assert is_open(third)
    objects.close()
    assert not is_open(third)
    assert not objects


def test_many_pins_want_an_earlier_sweep() -> None:
    objects = Objects()
    for number in range(SWEEP_AT_PINS):
        assert not due(objects)
        objects.add((1, number), FILE, memfd())
    assert due(objects)
    objects.close()
    assert not due(objects)


NAMES = st.lists(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name), max_size=30)


@given(NAMES, st.integers(0, 3000), st.integers(0, 5000))
def test_window_is_whole_records_that_fit(names: list[bytes], position: int, size: int) -> None:
    records, offsets = pack_records(names, range(len(names)), [8] * len(names))
    start, stop = RemoteDirectory(b"/d", b"/d", STAT, records, offsets).window(position, size)
    assert start in offsets
    assert stop in offsets
    assert start == min([at for at in offsets if at >= position], default=offsets[-1])
    assert stop - start <= size
    following = [at for at in offsets if at > stop]
    assert not following or following[0] - start > size
