"""What is known of the mounted tree, and for how long."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import replace

import pytest
from mirrord_trace.agent.wire.stats import pack_stats
from mirrord_trace.syscalls import mount as module
from mirrord_trace.syscalls.mount import Mount
from mirrord_trace.syscalls.requests import PathStat
from script import STAT


class Generation:
    """The shared counter."""

    now = 7

    def __call__(self) -> int:
        """Its value."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """time.monotonic, in seconds."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return iter([now])


def test_an_answer_is_good_for_a_while_or_until_something_changes(clock: Iterator[list[float]]) -> None:
    now, generation = next(clock), Generation()
    mount = Mount(b"/p", 1, generation)
    mount.learn(b"/x", True, PathStat(0, STAT, 1000, 7))
    known = mount.known(b"/x", True)
    assert known is not None
    assert (known.errno, known.stat) == (0, STAT)
    assert mount.known(b"/x", False) is None
    now[0] = 101
    assert mount.known(b"/x", True) is None
    mount.learn(b"/x", True, PathStat(2, STAT, 1000, 7))
    assert mount.known(b"/x", True) is not None
    generation.now = 8
    assert mount.known(b"/x", True) is None
    mount.learn(b"/y", True, PathStat(0, STAT, 0, 8))
    assert mount.known(b"/y", True) is None


def test_an_answer_tells_of_neighbours(clock: Iterator[list[float]]) -> None:
    now, mount = next(clock), Mount(b"/p", 1, Generation())
    link = replace(STAT, mode=stat.S_IFLNK | 0o777)
    reply = PathStat(0, STAT, 1000, 7, True, b"y\0link", pack_stats([STAT, link]), b"\0\1")
    mount.learn(b"/d/x", True, reply)
    seen = {(path, follow): mount.known(path, follow) for path in (b"/d/x", b"/d/y", b"/d/link") for follow in (True, False)}
    told = {key: (known.errno, known.stat, known.no_xattrs) for key, known in seen.items() if known is not None}
    assert told == {
        (b"/d/x", True): (0, STAT, True), (b"/d/y", True): (0, STAT, False), (b"/d/y", False): (0, STAT, False),
        (b"/d/link", False): (0, link, True),
    }  # fmt: skip
    mount.learn(b"/x", True, reply)
    assert mount.known(b"/y", True) is not None
    now[0] = 101
    assert mount.known(b"/d/y", True) is None


def test_what_is_known_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LIMIT", 2)
    mount = Mount(b"/p", 1, lambda: 0)
    for path in (b"/1", b"/2", b"/3"):
        mount.learn(path, True, PathStat(0, STAT, 60_000, 0))
        mount.note_name(path, b"/n")
    assert mount.known(b"/1", True) is None
    assert mount.known(b"/3", True) is not None
    assert mount.aliases == {b"/3": b"/n"}


def test_the_way_back_through_a_mapping() -> None:
    mount = Mount(b"/p", 1, lambda: 0)
    assert mount.name_of(b"/pod/d") == b"/pod/d"
    mount.note_name(b"/pod/d", b"/d")
    assert mount.name_of(b"/pod/d") == b"/d"
    assert mount.name_of(b"/pod/d/s/x") == b"/d/s/x"
    assert mount.name_of(b"/pod/dd") == b"/pod/dd"
    assert mount.name_of(b"/") == b"/"
