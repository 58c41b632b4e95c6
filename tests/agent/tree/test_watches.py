from __future__ import annotations

import errno
import os
import struct

import pytest
from mirrord_trace.agent.tree import calls
from mirrord_trace.agent.tree.watches import Watches, _events, _without_repetitions
from mirrord_trace.agent.wire.file_messages import PathEvent, UnwatchPath, WatchPath
from mirrord_trace.agent.wire.messages import Done, Failed

MODIFY, ATTRIB, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF = 2, 4, 0x40, 0x80, 0x100, 0x200, 0x400
ISDIR = 0x40000000


class FakeSession:
    """What is notified, and whether there is room."""

    def __init__(self):
        self.events = []
        self.room = True

    def notify(self, message):
        assert isinstance(message, PathEvent)
        self.events.append(message)

    def has_room(self):
        return self.room

    def masks(self, watch):
        return [event.mask for event in self.events if event.watch == watch]


@pytest.fixture
def session():
    return FakeSession()


@pytest.fixture
def watches(stage, session, root):
    watches = Watches(stage.loop, session, root, stage.workers, stage.attempt)
    yield watches
    watches.close()


@pytest.fixture
def watch(watches, stage):
    def add(number, path):
        replies = []
        watches.add(WatchPath(number, path), replies.append)
        stage.until(lambda: replies)
        return replies[0]

    return add


def test_what_happens_in_a_directory(watch, session, stage, at, put):
    assert watch(7, b"/") == Done()
    os.mkdir(at(b"/sub"))
    put(b"/file")
    os.rename(at(b"/file"), at(b"/other"))
    os.unlink(at(b"/other"))
    stage.until(lambda: DELETE in session.masks(7))
    assert session.events[0] == PathEvent(7, CREATE | ISDIR, 0, b"sub")
    assert PathEvent(7, CREATE, 0, b"file") in session.events
    left = next(event for event in session.events if event.mask == MOVED_FROM)
    assert left.cookie != 0
    assert PathEvent(7, MOVED_TO, left.cookie, b"other") in session.events


def test_a_file_itself_and_its_end(watch, session, stage, at, put):
    put(b"/file")
    watch(1, b"/file")
    os.truncate(at(b"/file"), 0)
    os.unlink(at(b"/file"))
    stage.until(lambda: DELETE_SELF in session.masks(1))
    assert session.events[0] == PathEvent(1, MODIFY, 0, b"")
    assert watch(1, b"/") == Failed(errno.EINVAL)  # the number is taken until it is given back


def test_watches_of_one_inode_all_get_its_events(watch, watches, session, stage, at, put):
    put(b"/file")
    os.link(at(b"/file"), at(b"/second"))
    watch(1, b"/file")
    watch(2, b"/second")
    os.truncate(at(b"/file"), 0)
    stage.until(lambda: len(session.events) == 2)
    assert session.masks(1) == session.masks(2) == [MODIFY]
    watches.remove(UnwatchPath(1))
    os.truncate(at(b"/file"), 5)
    stage.until(lambda: len(session.masks(2)) == 2)
    watches.remove(UnwatchPath(2))
    watches.remove(UnwatchPath(99))
    watch(3, b"/")
    os.truncate(at(b"/file"), 0)
    stage.until(lambda: session.masks(3))
    assert (len(session.masks(1)), len(session.masks(2))) == (1, 2)


def test_what_cannot_be_watched(watch, at):
    assert watch(1, b"/none") == Failed(errno.ENOENT)
    assert watch(1, b"/") == Done()
    assert watch(1, b"/") == Failed(errno.EINVAL)


def test_a_watch_that_is_not_wanted_any_more_before_it_is_made(watches, watch, session, stage, put):
    replies = []
    watches.add(WatchPath(1, b"/"), replies.append)
    watches.remove(UnwatchPath(1))
    stage.until(lambda: replies)
    assert not watches._sharing
    watch(2, b"/")
    put(b"/file")
    stage.until(lambda: session.masks(2))
    assert session.masks(1) == []


def test_events_that_are_earlier_than_the_answer(watches, session, stage):
    watches._adding = 1
    watches._descriptors[5] = -1
    watches._tell(33, CREATE, 0, b"x")
    assert session.events == []
    watches._added(WatchPath(5, b"/"), 33, Done(), lambda message: None)
    assert session.events == [PathEvent(5, CREATE, 0, b"x")]


def test_a_descriptor_is_kept_for_who_is_about_to_share_it(watches, watch, session, stage, put):
    watch(1, b"/")
    replies = []
    watches.add(WatchPath(2, b"/"), replies.append)
    watches.remove(UnwatchPath(1))
    stage.until(lambda: replies)
    put(b"/file")
    stage.until(lambda: session.masks(2))


def test_without_room_nothing_is_read(watch, session, stage, put):
    watch(1, b"/")
    session.room = False
    put(b"/file")
    elapsed = []
    stage.loop.call_later(0.02, lambda: elapsed.append(True))
    stage.until(lambda: elapsed)
    assert session.events == []
    session.room = True
    stage.until(lambda: session.events)


def test_an_overflow_is_told_to_all(watch, watches, session):
    watch(1, b"/")
    watch(2, b"/")
    watches._tell(-1, calls.IN_Q_OVERFLOW, 0, b"")
    assert session.events == [PathEvent(number, calls.IN_Q_OVERFLOW, 0, b"") for number in (1, 2)]


def test_writing_to_several_files_is_told_once_each():
    modify, close = (1, MODIFY, 0), (1, 8, 0)
    pack = lambda event, name: struct.pack("=iIII", *event, 16) + name.ljust(16, b"\0")  # noqa: E731
    block = b"".join(
        [pack(modify, b"a"), pack(modify, b"b"), pack(modify, b"a"), pack(close, b"a"), pack(modify, b"a"), pack(modify, b"b")]
    )
    assert list(_without_repetitions(_events(block))) == [
        (*modify, b"a"), (*modify, b"b"), (*close, b"a"), (*modify, b"a"),
    ]  # fmt: skip
