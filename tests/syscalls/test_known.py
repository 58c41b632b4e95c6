"""What is remembered of paths, and that a mirror is told of it."""

from __future__ import annotations

from mirrord_trace.syscalls.actions import Continue, Decision, Reason, Route
from mirrord_trace.syscalls.known import Directories, KnownPaths, PathSet

ONE = Continue(Decision(Route.LOCAL, Reason.DEFAULT_LOCAL))
OTHER = Continue(Decision(Route.LOCAL, Reason.FS_MODE_LOCAL))


class _Mirror:
    def __init__(self) -> None:
        self.told: list[bytes | None] = []

    def add(self, path: bytes) -> None:
        self.told.append(path)

    def clear(self) -> None:
        self.told.append(None)


def test_the_first_decision_about_a_path_stands() -> None:
    known = KnownPaths()
    assert known.remember(b"/x", ONE) is ONE
    assert known.remember(b"/x", OTHER) is ONE
    assert known == {b"/x": ONE}
    known.clear()
    assert not known


def test_a_mirror_hears_of_every_change() -> None:
    known, paths, directories = KnownPaths(), PathSet(), Directories()
    for one in (known, paths, directories):
        one.mirror = _Mirror()
    known.remember(b"/x", ONE)
    paths.add(b"x")
    directories.add(b"/")
    for one, path in ((known, b"/x"), (paths, b"x"), (directories, b"/")):
        one.clear()
        assert isinstance(one.mirror, _Mirror)
        assert one.mirror.told == [path, None]


def test_directories_are_believed_for_a_second() -> None:
    now = [10.0]
    directories = Directories(lambda: now[0])
    directories.add(b"/a")
    now[0] += 0.9
    directories.add(b"/b")
    assert directories.has(b"/a")
    assert not directories.has(b"/c")
    now[0] += 0.2
    assert not directories.has(b"/b")
    assert not directories
    directories.add(b"/b")
    now[0] += 1.1
    directories.add(b"/d")
    assert directories == {b"/d"}
