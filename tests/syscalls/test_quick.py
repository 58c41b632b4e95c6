"""The description of the short way, carried out in Python. That it says what handlers say: files/test_quick.py."""

from __future__ import annotations

import pytest
from mirrord_trace.agent.wire.messages import Address
from mirrord_trace.syscalls import process
from mirrord_trace.syscalls.actions import Continue, Decision, Reason, Route
from mirrord_trace.syscalls.context import Args
from mirrord_trace.syscalls.net.sockets import Routing
from mirrord_trace.syscalls.objects import RemoteFile
from mirrord_trace.syscalls.quick import KnownPath, Quick, State, Word, state_of
from mirrord_trace.syscalls.table import OTHER_CHECKS
from script import STAT, FakeTask, mounted, session

LOCAL = Continue(Decision(Route.LOCAL, Reason.DEFAULT_LOCAL))
FIRST, SECOND, NOWHERE = 0x1000, 0x2000, 0x9000
ARGS: Args = (FIRST, SECOND, 0, 0, 0, 0)


def test_what_holds() -> None:
    context = session()
    assert state_of(context) == State.ALWAYS | State.NO_OBJECTS | State.NO_SOCKETS | State.NO_INTERNET
    context.objects.add((1, 2), RemoteFile(b"/f", b"/f", STAT))
    context.sockets.begin(7, Address(bytes(4), 1))
    assert state_of(context) == State.ALWAYS
    context = mounted()
    assert state_of(context) & State.UNUSED_MOUNT
    assert not state_of(mounted(is_used=True)) & State.UNUSED_MOUNT
    context.sockets.routing[1] = Routing(1, 2)
    assert not state_of(context) & State.NO_SOCKETS


def test_all_paths_have_to_be_known() -> None:
    context, task = mounted(), FakeTask({FIRST: b"/a\0", SECOND: b"/b\0"})
    quick = Quick((KnownPath(0), KnownPath(1, write=True)), changes=True)
    context.directories.add(b"/")
    context.local_reads.remember(b"/a", LOCAL)
    context.local_reads.remember(b"/b", LOCAL)
    assert not quick(context, task, ARGS)
    assert context.directories
    context.local_writes.remember(b"/b", LOCAL)
    assert quick(context, task, ARGS)
    assert not context.directories


@pytest.mark.parametrize(("flags", "expected"), [(0, True), (1, False), (4, True), (5, True)])
def test_flags_tell_what_it_has_to_be_known_for(flags: int, expected: bool) -> None:
    context = session()
    context.local_reads.remember(b"/a", LOCAL)
    quick = Quick((KnownPath(0, flags=2, writing=3, unless=4),))
    assert quick(context, FakeTask({FIRST: b"/a\0"}), (FIRST, 0, flags, 0, 0, 0)) is expected


def test_relative_paths() -> None:
    task = FakeTask({FIRST: b"a\0"})
    quick = Quick((KnownPath(0, relative=State.UNUSED_MOUNT),))
    context = mounted()
    assert not quick(context, task, ARGS)
    context.plain_paths.add(b"a")
    assert quick(context, task, ARGS)
    context = mounted(is_used=True)
    context.plain_paths.add(b"a")
    assert not quick(context, task, ARGS)
    assert Quick((KnownPath(0, relative=State.NO_OBJECTS),))(session(), task, ARGS)


def test_a_word_in_memory() -> None:
    task = FakeTask({FIRST: (0x12).to_bytes(8, "little")})
    assert Quick(word=Word(0, 0x21))(session(), task, ARGS)
    assert not Quick(word=Word(0, 0x10))(session(), task, ARGS)
    assert not Quick(word=Word(0, 0x10))(session(), task, (NOWHERE, 0, 0, 0, 0, 0))


def test_new_processes_that_nobody_would_trace_take_the_long_way() -> None:
    for flags, expected in ((0x100, True), (0x100 | process.CLONE_UNTRACED, False)):
        task = FakeTask({FIRST: flags.to_bytes(8, "little") + bytes(56)})
        assert OTHER_CHECKS["clone3"](session(), task, (FIRST, 64, 0, 0, 0, 0)) is expected


def test_names_of_sockets_while_none_is_the_pods() -> None:
    context = session()
    assert OTHER_CHECKS["getsockname"](context, FakeTask({}), ARGS)
    context.sockets.begin(7, Address(bytes(4), 1))
    assert not OTHER_CHECKS["getsockname"](context, FakeTask({}), ARGS)
