"""From what the agent tells of watched paths to deeds in the mount, and the answers to the mover's own requests."""

from __future__ import annotations

import errno
import stat
from collections.abc import Callable
from typing import Any

import pytest
from fakekernel import ROOT, Clock, Kernel, read_entry
from mirrord_trace.agent.wire.file_messages import PathEvent, WatchPath
from mirrord_trace.agent.wire.messages import Done
from mirrord_trace.supervisor.fuse.events import OWN_S, Events
from mirrord_trace.supervisor.fuse.mover import Deed
from mirrord_trace.supervisor.fuse.protocol import Op, Request
from mirrord_trace.supervisor.fuse.waiting import run

MODIFY, ATTRIB, CLOSE_WRITE, FROM, TO, CREATE, DELETE = 2, 4, 8, 0x40, 0x80, 0x100, 0x200
OVERFLOW, ISDIR = 0x4000, 0x40000000
MOVER = 4711


class FakeLoop:
    def __init__(self) -> None:
        self.later: list[Callable[[], None]] = []

    def call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self.later.append(callback)

    def call_threadsafe(self, callback: Callable[[], None]) -> None:
        callback()


class FakeMover:
    """Does nothing, at once; `on_deed` looks on."""

    def __init__(self) -> None:
        self.thread_id = MOVER
        self.current: Deed | None = None
        self.deeds: list[Deed] = []
        self.on_deed: Callable[[], None] = lambda: None
        self.is_closed = False

    def do(self, deed: Deed, done: Callable[[], None]) -> None:
        self.current = deed
        self.deeds.append(deed)
        self.on_deed()
        self.current = None
        done()

    def close(self) -> None:
        self.is_closed = True


class Rig:
    """A tree whose root is watched as number 1."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.pod, self.tree = kernel, kernel.pod, kernel.tree
        self.tree.keeps_track = True
        self.loop, self.mover = FakeLoop(), FakeMover()
        self.events = Events(self.loop, self.tree, self.mover)  # type: ignore[arg-type]
        self.watch(b"/")

    def watch(self, path: bytes) -> None:
        outcomes: list[object] = []
        run(self.events.watch(path), outcomes.append)
        assert isinstance(self.pod.waiting[-1].message, WatchPath)
        self.pod.answer(reply=Done())
        assert outcomes == [None]
        self.pod.take()

    def happens(self, mask: int, name: bytes = b"", cookie: int = 0) -> list[tuple[str, bytes, bytes]]:
        self.events.happened(PathEvent(1, mask, cookie, name))
        self.pod.loop.run()
        self.pod.answer_all()
        deeds, self.mover.deeds = self.mover.deeds, []
        return [(deed.kind, deed.path, deed.other) for deed in deeds]


@pytest.fixture
def rig(kernel: Kernel) -> Rig:
    return Rig(kernel)


def test_what_is_made_and_changed(rig: Rig) -> None:
    (rig.pod.folder / "file").write_bytes(b"x")
    assert rig.happens(CREATE, b"file") == [("make", b"/file", b"")]
    assert rig.happens(MODIFY, b"file") == [("modify", b"/file", b"")]
    assert rig.happens(ATTRIB, b"file") == [("attribute", b"/file", b"")]
    assert rig.happens(CLOSE_WRITE, b"file") == [("close", b"/file", b"")]
    assert rig.happens(DELETE, b"file") == [("remove", b"/file", b"")]


def test_what_is_gone_already_was_made_all_the_same(rig: Rig) -> None:
    assert rig.happens(CREATE, b"file") == [("make", b"/file", b"")]
    assert rig.happens(MODIFY, b"file") == []
    rig.events.happened(PathEvent(1, CREATE | ISDIR, 0, b"directory"))
    rig.pod.loop.run()
    rig.pod.answer_all()
    assert stat.S_ISDIR(rig.mover.deeds[0].mode)


def test_a_rename_is_one_deed_once_both_halves_are_there(rig: Rig) -> None:
    assert rig.happens(FROM, b"old", 9) == []
    assert rig.happens(TO, b"new", 9) == [("move", b"/old", b"/new")]


def test_half_a_rename(rig: Rig) -> None:
    assert rig.happens(TO, b"came", 1)[0][::2] == ("move", b"/came")
    assert rig.happens(FROM, b"left", 2) == []
    assert rig.happens(CREATE | ISDIR, b"later") == []
    rig.loop.later.pop()()
    rig.pod.loop.run()
    rig.pod.answer_all()
    assert [(deed.kind, deed.path) for deed in rig.mover.deeds] == [("move", b"/left"), ("make", b"/later")]


def test_both_halves_may_come_while_something_else_is_being_done(rig: Rig) -> None:
    def look_on() -> None:
        rig.mover.on_deed = lambda: None
        rig.events.happened(PathEvent(1, FROM, 5, b"a"))
        rig.events.happened(PathEvent(1, TO, 5, b"b"))

    rig.mover.on_deed = look_on
    assert rig.happens(DELETE, b"x") == [("remove", b"/x", b""), ("move", b"/a", b"/b")]


def test_what_was_done_here_is_not_told_twice(rig: Rig, clock: Clock) -> None:
    rig.tree.name_changed(b"/file")
    assert rig.happens(CREATE, b"file") == []
    clock.passes(OWN_S)
    assert rig.happens(CREATE, b"file") == [("make", b"/file", b"")]


def test_an_overflow_means_that_nothing_is_known(rig: Rig) -> None:
    (rig.pod.folder / "file").write_bytes(b"x")
    rig.kernel.lookup("file")
    rig.pod.take()
    assert rig.happens(OVERFLOW) == []
    rig.kernel.lookup("file")
    assert rig.pod.take() != []


def test_a_path_is_watched_once_and_not_if_the_pod_refuses(rig: Rig) -> None:
    run(rig.events.watch(b"/"), lambda outcome: None)
    assert rig.pod.take() == []
    outcomes: list[Any] = []
    rig.pod.refusals[WatchPath] = errno.ENOSPC
    run(rig.events.watch(b"/d"), outcomes.append)
    rig.pod.answer_all()
    assert outcomes[0].errno == errno.ENOSPC


def _request(op: Op, name: bytes = b"", pid: int = MOVER) -> Request:
    return Request(op, 1, ROOT, pid, memoryview(name + b"\0"))


def test_requests_of_the_mover_are_answered_without_the_pod(rig: Rig) -> None:
    replies: list[Any] = []

    def look_on() -> None:
        assert not rig.events.serves(_request(Op.LOOKUP, b"file", pid=1))
        assert not rig.events.serves(_request(Op.LOOKUP, b"other"))
        for request in (_request(Op.LOOKUP, b"file"), _request(Op.UNLINK, b"file")):
            assert rig.events.serves(request)
            run(rig.events.serve(request), replies.append)

    rig.mover.on_deed = look_on
    rig.happens(DELETE, b"file")
    assert read_entry(replies[0]).node
    assert replies[1] == b""
    assert rig.pod.take() == []
    assert not rig.events.serves(_request(Op.UNLINK, b"file"))


def test_what_is_made_is_absent_until_it_is(rig: Rig) -> None:
    (rig.pod.folder / "file").write_bytes(b"12345")
    replies: list[Any] = []

    def look_on() -> None:
        for request in (_request(Op.LOOKUP, b"file"), _request(Op.MKNOD, b"file")):
            assert rig.events.serves(request)
            run(rig.events.serve(request), replies.append)

    rig.mover.on_deed = look_on
    rig.happens(CREATE, b"file")
    assert read_entry(replies[0]).node == 0
    assert read_entry(replies[1]).attr.size == 5


def test_the_end(rig: Rig) -> None:
    rig.events.close()
    assert rig.mover.is_closed
