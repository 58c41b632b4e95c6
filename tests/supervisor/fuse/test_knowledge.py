from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest
from fakekernel import Clock
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.agent.wire.messages import FileStat
from mirrord_trace.supervisor.fuse import knowledge as knowledge_module
from mirrord_trace.supervisor.fuse.knowledge import Knowledge, Lifetimes, Listing, same_version

STAT = FileStat(1, 12, 0o100644, 1, 0, 0, 0, 5, 4096, 8, 0, 7, 7, 7)
DIRECTORY = replace(STAT, mode=0o040755)


@pytest.fixture
def known(clock: Clock) -> Knowledge:
    return Knowledge(Lifetimes(2.0, 1.0), clock)


def listing_of(known: Knowledge, *names: bytes) -> Listing:
    return known.listing_of({name: (number, 8) for number, name in enumerate(names, 1)})


# -- lifetimes ------------------------------------------------------------------------------------------------------


def test_nothing_is_known_at_first(known: Knowledge) -> None:
    assert known.look(b"/a") is None
    assert known.look(b"/") is None
    assert known.listing(b"/") is None
    assert known.lead(b"/a", True) is None
    assert known.body(b"/a", STAT) is None
    assert not known.has_no_xattrs(b"/a")


def test_what_was_seen_counts_for_its_time(known: Knowledge, clock: Clock) -> None:
    known.saw(b"/a", STAT, known.ticket(), b"", no_xattrs=True)
    known.saw_nothing(b"/b", known.ticket())
    seen, absent = known.look(b"/a"), known.look(b"/b")
    assert seen is not None
    assert (seen.stat, known.remaining_s(seen)) == (STAT, 2.0)
    assert absent is not None
    assert (absent.stat, known.remaining_s(absent)) == (None, 1.0)
    assert known.has_no_xattrs(b"/a")
    clock.passes(1.0)
    assert known.look(b"/a") == seen
    assert known.look(b"/b") is None
    clock.passes(1.0)
    assert known.look(b"/a") is None
    assert known.remaining_s(seen) == 0.0
    assert not known.has_no_xattrs(b"/a")


def test_lifetimes_of_nothing(clock: Clock) -> None:
    known = Knowledge(Lifetimes(0.0, 0.0), clock)
    known.saw(b"/a", STAT, known.ticket())
    known.saw_nothing(b"/b", known.ticket())
    known.saw_listing(b"/", listing_of(known), known.ticket())
    known.saw_way(b"/c", True, b"/a", 0, known.ticket())
    assert (known.look(b"/a"), known.look(b"/b"), known.look(b"/x")) == (None, None, None)
    assert (known.listing(b"/"), known.lead(b"/c", True)) == (None, None)


# -- listings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", [b"/", b"/etc"])
def test_a_name_that_is_in_no_listing_is_absent(known: Knowledge, clock: Clock, directory: bytes) -> None:
    prefix = directory.rstrip(b"/")
    known.saw_listing(directory, listing_of(known, b"hosts"), known.ticket())
    absent = known.look(prefix + b"/passwd")
    assert absent is not None
    assert absent.stat is None
    assert known.look(prefix + b"/hosts") is None  # it is there, but nothing else is known of it
    assert known.look(directory) is None
    found = known.listing(directory)
    assert found is not None
    assert found.entries == {b"hosts": (1, 8)}
    clock.passes(1.0)  # the shorter of the two
    assert known.look(prefix + b"/passwd") is None
    assert known.listing(directory) is None


def test_what_was_seen_later_comes_before_the_listing(known: Knowledge) -> None:
    known.saw_listing(b"/etc", listing_of(known), known.ticket())
    known.saw(b"/etc/new", STAT, known.ticket())
    seen = known.look(b"/etc/new")
    assert seen is not None
    assert seen.stat == STAT


# -- ways -----------------------------------------------------------------------------------------------------------


def test_a_path_leads_to_itself_unless_it_is_a_link_to_be_followed(known: Knowledge) -> None:
    known.saw(b"/file", STAT, known.ticket())
    known.saw(b"/link", replace(STAT, mode=0o120777), known.ticket(), b"file")
    known.saw_nothing(b"/none", known.ticket())
    for follow in (True, False):
        file, none = known.lead(b"/file", follow), known.lead(b"/none", follow)
        assert file is not None
        assert (file.path, file.errno) == (b"/file", 0)
        assert none is not None
        assert (none.path, none.errno) == (b"/none", errno.ENOENT)
    link = known.lead(b"/link", False)
    assert link is not None
    assert link.path == b"/link"
    assert known.lead(b"/link", True) is None
    known.saw_way(b"/link", True, b"/file", 0, known.ticket())
    followed = known.lead(b"/link", True)
    assert followed is not None
    assert (followed.path, followed.errno) == (b"/file", 0)


def test_ways_count_for_their_time(known: Knowledge, clock: Clock) -> None:
    known.saw_way(b"/x/../a", True, b"/a", 0, known.ticket())
    known.saw_way(b"/x/../b", True, b"/b", errno.ENOENT, known.ticket())
    assert known.lead(b"/x/../b", True) is not None
    clock.passes(1.0)
    assert known.lead(b"/x/../b", True) is None
    assert known.lead(b"/x/../a", True) is not None
    clock.passes(1.0)
    assert known.lead(b"/x/../a", True) is None


def test_any_change_of_a_name_ends_all_ways(known: Knowledge) -> None:
    """Since it may be a link on the way, or have been in the way."""
    ticket = known.ticket()
    known.saw_way(b"/one/f", True, b"/two/f", 0, ticket)
    known.forget_name(b"/three")
    assert known.lead(b"/one/f", True) is None
    known.saw_way(b"/one/f", True, b"/two/f", 0, ticket)
    assert known.lead(b"/one/f", True) is None
    known.saw_way(b"/one/f", True, b"/two/f", 0, known.ticket())
    assert known.lead(b"/one/f", True) is not None


# -- changes, and answers that were on their way -----------------------------------------------------------------------


def test_a_changed_file_is_forgotten_and_late_answers_are_not_learnt(known: Knowledge) -> None:
    ticket = known.ticket()
    known.saw(b"/a", STAT, ticket)
    known.saw_body(b"/a", b"12345", STAT, ticket)
    known.forget(b"/a")
    assert known.look(b"/a") is None
    known.saw(b"/a", STAT, ticket)
    known.saw_nothing(b"/a", ticket)
    known.saw_body(b"/a", b"12345", STAT, ticket)
    known.saw_way(b"/way", True, b"/a", 0, ticket)
    assert known.look(b"/a") is None
    assert known.body(b"/a", STAT) is None
    assert known.lead(b"/way", True) is None
    assert known.has_changed(b"/a", ticket)
    assert not known.has_changed(b"/b", ticket)
    known.saw(b"/b", STAT, ticket)
    assert known.look(b"/b") is not None
    known.saw(b"/a", STAT, known.ticket())
    assert known.look(b"/a") is not None


def test_a_changed_name_changes_its_directory(known: Knowledge) -> None:
    ticket = known.ticket()
    for path in (b"/", b"/etc"):
        known.saw(path, DIRECTORY, ticket)
        known.saw_listing(path, listing_of(known, b"etc"), ticket)
    known.forget_name(b"/etc")
    assert (known.look(b"/"), known.look(b"/etc")) == (None, None)
    assert (known.listing(b"/"), known.listing(b"/etc")) == (None, None)
    known.saw_listing(b"/", listing_of(known), ticket)
    known.saw(b"/", DIRECTORY, ticket)
    assert (known.look(b"/"), known.listing(b"/")) == (None, None)


def test_forgetting_all(known: Knowledge) -> None:
    ticket = known.ticket()
    known.saw(b"/a/b", STAT, ticket)
    known.saw_body(b"/a/b", b"12345", STAT, ticket)
    known.saw_listing(b"/a", listing_of(known, b"b"), ticket)
    known.saw_way(b"/l", True, b"/a/b", 0, ticket)
    known.forget_all()
    for again in (False, True):
        assert known.look(b"/a/b") is None
        assert known.listing(b"/a") is None
        assert known.lead(b"/l", True) is None
        assert known.body(b"/a/b", STAT) is None
        if not again:
            known.saw(b"/a/b", STAT, ticket)
            known.saw_body(b"/a/b", b"12345", STAT, ticket)
            known.saw_listing(b"/a", listing_of(known, b"b"), ticket)
            known.saw_way(b"/l", True, b"/a/b", 0, ticket)


def test_names_that_this_client_makes_and_removes_are_so_in_the_listing(known: Knowledge) -> None:
    known.saw(b"/etc", DIRECTORY, known.ticket())
    known.saw_listing(b"/etc", listing_of(known, b"a", b"b"), known.ticket())
    ticket = known.ticket()
    known.name_removed(b"/etc/a")
    known.name_made(b"/etc/c", STAT)
    listing = known.listing(b"/etc")
    assert listing is not None
    assert listing.entries == {b"b": (2, 8), b"c": (12, 8)}
    removed, made = known.look(b"/etc/a"), known.look(b"/etc/c")
    assert removed is not None
    assert removed.stat is None
    assert made is not None
    assert made.stat == STAT
    assert known.look(b"/etc") is None  # its times are others
    known.saw_listing(b"/etc", listing_of(known, b"a", b"b"), ticket)
    assert known.listing(b"/etc") is listing
    known.name_made(b"/var/x", STAT)
    assert known.listing(b"/var") is None


PATHS = [b"/a", b"/d", b"/d/a", b"/d/b"]
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.just(b"")),
        st.tuples(st.just("answer"), st.integers(0, 3)),
        st.tuples(st.just("write"), st.sampled_from(PATHS)),
        st.tuples(st.sampled_from(["name", "make", "remove"]), st.sampled_from(PATHS)),
        st.tuples(st.just("all"), st.just(b"")),
    ),
    max_size=30,
)


@settings(max_examples=400)
@given(STEPS)
def test_only_what_is_true_is_known_while_nobody_else_changes_anything(steps: list[tuple[str, Any]]) -> None:
    """Answers tell how things were at some time since they were asked for; `version` 0: there is no such file."""
    known = Knowledge(Lifetimes(9.0, 9.0), Clock())
    now = dict.fromkeys(PATHS, 1)
    counter = 1
    asked: list[tuple[int, dict[bytes, int]]] = []
    for step, which in steps:
        if step == "ask":
            asked.append((known.ticket(), dict(now)))
        elif step == "answer" and which < len(asked):
            learn(known, *asked.pop(which))
        elif step == "write" and now[which]:
            counter += 1
            now[which] = counter
            known.forget(which)
        elif step == "name":
            counter += 1
            now[which] = 0 if now[which] else counter
            known.forget_name(which)
        elif step == "make":
            counter += 1
            now[which] = counter
            known.name_made(which, replace(STAT, size=counter))
        elif step == "remove":
            now[which] = 0
            known.name_removed(which)
        elif step == "all":
            counter += 1
            now = {path: counter if version else 0 for path, version in now.items()}
            known.forget_all()
        for directory in (b"/", b"/d"):
            listing = known.listing(directory)
            assert listing is None or set(listing.entries) == members(directory, now)
        for path in PATHS:
            seen = known.look(path)
            assert seen is None or (seen.stat.size if seen.stat else 0) == now[path]
            lead = known.lead(b"/way" + path, True)
            assert lead is None or bool(lead.errno) is not bool(now[path])
            body = known.body(path, replace(STAT, size=now[path]))
            assert body is None or int(body) == now[path]


def learn(known: Knowledge, ticket: int, then: dict[bytes, int]) -> None:
    for path, version in then.items():
        if version:
            known.saw(path, replace(STAT, size=version), ticket)
            known.saw_body(path, b"%d" % version, replace(STAT, size=version), ticket)
        else:
            known.saw_nothing(path, ticket)
        known.saw_way(b"/way" + path, True, path, 0 if version else errno.ENOENT, ticket)
    for directory in (b"/", b"/d"):
        known.saw_listing(directory, listing_of(known, *members(directory, then)), ticket)


def members(directory: bytes, versions: dict[bytes, int]) -> set[bytes]:
    inside = {path: path.rpartition(b"/") for path, version in versions.items() if version}
    return {name for parent, _, name in inside.values() if (parent or b"/") == directory}


# -- bounds ---------------------------------------------------------------------------------------------------------


def test_a_body_belongs_to_one_version_of_its_file(known: Knowledge) -> None:
    known.saw_body(b"/a", b"12345", STAT, known.ticket())
    assert known.body(b"/a", replace(STAT, atime_ns=99, mode=0o100600)) == b"12345"
    for other in (replace(STAT, mtime_ns=8), replace(STAT, size=6), replace(STAT, ino=13), replace(STAT, ctime_ns=8)):
        assert not same_version(STAT, other)
        assert known.body(b"/a", other) is None


def test_bodies_are_bounded_and_the_oldest_goes_first(known: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge_module, "_CONTENT_BYTES", 10)
    for name in (b"/a", b"/b"):
        known.saw_body(name, b"12345", STAT, known.ticket())
    assert known.body(b"/a", STAT) is not None  # used again: /b is the oldest now
    known.saw_body(b"/c", b"12345", STAT, known.ticket())
    assert known.body(b"/b", STAT) is None
    assert known.body(b"/a", STAT) is not None
    known.saw_body(b"/a", b"123", STAT, known.ticket())  # in the place of the old one
    known.saw_body(b"/d", b"12", STAT, known.ticket())
    assert [known.body(name, STAT) is not None for name in (b"/a", b"/c", b"/d")] == [True, True, True]
    known.forget(b"/c")
    known.saw_body(b"/e", b"12345", STAT, known.ticket())
    assert [known.body(name, STAT) is not None for name in (b"/a", b"/d", b"/e")] == [True, True, True]


def test_everything_else_is_bounded_too(known: Knowledge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knowledge_module, "_PATHS", 20)
    before = known.ticket()
    for number in range(100):
        path = b"/%d" % number
        known.saw(path, STAT, known.ticket())
        known.saw_listing(path, listing_of(known), known.ticket())
        known.saw_way(path, True, path, 0, known.ticket())
        known.saw_nothing(path + b"/none", known.ticket())
        known.forget(b"/changed/%d" % number)
    sizes = [len(kept) for kept in vars(known).values() if isinstance(kept, dict)]
    assert max(sizes) <= 20
    # Also what is not noted any more counts as changed.
    known.saw(b"/changed/0", STAT, before)
    assert known.look(b"/changed/0") is None


def test_a_move_is_one_in_the_listings_too() -> None:
    knowledge = Knowledge(Lifetimes(), lambda: 0.0)
    for path, names in ((b"/a", [b"x", b"y"]), (b"/b", [b"z"])):
        knowledge.saw_listing(path, knowledge.listing_of({name: (number, 8) for number, name in enumerate(names)}), 0)
    knowledge.name_moved(b"/a/x", b"/b/w")
    listings = [knowledge.listing(path) for path in (b"/a", b"/b")]
    assert [list(listing.entries) for listing in listings if listing is not None] == [[b"y"], [b"z", b"w"]]
    knowledge.name_moved(b"/unseen/x", b"/b/v")
    assert knowledge.listing(b"/b") is None
