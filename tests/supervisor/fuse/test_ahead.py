"""What is asked for on a guess, and how much of it."""

from __future__ import annotations

import errno
from collections.abc import Iterable

import pytest
from fakekernel import Clock
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import Walk
from mirrord_trace.agent.wire.messages import Failed
from mirrord_trace.supervisor.fuse.ahead import ENTRIES, SMALL_BYTES
from mirrord_trace.supervisor.fuse.asking import Asking
from mirrord_trace.supervisor.fuse.knowledge import Knowledge, Lifetimes
from mirrord_trace.supervisor.fuse.waiting import run


@pytest.fixture
def asking(pod: Pod, clock: Clock) -> Asking:
    return Asking(pod, Knowledge(Lifetimes(1.0, 1.0), clock))  # type: ignore[arg-type]


def tree(pod: Pod, count: int, files: int = 1) -> list[bytes]:
    for number in range(count):
        for name in range(files):
            pod.write(f"tree/{number:02}/{name}", "x")
    return [b"/tree/%02d" % number for number in range(count)]


def listed(pod: Pod, asking: Asking, path: bytes) -> int:
    """How many requests there are because somebody lists this directory."""
    run(asking.listing(path), lambda outcome: None)
    pod.loop.run()
    asked = pod.take()
    assert set(asked) <= {"ReadDirectory"}
    pod.answer_all()
    return len(asked)


def opened(pod: Pod, asking: Asking, path: bytes) -> list[str]:
    asking.foretell(path, True, True, False)
    asked = pod.take()
    pod.answer_all()
    return asked


def pack(pod: Pod, names: Iterable[object], size: int = 1) -> None:
    for name in names:
        pod.write(f"pack/{name}", "x" * size)


# -- directories --------------------------------------------------------------------------------------------------------


def test_as_many_directories_are_ahead_as_were_used(pod: Pod, asking: Asking) -> None:
    paths = tree(pod, 40)
    listed(pod, asking, b"/tree")
    trips = [listed(pod, asking, path) for path in paths]
    assert trips[:6] == [1, 3, 2, 2, 2, 2]
    assert trips[20] == 1  # the next of those that are ahead by now, and no more than 16 ever
    assert sum(trips) == 40
    assert not any(trips[-16:])


@pytest.mark.parametrize("is_by_name", [True, False])
def test_the_next_ones_are_those_in_the_order_of_use(pod: Pod, asking: Asking, is_by_name: bool) -> None:
    paths = tree(pod, 40)
    listed(pod, asking, b"/tree")
    known = asking.knowledge.listing(b"/tree")
    assert known is not None
    names = sorted(known.entries) if is_by_name else list(known.entries)
    assert len(paths) == len(names)
    for name in names[10:20]:
        listed(pod, asking, b"/tree/" + name)
    assert all(asking.knowledge.listing(b"/tree/" + name) is not None for name in names[20:23])


def test_a_name_in_a_directory_uses_it_too(pod: Pod, asking: Asking) -> None:
    """Who looks at files by path never lists anything."""
    tree(pod, 12, 4)
    asked: list[str] = []
    for number in range(12):
        for name in range(4):
            run(asking.way(b"/tree/%02d/%d" % (number, name), False), lambda outcome: None)
            pod.loop.run()
            pod.answer_all()
        asked.append(" ".join(pod.take()))
    assert asked[0] == "Walk Walk ReadDirectory"
    assert not any(asked[-4:])
    assert sum(line.count("ReadDirectory") for line in asked) == 13  # each directory, and the one in which they are
    assert sum(line.count("Walk") for line in asked) <= 6


def test_while_guesses_are_good_one_name_is_enough(pod: Pod, asking: Asking, clock: Clock) -> None:
    paths = tree(pod, 12)
    for name in ("other", "third"):
        pod.write(f"{name}/a", "x")
    listed(pod, asking, b"/tree")
    for path in paths[:4]:
        listed(pod, asking, path)
    assert looked_up(pod, asking, b"/other/a") == ["ReadDirectory"]
    # What was ahead is too old by now, and was wasted.
    clock.passes(1.5)
    listed(pod, asking, b"/tree")
    listed(pod, asking, paths[11])
    assert looked_up(pod, asking, b"/third/a") == ["Walk"]


def looked_up(pod: Pod, asking: Asking, path: bytes) -> list[str]:
    run(asking.lstat(path), lambda outcome: None)
    pod.loop.run()
    pod.answer_all()
    return pod.take()


def test_nothing_is_guessed_where_nothing_is_kept(pod: Pod, clock: Clock) -> None:
    asking = Asking(pod, Knowledge(Lifetimes(0.0, 0.0), clock))  # type: ignore[arg-type]
    assert [listed(pod, asking, path) for path in tree(pod, 6)] == [1] * 6


def test_nothing_is_guessed_of_processes_and_devices(pod: Pod, asking: Asking) -> None:
    for number in range(6):
        pod.write(f"sys/class/{number}/x", "x")
    listed(pod, asking, b"/sys/class")
    assert [listed(pod, asking, b"/sys/class/%d" % number) for number in range(6)] == [1] * 6


def test_what_policy_hides_is_not_fetched(pod: Pod, asking: Asking) -> None:
    asking.may_read = lambda path: not path.endswith(b"5")
    paths = tree(pod, 6)
    listed(pod, asking, b"/tree")
    for path in paths[:5]:
        listed(pod, asking, path)
    assert asking.knowledge.listing(b"/tree/05") is None


def test_a_large_directory_is_refused_to_a_guess(pod: Pod, asking: Asking) -> None:
    paths = tree(pod, 4)
    for number in range(ENTRIES + 1):
        pod.write(f"tree/03/{number}")
    listed(pod, asking, b"/tree")
    for path in paths[:3]:
        listed(pod, asking, path)
    assert asking.knowledge.listing(paths[3]) is None
    assert listed(pod, asking, paths[3]) == 1
    assert asking.knowledge.listing(paths[3]) is not None


def test_who_waits_for_a_guess_that_fails_asks_by_himself(pod: Pod, asking: Asking) -> None:
    paths = tree(pod, 4)
    listed(pod, asking, b"/tree")
    listed(pod, asking, paths[0])
    run(asking.listing(paths[1]), lambda outcome: None)
    pod.loop.run()
    seen: list[object] = []
    run(asking.listing(paths[2]), seen.append)
    guess = next(index for index, question in enumerate(pod.waiting) if question.message.path == paths[2])  # type: ignore[attr-defined]
    pod.answer(guess, Failed(errno.E2BIG))
    pod.answer_all()
    assert hasattr(seen[0], "entries")


def test_guesses_that_nobody_uses_end_it(pod: Pod, asking: Asking, clock: Clock) -> None:
    paths = tree(pod, 200)
    listed(pod, asking, b"/tree")
    total = 0
    for path in paths[::37] + paths[1::37]:
        total += listed(pod, asking, path)
        clock.passes(1.5)
        listed(pod, asking, b"/tree")
    assert total <= 3 * len(paths[::37] + paths[1::37])


def test_no_more_is_ahead_than_will_be_used_in_time(pod: Pod, asking: Asking, clock: Clock) -> None:
    paths = tree(pod, 30)
    listed(pod, asking, b"/tree")
    trips = []
    for path in paths[:8]:
        trips.append(listed(pod, asking, path))
        clock.passes(0.2)
        asking.knowledge.saw_listing(b"/tree", asking.knowledge.listing_of(_entries(asking)), asking.knowledge.ticket())
    assert trips[:2] == [1, 3]
    assert max(trips[2:]) <= 2
    assert sum(trips) <= len(trips) + 2 + 1


def _entries(asking: Asking) -> dict[bytes, tuple[int, int]]:
    return {b"%02d" % number: (number + 1, 4) for number in range(30)}


# -- contents -----------------------------------------------------------------------------------------------------------


def test_small_files_are_fetched_ahead_as_many_as_were_opened(pod: Pod, asking: Asking) -> None:
    pack(pod, range(8))
    pack(pod, ["large"], SMALL_BYTES + 1)
    pack(pod, ["empty"], 0)
    names = [b"%d" % number for number in range(8)]
    run(asking.listing(b"/pack"), lambda outcome: None)
    pod.answer_all()
    pod.take()
    asked = [opened(pod, asking, b"/pack/" + name) for name in names]
    assert [len(each) for each in asked] == [1, 3, 2, 2, 0, 0, 0, 0]
    assert all(path.stat is not None for path in [asking.knowledge.look(b"/pack/large")] if path)
    assert not [message for message in pod.asked if b"large" in message.path]  # type: ignore[attr-defined]


def test_no_content_is_fetched_ahead_where_nothing_is_read_ahead(pod: Pod, clock: Clock) -> None:
    asking = Asking(pod, Knowledge(Lifetimes(1.0, 1.0), clock), reads_ahead=False)  # type: ignore[arg-type]
    pack(pod, range(5))
    run(asking.listing(b"/pack"), lambda outcome: None)
    pod.answer_all()
    pod.take()
    assert [opened(pod, asking, b"/pack/%d" % number) for number in range(5)] == [["Walk"]] * 5


def test_of_a_directory_that_was_not_listed_the_names_come_first(pod: Pod, asking: Asking) -> None:
    pack(pod, range(5))
    assert opened(pod, asking, b"/pack/0") == ["Walk"]
    assert opened(pod, asking, b"/pack/1") == ["Walk", "ReadDirectory"]
    assert pod.take() == ["Walk", "Walk"]  # once these are there, two more
    assert opened(pod, asking, b"/pack/2") == ["Walk"]  # the last
    assert opened(pod, asking, b"/pack/3") == []


def test_a_guess_is_as_good_as_an_answer(pod: Pod, asking: Asking, clock: Clock) -> None:
    """And as bad: what has been changed here meanwhile is not learnt."""
    pack(pod, range(4))
    opened(pod, asking, b"/pack/0")
    asking.foretell(b"/pack/1", True, True, False)
    while [question for question in pod.waiting if not isinstance(question.message, Walk)]:
        pod.answer()
    guesses = [question.message for question in pod.waiting]
    assert guesses == [Walk(b"/pack/2", True, SMALL_BYTES), Walk(b"/pack/3", True, SMALL_BYTES)]
    asking.knowledge.forget(b"/pack/2")
    pod.answer_all()
    assert asking.knowledge.look(b"/pack/2") is None
    seen = asking.knowledge.look(b"/pack/3")
    assert seen is not None
    assert seen.stat is not None
    assert asking.knowledge.body(b"/pack/3", seen.stat) == b"x"
    clock.passes(1.0)
    assert asking.knowledge.look(b"/pack/3") is None


def test_guesses_on_their_way_are_few(pod: Pod, asking: Asking) -> None:
    for row in range(4):
        for number in range(40):
            pod.write(f"pack{row}/{number:02}", "x")
        run(asking.listing(b"/pack%d" % row), lambda outcome: None)
        pod.answer_all()
    for row in range(4):
        for number in range(20):
            asking.foretell(b"/pack%d/%02d" % (row, number), True, True, False)
    own = 4 * 20
    assert len(pod.waiting) <= own + 16
