from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import WriteHandle
from mirrord_trace.agent.wire.messages import Attributes, Done, Failed, FileStat
from mirrord_trace.supervisor.fuse import writebehind
from mirrord_trace.supervisor.fuse.nodes import Node, key_of
from mirrord_trace.supervisor.fuse.waiting import Work, run
from mirrord_trace.supervisor.fuse.writebehind import WriteBehind

STAT = FileStat(1, 12, 0o100644, 1, 0, 0, 0, 5, 4096, 8, 0, 7, 7, 7)


class Stage:
    """Two files, and a pod that acknowledges when the test says so."""

    def __init__(self, pod: Pod, is_on: bool = True) -> None:
        self.pod = pod
        self.node, self.other = Node(2, key_of(STAT), STAT), Node(3, key_of(STAT), STAT)
        self.changed: list[int] = []
        self.behind = WriteBehind(pod, is_on, lambda node: self.changed.append(node.id))  # type: ignore[arg-type]

    def begin(self, work: Work[Any]) -> list[Any]:
        found: list[Any] = []
        run(work, found.append)
        return found

    def write(self, content: bytes, node: Node | None = None) -> list[Any]:
        return self.begin(self.behind.write(node or self.node, 1, 0, content))

    def acknowledge(self, answer: Any = None) -> None:
        self.pod.answer(0, answer or Done())


@pytest.fixture
def stage(pod: Pod) -> Stage:
    return Stage(pod)


def test_a_write_returns_when_its_data_is_here_and_is_on_its_way(stage: Stage) -> None:
    assert stage.write(b"abc") == [None]
    assert stage.pod.asked == [WriteHandle(1, 0, b"abc")]
    assert (stage.node.unsent, stage.behind.unsent_bytes) == (3, 3)
    assert stage.changed == [2]
    stage.acknowledge()
    assert (stage.node.unsent, stage.behind.unsent_bytes) == (0, 0)
    assert stage.changed == [2, 2]


def test_who_needs_the_file_waits_for_it_alone(stage: Stage) -> None:
    stage.write(b"abc")
    stage.write(b"de", stage.other)
    drained = [stage.begin(stage.behind.drained(node)) for node in (stage.node, stage.other)]
    everything = stage.begin(stage.behind.all_drained())
    assert (drained, everything) == ([[], []], [])
    stage.acknowledge()
    assert (drained, everything) == ([[None], []], [])
    stage.acknowledge()
    assert (drained, everything) == ([[None], [None]], [None])


def test_who_waits_goes_on_waiting_for_what_is_written_meanwhile(stage: Stage) -> None:
    stage.write(b"abc")

    def writes_again() -> Work[None]:
        yield from stage.behind.drained(stage.node)
        yield from stage.behind.write(stage.node, 1, 3, b"more")

    first = stage.begin(writes_again())
    second = stage.begin(stage.behind.drained(stage.node))
    stage.acknowledge()
    assert (first, second) == ([None], [])
    stage.acknowledge()
    assert second == [None]


def test_nothing_unsent_is_nothing_to_wait_for(stage: Stage) -> None:
    assert stage.begin(stage.behind.drained(stage.node)) == [None]
    assert stage.begin(stage.behind.all_drained()) == [None]


@pytest.mark.parametrize(
    ("answer", "code"), [(Failed(errno.ENOSPC), errno.ENOSPC), (Failed(0), errno.EIO), (Attributes(STAT), errno.EIO)]
)
def test_a_failure_is_told_once_and_until_then_nothing_more_is_written(stage: Stage, answer: Any, code: int) -> None:
    stage.write(b"abc")
    stage.acknowledge(answer)
    (error,) = stage.write(b"def")
    assert error.errno == code
    assert stage.write(b"def", stage.other) == [None]
    with pytest.raises(OSError) as caught:
        stage.behind.take_error(stage.node)
    assert caught.value.errno == code
    stage.behind.take_error(stage.node)
    assert stage.write(b"def") == [None]


def test_the_first_failure_is_the_one_that_is_told(stage: Stage) -> None:
    stage.write(b"abc")
    stage.write(b"def")
    stage.acknowledge(Failed(errno.ENOSPC))
    stage.acknowledge(Failed(errno.EIO))
    assert stage.node.write_errno == errno.ENOSPC


def test_a_writer_that_is_ahead_waits_for_room_and_keeps_its_place(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writebehind, "LIMIT_BYTES", 10)
    results = [stage.write(b"%d" % number * 4) for number in range(5)]
    assert results == [[None], [None], [], [], []]
    assert stage.behind.unsent_bytes == 8
    stage.acknowledge()
    assert results == [[None], [None], [None], [], []]
    while stage.pod.waiting:
        stage.acknowledge()
    assert results == [[None]] * 5
    assert [message.content[:1] for message in stage.pod.asked if isinstance(message, WriteHandle)] == [
        b"0", b"1", b"2", b"3", b"4"
    ]  # fmt: skip


def test_a_write_above_the_limit_is_sent_when_nothing_else_is(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writebehind, "LIMIT_BYTES", 10)
    assert stage.write(b"x" * 20) == [None]
    waits = stage.write(b"y" * 20)
    assert waits == []
    stage.acknowledge()
    assert waits == [None]


def test_a_write_that_waited_for_room_learns_of_an_earlier_failure(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writebehind, "LIMIT_BYTES", 4)
    stage.write(b"abcd")
    waits = stage.write(b"efgh")
    stage.acknowledge(Failed(errno.ENOSPC))
    assert [error.errno for error in waits] == [errno.ENOSPC]
    assert len(stage.pod.asked) == 1


def test_switched_off_a_write_is_a_round_trip(pod: Pod, tmp_path: Path) -> None:
    stage = Stage(pod, is_on=False)
    result = stage.write(b"abc")
    assert (result, stage.node.unsent, stage.changed) == ([], 0, [])
    stage.acknowledge()
    assert (result, stage.changed) == ([None], [2])
    result = stage.write(b"abc")
    stage.acknowledge(Failed(errno.ENOSPC))
    assert [error.errno for error in result] == [errno.ENOSPC]
    stage.behind.take_error(stage.node)
    assert stage.changed == [2, 2]  # what a failed write has left behind is not known


def test_what_cannot_be_sent_leaves_nothing_unsent(stage: Stage) -> None:
    stage.pod.broken = OSError(errno.EMSGSIZE, "")
    (error,) = stage.write(b"abc")
    assert error.errno == errno.EMSGSIZE
    assert (stage.node.unsent, stage.behind.unsent_bytes) == (0, 0)


def at(stage: Stage, offset: int, content: bytes, handle: int = 1) -> list[Any]:
    return stage.begin(stage.behind.write(stage.node, handle, offset, content))


def test_small_writes_one_behind_the_other_are_joined_while_one_is_on_its_way(stage: Stage) -> None:
    for offset, content in ((0, b"ab"), (2, b"cd"), (4, b"e"), (5, b"f")):
        assert at(stage, offset, content) == [None]
    assert stage.pod.asked == [WriteHandle(1, 0, b"ab")]
    assert (stage.node.unsent, stage.behind.unsent_bytes) == (6, 6)
    stage.acknowledge()
    assert stage.pod.asked[1:] == [WriteHandle(1, 2, b"cdef")]
    stage.acknowledge()
    assert (stage.node.unsent, stage.behind.unsent_bytes) == (0, 0)


def test_what_does_not_go_on_where_the_last_write_ended_keeps_its_place(stage: Stage) -> None:
    for offset, content in ((0, b"ab"), (2, b"cd"), (9, b"x"), (10, b"y"), (0, b"z")):
        at(stage, offset, content)
    while stage.pod.waiting:
        stage.acknowledge()
    assert stage.pod.asked == [
        WriteHandle(1, 0, b"ab"), WriteHandle(1, 2, b"cd"), WriteHandle(1, 9, b"xy"), WriteHandle(1, 0, b"z")
    ]  # fmt: skip


def test_a_large_piece_is_sent_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writebehind, "JOINED_BYTES", 4)
    for offset, content in ((0, b"a"), (1, b"bc"), (3, b"de"), (5, b"f"), (6, b"large")):
        at(stage, offset, content)
    assert stage.pod.asked == [
        WriteHandle(1, 0, b"a"), WriteHandle(1, 1, b"bcde"), WriteHandle(1, 5, b"f"), WriteHandle(1, 6, b"large")
    ]  # fmt: skip


def test_who_needs_the_file_gets_on_its_way_what_is_held(stage: Stage) -> None:
    at(stage, 0, b"ab")
    at(stage, 2, b"cd")
    drained = stage.begin(stage.behind.drained(stage.node))
    assert len(stage.pod.asked) == 2
    stage.acknowledge()
    assert drained == []
    stage.acknowledge()
    assert drained == [None]
    at(stage, 4, b"ef")
    at(stage, 6, b"gh")
    everything = stage.begin(stage.behind.all_drained())
    assert len(stage.pod.asked) == 4
    stage.acknowledge()
    stage.acknowledge()
    assert everything == [None]


def test_a_write_through_another_open_file_waits_its_turn(stage: Stage) -> None:
    at(stage, 0, b"ab")
    at(stage, 2, b"cd")
    waits = at(stage, 0, b"over", handle=2)
    assert waits == []
    stage.acknowledge()
    stage.acknowledge()
    assert waits == [None]
    assert stage.pod.asked[-1] == WriteHandle(2, 0, b"over")


def test_held_data_that_cannot_be_sent_is_told_later(stage: Stage) -> None:
    at(stage, 0, b"ab")
    at(stage, 2, b"cd")
    stage.pod.broken = OSError(errno.EMSGSIZE, "")
    stage.behind.push(stage.node)
    assert (stage.node.unsent, stage.behind.unsent_bytes) == (2, 2)
    assert stage.node.write_errno == errno.EIO
