"""What the tracer is told of a directory's other names."""

from __future__ import annotations

import stat

import pytest
from fakekernel import Clock, Kernel
from fakepod import Pod
from mirrord_trace.agent.wire.stats import unpack_stats
from mirrord_trace.supervisor.fuse.neighbours import Neighbours, Telling
from mirrord_trace.supervisor.fuse.waiting import run


@pytest.fixture
def telling(pod: Pod, kernel: Kernel) -> Telling:
    for number in range(30):
        pod.write(f"d/{number:02}", "x" * number)
    (pod.folder / "d/link").symlink_to("00")
    run(kernel.tree.asking.listing(b"/d"), lambda outcome: None)
    pod.answer_all()
    return Telling(kernel.tree)


def test_ever_more_of_them_and_each_once(telling: Telling, pod: Pod) -> None:
    told: list[bytes] = []
    counts = []
    for _ in range(6):
        found, valid_s = telling.of(b"/d/00", 0, 1.0)
        names = found.names.split(b"\0") if found.names else []
        for name, seen in zip(names, unpack_stats(found.stats), strict=True):
            assert (seen.size, stat.S_ISLNK(seen.mode)) == ((2, True) if name == b"link" else (int(name), False))
        assert valid_s == 1.0
        assert len(found.bare) == len(names)
        told += names
        counts.append(len(names))
    assert counts == [0, 4, 16, 11, 0, 0]
    assert sorted(told) == [*(b"%02d" % number for number in range(30)), b"link"]


def test_none_of_a_directory_that_is_not_known(telling: Telling, clock: Clock) -> None:
    assert telling.of(b"/other/x", 0, 0.5) == (Neighbours(), 0.5)
    clock.passes(1.0)
    assert telling.of(b"/d/00", 0, 0.5) == (Neighbours(), 0.5)


def test_after_a_change_from_the_beginning(telling: Telling) -> None:
    for _ in range(5):
        telling.of(b"/d/00", 0, 1.0)
    assert [telling.of(b"/d/00", 1, 1.0)[0].names.count(b"\0") for _ in range(2)] == [0, 3]


def test_it_all_counts_for_as_long_as_the_oldest(telling: Telling, kernel: Kernel, pod: Pod, clock: Clock) -> None:
    clock.passes(0.4)
    telling.of(b"/d/00", 0, 1.0)
    assert telling.of(b"/d/00", 0, 1.0)[1] == pytest.approx(0.6)


def test_what_is_being_written_is_not_told(telling: Telling, kernel: Kernel) -> None:
    first = next(iter(kernel.tree.knowledge.listing(b"/d").entries))  # type: ignore[union-attr]
    seen = kernel.tree.knowledge.look(b"/d/" + first)
    assert seen is not None
    assert seen.stat is not None
    kernel.tree.nodes.found(b"/d/" + first, seen.stat).unsent = 5
    telling.of(b"/d/00", 0, 1.0)
    assert first not in telling.of(b"/d/00", 0, 1.0)[0].names.split(b"\0")
