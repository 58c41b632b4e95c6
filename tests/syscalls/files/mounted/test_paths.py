"""Calls that are special only by their paths."""

from __future__ import annotations

import errno
import inspect
from typing import Any

import pytest
from mirrord_trace.syscalls.abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, AT_SYMLINK_NOFOLLOW
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.paths import CALLS, HANDLERS, PathCall
from mirrord_trace.syscalls.requests import Foretell
from script import PREFIX, FakeTask, Script, mounted, told

ONE, TWO = 0x1000, 0x2000
X, Y = Scratch(PREFIX + b"/app/x\0"), Scratch(PREFIX + b"/app/y\0")
BY_NAME = {call.name: call for call in CALLS}


def pod(**rules: Any) -> Context:
    return mounted(remote=[b"/app/x", b"/app/y"], writable=[b"/app/x", b"/app/y"], **rules)


def arguments(call: PathCall) -> list[int]:
    args = [9, 9, 9, 0, 0, 0]
    for path, address in zip(call.paths, (ONE, TWO), strict=False):
        args[path.at] = address
        if path.dirfd >= 0:
            args[path.dirfd] = AT_FDCWD
        if path.flags >= 0:
            args[path.flags] = 0
    return args


@pytest.mark.parametrize("name", HANDLERS)
def test_each_call_reaches_the_pods_file(name: str) -> None:
    call, context = BY_NAME[name], pod()
    script = Script(HANDLERS[name], arguments(call), memory={ONE: b"/app/x\0", TWO: b"/app/y\0"}, context=context)
    script.runs(dict(zip((path.at for path in call.paths), (X, Y), strict=False))).gets(0).keeps(Reason.FS_MODE)


@pytest.mark.parametrize("name", HANDLERS)
def test_each_call_is_local_elsewhere(name: str) -> None:
    script = Script(HANDLERS[name], arguments(BY_NAME[name]), memory={ONE: b"/usr/x\0", TWO: b"/usr/y\0"}, context=pod())
    script.continues(Reason.DEFAULT_LOCAL)
    Script(HANDLERS[name], arguments(BY_NAME[name]), memory={}, context=pod()).continues(Reason.BAD_ARGUMENT)


@pytest.mark.parametrize("name", HANDLERS)
def test_what_changes_a_file_is_decided_as_writing(name: str) -> None:
    call, context = BY_NAME[name], mounted(remote=[b"/app/x", b"/app/y"])
    script = Script(HANDLERS[name], arguments(call), memory={ONE: b"/app/x\0", TWO: b"/app/y\0"}, context=context)
    if call.paths[0].write:
        script.continues(Reason.WRITE_ACCESS)
    else:
        script.runs({call.paths[0].at: X}).gets(-errno.EXDEV).keeps(Route.REMOTE)


@pytest.mark.parametrize(
    ("name", "args", "follow"),
    [
        ("chown", (ONE,), True),
        ("lchown", (ONE,), False),
        ("unlink", (ONE,), False),
        ("fchownat", (AT_FDCWD, ONE, 0, 0, 0), True),
        ("fchownat", (AT_FDCWD, ONE, 0, 0, AT_SYMLINK_NOFOLLOW), False),
        ("utimensat", (AT_FDCWD, ONE, 0, AT_SYMLINK_NOFOLLOW), False),
        ("setxattrat", (AT_FDCWD, ONE, AT_SYMLINK_NOFOLLOW), False),
        ("inotify_add_watch", (5, ONE, 0x02000000), False),
        ("inotify_add_watch", (5, ONE, 0x1000), True),
        ("name_to_handle_at", (AT_FDCWD, ONE, 0, 0, 0), False),
        ("name_to_handle_at", (AT_FDCWD, ONE, 0, 0, AT_SYMLINK_FOLLOW), True),
    ],
)
def test_links_at_the_end(name: str, args: tuple[int, ...], follow: bool) -> None:
    context = pod()
    script = Script(HANDLERS[name], args, memory={ONE: b"/app/x\0"}, context=context)
    script.runs({BY_NAME[name].paths[0].at: X}).gets(0).keeps()
    assert told(context) == [Foretell(b"/app/x", follow, False, False)]


def test_pairs_are_replaced_where_they_are_the_pods() -> None:
    memory = {ONE: b"/app/x\0", TWO: b"/usr/y\0"}
    Script(HANDLERS["rename"], (ONE, TWO), memory=memory, context=pod()).runs({0: X}).gets(-errno.EXDEV).keeps(Route.REMOTE)
    Script(HANDLERS["link"], (TWO, ONE), memory=memory, context=pod()).runs({1: X}).gets(-errno.EXDEV).keeps(Route.REMOTE)
    linkat = (AT_FDCWD, ONE, AT_FDCWD, TWO, AT_SYMLINK_FOLLOW)
    magic = {ONE: b"/proc/self/fd/5\0", TWO: b"/app/y\0"}
    Script(HANDLERS["linkat"], linkat, memory=magic, context=pod()).runs({3: Y}).gets(0).keeps()


def test_a_symbolic_links_target_is_text() -> None:
    memory = {ONE: b"/app/y\0", TWO: b"/app/x\0"}
    Script(HANDLERS["symlink"], (ONE, TWO), memory=memory, context=pod()).runs({1: X}).gets(0).keeps()
    Script(HANDLERS["symlinkat"], (ONE, AT_FDCWD, TWO), memory=memory, context=pod()).runs({2: X}).gets(0).keeps()


def test_behind_a_pod_directory() -> None:
    task = FakeTask({ONE: b"x\0", TWO: b"../usr/y\0"})
    task.enters(7, b"/app")
    Script(HANDLERS["unlinkat"], (7, ONE), task=task, context=pod(is_used=True)).continues(Route.REMOTE)
    Script(HANDLERS["unlinkat"], (7, TWO), task=task, context=pod(is_used=True)).runs({1: Scratch(b"/usr/y\0")}).gets(0).keeps(
        Route.LOCAL
    )


def test_an_open_file_is_the_kernels() -> None:
    script = Script(HANDLERS["fchownat"], (7, ONE, 1, 1, AT_EMPTY_PATH), memory={ONE: b"\0"}, context=pod(is_used=True))
    script.continues(Reason.LOCAL_OBJECT)
    Script(HANDLERS["utimensat"], (7, 0, 0, 0), context=pod(is_used=True)).continues(Reason.BAD_ARGUMENT)


def test_the_file_with_the_hostname_is_only_read() -> None:
    script = Script(HANDLERS["statfs"], (ONE, TWO), memory={ONE: b"/proc/sys/kernel/hostname\0"}, context=pod())
    script.continues(Reason.POD_HOSTNAME)


def test_handlers_say_what_they_are() -> None:
    for name, handler in HANDLERS.items():
        assert inspect.isgeneratorfunction(handler)
        assert handler.__name__ == name
        assert (inspect.getdoc(handler) or "").startswith(f"{name}(2)")
