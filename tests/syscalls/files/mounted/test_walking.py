"""Walks through a small tree of the pod's."""

from __future__ import annotations

import errno
import stat
from dataclasses import replace

import pytest
from mirrord_trace.agent.wire.messages import LinkTarget, Message, ReadLink
from mirrord_trace.syscalls.abi.flags import RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_XDEV
from mirrord_trace.syscalls.actions import Answer, Ask, Decision, Outcome, Reason, Route, SyscallError
from mirrord_trace.syscalls.files.mounted.walking import walk
from mirrord_trace.syscalls.files.place import Place
from mirrord_trace.syscalls.requests import PathStat, StatPath
from script import STAT, mounted

TREE = {
    b"/top": b"", b"/top/d": b"", b"/top/d/x": None, b"/top/t": b"d", b"/top/up": b"../top/d", b"/top/abs": b"/d",
    b"/top/loop": b"loop", b"/top/file": None, b"/top/dangling": b"none",
}  # fmt: skip
BENEATH, IN_ROOT, NO_XDEV = RESOLVE_BENEATH, RESOLVE_IN_ROOT, RESOLVE_NO_XDEV


def walked(path: bytes, resolve: int, *, follow: bool = True) -> bytes | str:
    """The result, or the errno's name, with the tree above: a directory, a file (None), or a link's target."""
    place = Place(b"/top/x", Decision(Route.REMOTE, Reason.FS_MODE, b"/top/x"), base=b"/top")
    steps = walk(mounted(is_used=True), place, path, follow, resolve)
    answer: Outcome = None
    try:
        while True:
            action = steps.send(answer)
            assert isinstance(action, Ask)
            answer = Answer(_reply(action.request))
    except StopIteration as stop:
        return bytes(stop.value)
    except SyscallError as error:
        return errno.errorcode[error.errno]


def _reply(request: Message) -> Message:
    if isinstance(request, ReadLink):
        return LinkTarget(TREE[request.path] or b"")
    assert isinstance(request, StatPath)
    if request.path not in TREE:
        return PathStat(errno.ENOENT, STAT, 0, 0)
    entry = TREE[request.path]
    kind = stat.S_IFREG if entry is None else stat.S_IFLNK if entry else stat.S_IFDIR
    return PathStat(0, replace(STAT, mode=kind | 0o755), 0, 0)


@pytest.mark.parametrize(
    ("path", "resolved"),
    [
        (b"d/x", b"d/x"), (b"t/x", b"d/x"), (b"t/../d/x", b"d/x"), (b"t/..", b"./"), (b"t/.", b"d/"), (b"t/", b"d/"),
        (b"none", b"none"), (b"dangling", b"none"), (b"none/x", "ENOENT"), (b"file/x", "ENOTDIR"), (b"file/..", "ENOTDIR"),
        (b"loop", "ELOOP"), (b"./d//x", b"d/x"), (b".", b"."),
    ],
)  # fmt: skip
def test_what_is_below_is_the_same_under_both_rules(path: bytes, resolved: bytes | str) -> None:
    assert walked(path, BENEATH) == walked(path, IN_ROOT) == resolved


@pytest.mark.parametrize(
    ("path", "in_root"), [(b"..", b"."), (b"../d", b"d"), (b"abs/x", b"d/x"), (b"up", "ENOENT"), (b"t/../../d/x", b"d/x")]
)
def test_what_leads_out(path: bytes, in_root: bytes | str) -> None:
    assert (walked(path, BENEATH), walked(path, IN_ROOT)) == ("EXDEV", in_root)


def test_no_absolute_link_leads_to_no_other_mount() -> None:
    assert walked(b"abs", NO_XDEV) == "EXDEV"
    assert walked(b"abs", NO_XDEV, follow=False) == b"abs"
    assert walked(b"up/x", NO_XDEV) == b"d/x"
    assert walked(b"../../..", NO_XDEV) == b"./"


def test_a_link_at_the_end_that_is_not_followed() -> None:
    assert walked(b"t/../t", BENEATH, follow=False) == b"t"
    assert walked(b"t/", BENEATH, follow=False) == b"d/"
