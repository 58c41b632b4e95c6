"""What is left to the kernel of processes with a root directory or namespaces of their own."""

from __future__ import annotations

import signal

import pytest
from mirrord_trace.syscalls.actions import Reason
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files import open as copied
from mirrord_trace.syscalls.files.mounted import opening
from mirrord_trace.syscalls.process import clone, clone3, uname
from mirrord_trace.syscalls.table import Handler
from mirrord_trace.syscalls.views import CLONE_NEWNET, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUTS, View, changes_view
from script import FakePolicy, FakeTask, Script, mounted, session

AT = 0x3000
NEW_USER = 0x10000000


def _session(notices: list[str], *, is_mounted: bool = False) -> Context:
    context = session(FakePolicy(remote=[b"/pod"]), notices=notices)
    context.mount = mounted().mount if is_mounted else None
    context.has_views = True
    return context


def _task(*views: View) -> FakeTask:
    task = FakeTask()
    task.views.update(views)
    return task


def test_a_call_that_may_change_the_view_is_noted() -> None:
    context = session()
    Script(changes_view, (0,), context=context).continues(Reason.OWN_VIEW)
    assert context.has_views


@pytest.mark.parametrize("flags", [CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWNET | NEW_USER])
def test_clone_with_a_namespace_is_noted(flags: int) -> None:
    one, two = session(), session()
    Script(clone, (flags | signal.SIGCHLD,), context=one).continues(Reason.NOT_OURS)
    Script(clone3, (AT, 64), memory={AT: flags.to_bytes(8, "little") + bytes(56)}, context=two).continues(Reason.NOT_OURS)
    assert one.has_views
    assert two.has_views


def test_clone_without_one_is_not() -> None:
    context = session()
    Script(clone3, (AT, 64), memory={AT: NEW_USER.to_bytes(8, "little") + bytes(56)}, context=context).continues()
    assert not context.has_views


@pytest.mark.parametrize("handler", [copied.openat, opening.openat])
@pytest.mark.parametrize(("path", "lines"), [(b"/pod", 1), (b"/here", 0)])
def test_paths_of_a_process_with_a_root_directory_of_its_own(handler: Handler, path: bytes, lines: int) -> None:
    notices: list[str] = []
    context = _session(notices, is_mounted=handler is opening.openat)
    script = Script(handler, (-100, AT, 0), memory={AT: path + b"\0"}, task=_task(View.FILES), context=context)
    script.continues(Reason.OWN_VIEW)
    assert len(notices) == lines


def test_the_hostname_of_a_process_with_one_of_its_own() -> None:
    Script(uname, (0x2000,), task=_task(View.NAME), context=_session([])).continues(Reason.OWN_VIEW)
