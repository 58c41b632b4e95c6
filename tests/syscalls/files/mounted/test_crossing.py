"""Links of this machine that lead to the pod."""

from __future__ import annotations

import pytest
from mirrord_trace.syscalls.actions import Decision, Reason, Route
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.crossing import Crossing, crossing
from script import mounted

REMOTE = Decision(Route.REMOTE, Reason.FS_MODE, b"/app/x")


def here(
    links: dict[bytes, bytes], missing: tuple[bytes, ...] = (), present: tuple[bytes, ...] = (), **rules: object
) -> Context:
    context = mounted(remote=[b"/app/x"], missing=list(missing), **rules)
    here = {b"/home", b"/home/loop", *present}
    context.read_link = lambda path: links.get(path, b"" if path in here else None)
    return context


@pytest.mark.parametrize(
    ("path", "links", "at_end"),
    [
        (b"/home/link", {b"/home/link": b"/app/x"}, True),
        (b"/home/link", {b"/home/link": b"../app/./x"}, True),
        (b"/home/d/x", {b"/home/d": b"/app"}, False),
        (b"/home/one", {b"/home/one": b"two", b"/home/two": b"/app/x"}, True),
        (b"/home/one/x", {b"/home/one": b"/home/two", b"/home/two": b"/app"}, False),
        # lstat(2) means the first link, whatever is on the way from there.
        (b"/home/one", {b"/home/one": b"two/x", b"/home/two": b"/app"}, True),
    ],
)
def test_a_link_to_the_pod_is_found(path: bytes, links: dict[bytes, bytes], at_end: bool) -> None:
    assert crossing(here(links), path, False) == Crossing(REMOTE, at_end)


def test_a_link_to_what_this_machine_has_stays_here() -> None:
    assert crossing(here({b"/home/link": b"/app/x"}, present=(b"/app/x",)), b"/home/link", False) is None


def test_other_links_stay_here() -> None:
    assert crossing(here({b"/home/link": b"/usr/x"}), b"/home/link", False) is None
    assert crossing(here({b"/home/loop": b"loop"}), b"/home/loop", False) is None
    assert crossing(here({b"/home/link": b"/hidden"}, (b"/hidden",)), b"/home/link", False) is None


def test_links_in_proc_are_each_process_s_own() -> None:
    links = {b"/proc/self": b"1", b"/proc/1/fd/4": b"/app", b"/dev/fd": b"/proc/self/fd", b"/proc/1/cwd": b"/app"}
    for path in (b"/proc/self/fd/4/x", b"/proc/1/cwd/x", b"/dev/fd/4/x"):
        assert crossing(here(links), path, False) is None


def test_what_may_only_be_read_in_the_pod_is_not_written_there() -> None:
    assert crossing(here({b"/home/link": b"/app/x"}), b"/home/link", True) is None


def test_nothing_is_looked_at_behind_what_is_not_there() -> None:
    asked: list[bytes] = []
    context = mounted(remote=[b"/app/x"])

    def read_link(path: bytes) -> bytes | None:
        asked.append(path)
        return b"" if path == b"/home" else None

    context.read_link = read_link
    assert crossing(context, b"/home/none/at/all", False) is None
    assert asked == [b"/home", b"/home/none"]
