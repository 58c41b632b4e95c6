"""Attributes of pod paths: known, or asked for."""

from __future__ import annotations

import errno
import stat
from collections.abc import Generator
from dataclasses import replace
from typing import Any

from mirrord_trace.syscalls.actions import Action, Decision, Final, Outcome, Reason, Return, Route
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.attributes import attributes_of
from mirrord_trace.syscalls.files.place import Place
from mirrord_trace.syscalls.objects import RemoteFile
from mirrord_trace.syscalls.requests import PathStat, StatPath
from mirrord_trace.syscalls.task import Task
from script import STAT, Script, mounted

DECISION = Decision(Route.REMOTE, Reason.FS_MODE, b"/app/x")
X = Place(b"/app/x", DECISION)
DIRECTORY = replace(STAT, mode=stat.S_IFDIR | 0o755)


def looking(context: Context, place: Place, follow: bool = True, fresh: bool = False) -> Script:
    def handler(context: Context, task: Task, args: Any) -> Generator[Action, Outcome, Final]:
        found = yield from attributes_of(context, place, follow, fresh)
        return Return(found.size, place.decision)

    return Script(handler, context=context)


def test_an_answer_is_kept_for_as_long_as_it_is_good() -> None:
    context = mounted()
    looking(context, X).asks(StatPath(b"/app/x", True)).replies(PathStat(0, STAT, 60_000, 0)).returns(STAT.size)
    looking(context, X).returns(STAT.size)
    looking(context, X, False).asks(StatPath(b"/app/x", False)).replies(PathStat(0, STAT, 0, 0)).returns(STAT.size)
    looking(context, X, False).asks(StatPath(b"/app/x", False)).fails(errno.EIO).raises(errno.EIO, Route.REMOTE)
    script = looking(context, X, fresh=True).asks(StatPath(b"/app/x", True, True))
    script.replies(PathStat(0, STAT, 60_000, 1)).returns(STAT.size)
    # The generation of that answer is not the mount's any more.
    looking(context, X).asks(StatPath(b"/app/x", True)).replies(PathStat(0, STAT, 0, 0)).returns(STAT.size)


def test_that_there_is_nothing_is_kept_too() -> None:
    context = mounted()
    looking(context, X).asks(StatPath(b"/app/x", True)).replies(PathStat(errno.ENOENT, STAT, 60_000, 0)).raises(errno.ENOENT)
    looking(context, X).raises(errno.ENOENT, Route.REMOTE)


def test_a_slash_demands_a_directory_and_follows() -> None:
    place = X._replace(directory=True)
    script = looking(mounted(), place, False).asks(StatPath(b"/app/x", True))
    script.replies(PathStat(0, STAT, 0, 0)).raises(errno.ENOTDIR)
    script = looking(mounted(), place, False).asks(StatPath(b"/app/x", True))
    script.replies(PathStat(0, DIRECTORY, 0, 0)).returns(DIRECTORY.size)


def test_the_file_with_the_hostname() -> None:
    looking(mounted(), X._replace(remote=RemoteFile(b"/h", b"/h", STAT))).returns(STAT.size)
