from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from fakekernel import Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.supervisor.fuse.readahead import LARGEST_WINDOW, PIECE_BYTES, ReadAhead
from mirrord_trace.supervisor.fuse.waiting import Outcome, failure, run

CHUNK = 128 * 1024
"""What the kernel asks for at a time."""


class File:
    """A file of the pod: what is fetched of it waits in `waiting` for `answer`."""

    def __init__(self, clock: Clock, content: bytes, is_on: bool = True) -> None:
        self.content = content
        self.fetched: list[tuple[int, int]] = []
        self.waiting: list[tuple[int, int, Callable[[Outcome], None]]] = []
        self.ahead = ReadAhead(self._fetch, clock, 1.0, is_on)

    def _fetch(self, offset: int, size: int, settle: Callable[[Outcome], None]) -> None:
        self.fetched.append((offset, size))
        self.waiting.append((offset, size, settle))

    def answer(self, index: int = 0) -> None:
        offset, size, settle = self.waiting.pop(index)
        settle(self.content[offset : offset + size])

    def begin(self, offset: int, size: int = CHUNK, known_size: int = -1) -> list[Any]:
        found: list[Any] = []
        run(self.ahead.read(offset, size, len(self.content) if known_size < 0 else known_size), found.append)
        return found

    def read(self, offset: int, size: int = CHUNK, known_size: int = -1) -> bytes:
        found = self.begin(offset, size, known_size)
        while self.waiting:
            self.answer()
        (content,) = found
        assert isinstance(content, bytes)
        return content

    def take(self) -> list[tuple[int, int]]:
        fetched, self.fetched = self.fetched, []
        return fetched


def pattern(size: int) -> bytes:
    return (b"%07d\n" * (size // 8 + 1) % tuple(range(size // 8 + 1)))[:size]


MEBIBYTES = 1024 * 1024
LARGE = pattern(8 * MEBIBYTES)


def test_a_small_file_is_one_request(clock: Clock) -> None:
    file = File(clock, pattern(5000))
    assert file.read(0) == file.content
    assert file.read(4096) == file.content[4096:]
    assert file.read(5000) == b""
    assert file.take() == [(0, PIECE_BYTES)]


def test_a_sequential_reader_has_ever_more_on_its_way(clock: Clock) -> None:
    file = File(clock, LARGE)
    on_their_way = []
    for offset in range(0, 4 * MEBIBYTES, CHUNK):
        found = file.begin(offset)
        on_their_way.append(len(file.waiting))
        while not found:
            file.answer()
        assert found == [LARGE[offset : offset + CHUNK]]
    assert on_their_way[0] == 2
    assert max(on_their_way) > 16
    assert len(file.fetched) == len(set(file.fetched)) <= len(LARGE) // PIECE_BYTES


def test_the_window_has_a_limit(clock: Clock) -> None:
    huge = 1 << 40
    file = File(clock, b"")
    waiting = 0
    for offset in range(0, 20 * CHUNK, CHUNK):
        file.begin(offset, CHUNK, huge)
        waiting = len(file.waiting)
    assert waiting <= LARGEST_WINDOW + 20 * CHUNK // PIECE_BYTES + 1


def test_nothing_beyond_the_end_is_asked_for(clock: Clock) -> None:
    file = File(clock, LARGE)
    for offset in range(0, len(LARGE), CHUNK):
        file.read(offset)
    assert max(offset for offset, _ in file.take()) < len(LARGE)


def test_a_read_elsewhere_gets_just_what_it_wants(clock: Clock) -> None:
    file = File(clock, LARGE)
    for offset in (7 * MEBIBYTES, 1 * MEBIBYTES, 7 * MEBIBYTES + 5):
        assert file.read(offset, 4096) == LARGE[offset : offset + 4096]
    assert file.take() == [(7 * MEBIBYTES, 4096), (1 * MEBIBYTES, 4096), (7 * MEBIBYTES + 5, 4096)]


def test_a_reader_that_goes_on_from_elsewhere_reads_ahead_again(clock: Clock) -> None:
    file = File(clock, LARGE)
    file.read(0)
    file.take()
    for offset in range(6 * MEBIBYTES, 7 * MEBIBYTES, CHUNK):
        assert file.read(offset) == LARGE[offset : offset + CHUNK]
    assert file.take()[0] == (6 * MEBIBYTES, CHUNK)
    assert len(file.take()) < 8


def test_switched_off(clock: Clock) -> None:
    file = File(clock, LARGE, is_on=False)
    for offset in range(0, MEBIBYTES, CHUNK):
        assert file.read(offset) == LARGE[offset : offset + CHUNK]
    assert file.take() == [(offset, CHUNK) for offset in range(0, MEBIBYTES, CHUNK)]


def test_readers_of_one_piece_share_it_and_answers_come_in_any_order(clock: Clock) -> None:
    file = File(clock, LARGE)
    found = [file.begin(offset) for offset in (0, CHUNK, 2 * CHUNK)]
    assert len({offset for offset, _ in file.fetched}) == len(file.fetched)
    while file.waiting:
        file.answer(-1)
    assert [each[0] for each in found] == [LARGE[offset : offset + CHUNK] for offset in (0, CHUNK, 2 * CHUNK)]


def test_what_was_read_ahead_counts_for_a_time(clock: Clock) -> None:
    file = File(clock, pattern(1000))
    file.read(0)
    clock.passes(0.9)
    file.content = b"x" * 1000
    assert file.read(0) == pattern(1000)
    clock.passes(0.1)
    assert file.read(0) == b"x" * 1000


def test_what_was_dropped_counts_no_more_but_who_waits_for_it_is_served(clock: Clock) -> None:
    file = File(clock, pattern(1000))
    before = file.begin(0)
    file.ahead.drop()
    after = file.begin(0)
    assert len(file.waiting) == 2
    file.answer()
    assert (len(before), len(after)) == (1, 0)
    file.content = b"x" * 1000
    file.answer()
    assert after == [b"x" * 1000]
    assert file.read(0) == b"x" * 1000


# -- the end of the file ------------------------------------------------------------------------------------------------


def test_a_file_that_has_grown_is_asked_for_again_where_it_ended(clock: Clock) -> None:
    file = File(clock, pattern(1000))
    assert file.read(0) == pattern(1000)
    file.content = pattern(3000)
    assert file.read(1000, known_size=1000) == b""  # as far as anybody knows
    assert file.read(1000) == pattern(3000)[1000:]
    assert file.take() == [(0, PIECE_BYTES)] * 2


def test_a_file_whose_size_says_nothing_is_read_to_its_end(clock: Clock) -> None:
    """As in /proc."""
    content = pattern(3 * PIECE_BYTES // 2)
    file = File(clock, content)
    got = b""
    while part := file.read(len(got), known_size=0):
        got += part
    assert got == content


def test_a_file_that_has_shrunk(clock: Clock) -> None:
    file = File(clock, pattern(PIECE_BYTES))
    assert file.read(0, PIECE_BYTES, 4 * PIECE_BYTES) == file.content
    assert file.read(PIECE_BYTES, CHUNK, 4 * PIECE_BYTES) == b""


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
def test_reads_over_the_borders_of_pieces(clock: Clock, size: int) -> None:
    file = File(clock, pattern(size))
    assert file.read(0, 1 << 20) == file.content
    assert file.read(PIECE_BYTES - 10, 20) == file.content[PIECE_BYTES - 10 : PIECE_BYTES + 10]


# -- failures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0, 5 * MEBIBYTES])
def test_a_failure_is_told_to_all_who_wait_and_is_not_kept(clock: Clock, offset: int) -> None:
    file = File(clock, LARGE)
    found = [file.begin(offset, 4096), file.begin(offset, 4096)]
    while file.waiting:
        file.waiting.pop()[2](failure(errno.EIO))
    assert [each[0].errno for each in found] == [errno.EIO] * 2
    assert file.read(offset, 4096) == LARGE[offset : offset + 4096]


def test_a_failure_further_on_does_not_hurt_who_does_not_get_there(clock: Clock) -> None:
    file = File(clock, LARGE)
    found = file.begin(0)
    file.answer()
    while file.waiting:
        file.waiting.pop()[2](failure(errno.EIO))
    assert found == [LARGE[:CHUNK]]


# -- bounds -------------------------------------------------------------------------------------------------------------


def test_pieces_behind_the_reader_go(clock: Clock) -> None:
    file = File(clock, b"")
    size = 64 * MEBIBYTES
    for offset in range(0, size, CHUNK):
        file.begin(offset, CHUNK, size)
        while file.waiting:
            file.waiting.pop()[2](b"\0" * PIECE_BYTES)
    assert len(file.ahead._pieces) * PIECE_BYTES <= 4 * MEBIBYTES + (LARGEST_WINDOW + 1) * PIECE_BYTES


READS = st.lists(st.tuples(st.integers(0, 3 * PIECE_BYTES), st.integers(1, 2 * PIECE_BYTES)), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 3 * PIECE_BYTES), READS, st.randoms(use_true_random=False))
def test_whatever_is_read_in_whatever_order_is_what_the_file_has(size: int, reads: list[tuple[int, int]], random: Any) -> None:
    file = File(Clock(), LARGE[:size])
    found = [file.begin(offset, length) for offset, length in reads]
    while file.waiting:
        file.answer(random.randrange(len(file.waiting)))
    assert [each[0] for each in found] == [LARGE[:size][offset : offset + length] for offset, length in reads]
