"""Round trips are the point: every test says how many there are."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
from fakekernel import Clock
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import Entries, ReadDirectory, Walk, Walked
from mirrord_trace.agent.wire.messages import Done, Failed, FileStat, Message
from mirrord_trace.agent.wire.stats import STAT_BYTES
from mirrord_trace.supervisor.fuse.asking import CONTENT_LIMIT, Asking
from mirrord_trace.supervisor.fuse.knowledge import Knowledge, Lifetimes
from mirrord_trace.supervisor.fuse.waiting import Work, run

STAT = FileStat(1, 12, 0o100644, 1, 0, 0, 0, 0, 4096, 0, 0, 7, 7, 7)


@pytest.fixture
def asking(pod: Pod, clock: Clock) -> Asking:
    return Asking(pod, Knowledge(Lifetimes(1.0, 1.0), clock))  # type: ignore[arg-type]


class Running:
    """Work under way."""

    def __init__(self, pod: Pod, work: Work[Any]) -> None:
        self._results: list[Any] = []
        run(work, self._results.append)
        pod.loop.run()

    @property
    def is_over(self) -> bool:
        return bool(self._results)

    def result(self) -> Any:
        (result,) = self._results
        if isinstance(result, OSError):
            raise result
        return result


def finish(pod: Pod, work: Work[Any]) -> Any:
    running = Running(pod, work)
    pod.answer_all()
    return running.result()


# -- single paths -----------------------------------------------------------------------------------------------------


def test_a_look_up_is_one_round_trip_and_brings_the_whole_way(pod: Pod, asking: Asking) -> None:
    pod.write("etc/conf", "hello")
    assert finish(pod, asking.lstat(b"/etc/conf")).stat.size == 5
    for path in (b"/etc/conf", b"/etc", b"/"):
        assert finish(pod, asking.lstat(path)).stat is not None
    assert pod.asked == [Walk(b"/etc/conf", False, 0)]


def test_an_answer_counts_from_the_moment_it_came(pod: Pod, asking: Asking) -> None:
    """So that the kernel may keep it as well."""
    pod.write("conf")
    assert asking.knowledge.remaining_s(finish(pod, asking.lstat(b"/conf"))) == 1.0
    assert asking.knowledge.remaining_s(finish(pod, asking.lstat(b"/none"))) == 1.0


def test_an_answer_that_was_overtaken_by_a_change_counts_for_no_time(pod: Pod, asking: Asking) -> None:
    pod.write("conf")
    running = Running(pod, asking.lstat(b"/conf"))
    asking.knowledge.forget(b"/conf")
    pod.answer_all()
    assert asking.knowledge.remaining_s(running.result()) == 0.0


def test_a_missing_name_is_one_round_trip(pod: Pod, asking: Asking, clock: Clock) -> None:
    for _ in range(3):
        assert finish(pod, asking.lstat(b"/none")).stat is None
    assert pod.take() == ["Walk"]
    clock.passes(1.0)
    assert finish(pod, asking.lstat(b"/none")).stat is None
    assert pod.take() == ["Walk"]


def test_a_link_is_not_followed(pod: Pod, asking: Asking) -> None:
    (pod.folder / "link").symlink_to("target")
    assert finish(pod, asking.lstat(b"/link")).target == b"target"


@pytest.mark.parametrize("path", [b"/file/below", b"/" + b"x" * 256])
def test_other_failures_are_the_pods(pod: Pod, asking: Asking, path: bytes) -> None:
    pod.write("file")
    with pytest.raises(OSError) as caught:
        finish(pod, asking.lstat(path))
    assert caught.value.errno in (errno.ENOTDIR, errno.ENAMETOOLONG)


def test_concurrent_look_ups_of_one_path_ask_once(pod: Pod, asking: Asking) -> None:
    pod.write("etc/conf")
    several = [Running(pod, asking.lstat(b"/etc/conf")) for _ in range(5)]
    several.append(Running(pod, asking.lstat(b"/etc")))  # is on the way
    several.append(Running(pod, asking.way(b"/etc/conf", True)))
    pod.answer_all()
    assert all(running.is_over for running in several)
    assert pod.take() == ["Walk"]


def test_a_failure_of_what_others_wait_for_makes_them_ask_themselves(pod: Pod, asking: Asking) -> None:
    pod.write("conf")
    several = [Running(pod, asking.lstat(b"/conf")) for _ in range(3)]
    pod.answer(0, Failed(errno.ETIMEDOUT))
    pod.answer_all()
    with pytest.raises(TimeoutError):
        several[0].result()
    assert [running.result().stat is not None for running in several[1:]] == [True, True]
    assert pod.take() == ["Walk", "Walk"]


def test_a_change_while_others_wait_makes_them_ask_anew(pod: Pod, asking: Asking) -> None:
    pod.write("conf", "old")
    first = Running(pod, asking.lstat(b"/conf"))
    pod.carry_out()
    pod.write("conf", "newer")
    asking.knowledge.forget(b"/conf")
    second = Running(pod, asking.lstat(b"/conf"))
    pod.answer_all()
    assert (first.result().stat.size, second.result().stat.size) == (3, 5)


# -- directories --------------------------------------------------------------------------------------------------------


def test_the_third_name_in_a_directory_fetches_all_of_it(pod: Pod, asking: Asking) -> None:
    for name in "abcdef":
        pod.write(f"lib/{name}")
    for name in (b"a", b"x", b"c", b"d", b"e", b"y", b"z"):
        finish(pod, asking.lstat(b"/lib/" + name))
    assert pod.take() == ["Walk", "Walk", "ReadDirectory"]


def test_names_that_are_looked_up_now_and_then_do_not(pod: Pod, asking: Asking, clock: Clock) -> None:
    for number in range(6):
        finish(pod, asking.lstat(b"/%d" % number))
        clock.passes(2.0)
    assert pod.take() == ["Walk"] * 6


def test_a_directory_that_may_not_be_read_is_asked_name_by_name(pod: Pod, asking: Asking) -> None:
    pod.write("lib/a")
    pod.refusals[ReadDirectory] = errno.EACCES
    for number in range(5):
        finish(pod, asking.lstat(b"/lib/%d" % number))
    assert pod.take() == ["Walk", "Walk", "ReadDirectory", "Walk", "Walk", "Walk"]


def test_directories_of_processes_are_not_fetched(pod: Pod, asking: Asking) -> None:
    for number in range(5):
        finish(pod, asking.lstat(b"/proc/%d" % number))
    assert pod.take() == ["Walk"] * 5


def test_a_listing_brings_attributes_links_and_the_directory_itself(pod: Pod, asking: Asking) -> None:
    pod.write("etc/conf", "hello")
    (pod.folder / "etc/link").symlink_to("conf")
    listing = finish(pod, asking.listing(b"/etc"))
    assert {name: kind for name, (_, kind) in listing.entries.items()} == {b"conf": 8, b"link": 10}
    assert finish(pod, asking.lstat(b"/etc/conf")).stat.size == 5
    assert finish(pod, asking.lstat(b"/etc/link")).target == b"conf"
    assert finish(pod, asking.lstat(b"/etc")).stat.mode >> 12 == 4
    assert finish(pod, asking.lstat(b"/etc/none")).stat is None
    assert finish(pod, asking.listing(b"/etc")) is listing
    assert pod.take() == ["ReadDirectory"]


def test_concurrent_listings_and_look_ups_ask_once(pod: Pod, asking: Asking) -> None:
    pod.write("etc/conf")
    several = [Running(pod, asking.listing(b"/etc")) for _ in range(3)]
    looking = Running(pod, asking.lstat(b"/etc/conf"))
    pod.answer_all()
    assert len({id(running.result()) for running in several}) == 1
    assert looking.result().stat is not None
    assert pod.take() == ["ReadDirectory"]


def test_concurrent_listings_share_a_failure(pod: Pod, asking: Asking) -> None:
    several = [Running(pod, asking.listing(b"/none")) for _ in range(3)]
    pod.answer_all()
    for running in several:
        with pytest.raises(FileNotFoundError):
            running.result()
    assert pod.take() == ["ReadDirectory"]


def test_who_lists_after_a_change_does_not_get_what_was_read_before_it(pod: Pod, asking: Asking) -> None:
    """One thread reads a directory, which takes long; another makes a file in it, and then lists it."""
    pod.write("etc/old")
    first = Running(pod, asking.listing(b"/etc"))
    pod.carry_out()
    pod.write("etc/new")
    asking.knowledge.name_made(b"/etc/new", STAT)
    several = [Running(pod, asking.listing(b"/etc")) for _ in range(3)]
    pod.answer_all()
    assert set(first.result().entries) == {b"old"}
    assert [set(running.result().entries) for running in several] == [{b"old", b"new"}] * 3
    assert [type(message) for message in pod.asked].count(ReadDirectory) == 2


def test_what_a_path_as_written_leads_to_is_learnt_under_real_names_only(pod: Pod, asking: Asking) -> None:
    """A change of /real/f is one of /link/f too, whatever has been asked for by that name."""
    pod.write("real/sub/f", "old")
    (pod.folder / "link").symlink_to("real")
    asking.foretell(b"/link/sub", True, False, True)
    pod.answer_all()
    for number in range(4):
        finish(pod, asking.way(b"/link/sub/%d" % number, True))
    assert finish(pod, asking.way(b"/link/sub/f", True)).path == b"/real/sub/f"
    assert asking.knowledge.listing(b"/link/sub") is None
    assert asking.knowledge.look(b"/link/sub/f") is None


# -- ways ---------------------------------------------------------------------------------------------------------------


def test_where_a_path_leads(pod: Pod, asking: Asking) -> None:
    pod.write("etc/conf")
    (pod.folder / "link").symlink_to("etc/conf")
    (pod.folder / "broken").symlink_to("none")
    for _ in range(2):
        assert finish(pod, asking.way(b"/link", True))[:2] == (b"/etc/conf", 0)
        assert finish(pod, asking.way(b"/broken", True))[:2] == (b"/none", errno.ENOENT)
        assert finish(pod, asking.way(b"/etc/conf", True))[:2] == (b"/etc/conf", 0)
        assert finish(pod, asking.way(b"/link", False))[:2] == (b"/link", 0)
    assert pod.take() == ["Walk", "Walk"]
    assert finish(pod, asking.way(b"/etc/conf/x", True)).errno == errno.ENOTDIR


# -- what is foretold -----------------------------------------------------------------------------------------------------


def test_a_foretold_small_file_comes_in_one_round_trip(pod: Pod, asking: Asking) -> None:
    pod.write("etc/conf", "hello")
    asking.foretell(b"/etc/conf", True, True, False)
    asking.foretell(b"/etc/conf", True, True, False)
    looking = Running(pod, asking.lstat(b"/etc/conf"))
    pod.answer_all()
    stat = looking.result().stat
    assert finish(pod, asking.body(b"/etc/conf", stat)) == b"hello"
    asking.foretell(b"/etc/conf", True, True, False)
    assert pod.asked == [Walk(b"/etc/conf", True, CONTENT_LIMIT)]


def test_a_body_that_is_on_its_way_is_waited_for(pod: Pod, asking: Asking) -> None:
    pod.write("conf", "hello")
    stat = finish(pod, asking.lstat(b"/conf")).stat
    asking.foretell(b"/conf", True, True, False)
    body = Running(pod, asking.body(b"/conf", stat))
    assert not body.is_over
    pod.answer_all()
    assert body.result() == b"hello"
    assert finish(pod, asking.body(b"/none", stat)) is None


@pytest.mark.parametrize("what", ["large", "directory"])
def test_what_has_no_content_to_come_is_foretold_once(pod: Pod, asking: Asking, what: str) -> None:
    (pod.folder / "directory").mkdir()
    pod.write("large", bytes(CONTENT_LIMIT + 1))
    for _ in range(3):
        asking.foretell(b"/" + what.encode(), True, True, False)
        pod.answer_all()
    assert pod.take() == ["Walk"]


def test_a_foretold_directory_comes_with_its_listing(pod: Pod, asking: Asking) -> None:
    pod.write("etc/conf")
    for _ in range(2):
        asking.foretell(b"/etc", True, False, True)
        asking.foretell(b"/etc", True, False, True)
        pod.answer_all()
    assert asking.knowledge.listing(b"/etc") is not None
    assert sorted(pod.take()) == ["ReadDirectory", "Walk"]


def test_what_is_foretold_and_missing_is_asked_for_once(pod: Pod, asking: Asking) -> None:
    for _ in range(2):
        asking.foretell(b"/none", True, True, True)
        pod.answer_all()
    assert finish(pod, asking.lstat(b"/none")).stat is None
    assert pod.take().count("Walk") == 1


def test_content_by_itself(pod: Pod, asking: Asking) -> None:
    pod.write("conf", "hello")
    pod.write("large", bytes(CONTENT_LIMIT + 1))
    assert finish(pod, asking.content(b"/conf")) == b"hello"
    for path, code in ((b"/large", errno.E2BIG), (b"/none", errno.ENOENT)):
        with pytest.raises(OSError) as caught:
            finish(pod, asking.content(path))
        assert caught.value.errno == code


# -- answers that make no sense -------------------------------------------------------------------------------------------

GOOD = Walked((), b"", (), 0, b"", False, b"")


@pytest.mark.parametrize(
    "answer",
    [
        Done(),
        GOOD,
        replace(GOOD, stats=b"short"),
        replace(GOOD, paths=(b"/",)),
        replace(GOOD, paths=(b"/",), stats=bytes(STAT_BYTES)),
    ],
)
def test_malformed_ways_are_eio(pod: Pod, asking: Asking, answer: Message) -> None:
    several = [Running(pod, asking.lstat(b"/a")) for _ in range(2)]
    pod.answer(0, answer)
    with pytest.raises(OSError) as caught:
        several[0].result()
    assert caught.value.errno == errno.EIO
    pod.answer_all()
    assert several[1].result().stat is None


NOTHING = Entries(b"", b"", b"", b"", b"", b"", b"")


@pytest.mark.parametrize(
    "answer",
    [Done(), NOTHING, replace(NOTHING, own=b"short"), replace(NOTHING, own=bytes(STAT_BYTES), names=b"a", types=b"\x08")],
)
def test_malformed_listings_are_eio(pod: Pod, asking: Asking, answer: Message) -> None:
    listing = Running(pod, asking.listing(b"/"))
    pod.answer(0, answer)
    with pytest.raises(OSError) as caught:
        listing.result()
    assert caught.value.errno == errno.EIO


def test_a_bug_while_others_wait_for_a_listing(pod: Pod, asking: Asking, capfd: Any) -> None:
    """What cannot even be asked costs who asks: the others ask themselves, once together."""
    several = [Running(pod, asking.listing(b"/")) for _ in range(3)]
    pod.asked.clear()
    pod.waiting.pop().on_reply(object())  # type: ignore[arg-type]
    pod.answer_all()
    for running in several:
        assert running.is_over


def test_entries_beyond_those_with_attributes(pod: Pod, asking: Asking) -> None:
    names = [b"%05d" % number for number in range(1000)]
    running = Running(pod, asking.listing(b"/big"))
    answer = Entries(b"\0".join(names), bytes([8]) * 1000, bytes(8 * 1000), b"", b"", bytes(STAT_BYTES), b"")
    pod.answer(0, answer)
    assert len(running.result().entries) == 1000
    assert asking.knowledge.look(b"/big/00007") is None
    assert asking.knowledge.look(b"/big/none") is not None
