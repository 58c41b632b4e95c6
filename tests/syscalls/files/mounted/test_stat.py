"""stat(2) and its family by path in the mounted tree."""

from __future__ import annotations

import errno

import pytest
from mirrord_trace.syscalls.abi import stat as stat_layout
from mirrord_trace.syscalls.abi import statx as statx_layout
from mirrord_trace.syscalls.abi.flags import AT_EMPTY_PATH, AT_FDCWD, AT_STATX_FORCE_SYNC, AT_SYMLINK_NOFOLLOW
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.rows import HANDLERS
from mirrord_trace.syscalls.files.mounted.stat import newfstatat, stat, statx
from mirrord_trace.syscalls.requests import PathStat, StatPath
from script import STAT, FakeTask, Script, mounted

PATH, BUFFER = 0x1000, 0x2000
PACKED = {BUFFER: stat_layout.NATIVE.pack(STAT)}
GOOD = PathStat(0, STAT, 60_000, 0)
ARGS = {"stat": (PATH, BUFFER), "lstat": (PATH, BUFFER), "newfstatat": (AT_FDCWD, PATH, BUFFER, 0)}


def remote(**rules: bool) -> Context:
    return mounted(remote=[b"/app/x"], **rules)


@pytest.mark.parametrize("name", ARGS)
def test_one_round_trip_and_then_none(name: str) -> None:
    context = remote()
    for known in (False, True):
        script = Script(HANDLERS[name], ARGS[name], memory={PATH: b"/app/x\0"}, context=context)
        if not known:
            script.asks(StatPath(b"/app/x", name != "lstat")).replies(GOOD)
        script.returns(0, PACKED, Route.REMOTE)


@pytest.mark.parametrize("name", ARGS)
def test_local_paths_are_the_kernels(name: str) -> None:
    Script(HANDLERS[name], ARGS[name], memory={PATH: b"/usr/x\0"}, context=remote()).continues(Reason.DEFAULT_LOCAL)
    mapped = mounted(mapped={b"/a": b"/b"})
    at = ARGS[name].index(PATH)
    Script(HANDLERS[name], ARGS[name], memory={PATH: b"/a\0"}, context=mapped).runs({at: Scratch(b"/b\0")}).gets(0).keeps()


def test_behind_a_pod_directory_the_path_is_known_as_well() -> None:
    context, task = remote(is_used=True), FakeTask({PATH: b"x\0"})
    task.enters(AT_FDCWD, b"/app")
    Script(stat, (PATH, BUFFER), task=task, context=context).asks(StatPath(b"/app/x", True)).replies(GOOD).returns(0, PACKED)
    Script(stat, (PATH, BUFFER), task=task, context=context).returns(0, PACKED)


def test_flags() -> None:
    args = (AT_FDCWD, PATH, BUFFER, AT_SYMLINK_NOFOLLOW)
    script = Script(newfstatat, args, memory={PATH: b"/app/x\0"}, context=remote())
    script.asks(StatPath(b"/app/x", False)).replies(GOOD).returns(0, PACKED)
    Script(newfstatat, (AT_FDCWD, PATH, BUFFER, 1), memory={PATH: b"/app/x\0"}, context=remote()).raises(errno.EINVAL)
    Script(newfstatat, (7, PATH, BUFFER, AT_EMPTY_PATH), memory={PATH: b"\0"}, context=remote()).continues()


def test_the_file_with_the_hostname() -> None:
    script = Script(stat, (PATH, BUFFER), memory={PATH: b"/proc/sys/kernel/hostname\0"}, context=mounted())
    assert len(script._now.writes[0][1]) == stat_layout.NATIVE.size_bytes
    script.returns(0, {BUFFER: script._now.writes[0][1]}, Reason.POD_HOSTNAME)


def test_an_open_file_is_asked_for_anew() -> None:
    context, task = remote(is_used=True), FakeTask({PATH: b"\0"})
    task.enters(7, b"/app/x")
    insisting = (7, PATH, AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, 0x7FF, BUFFER)
    for reply in (GOOD, PathStat(errno.ENOENT, STAT, 0, 0)):
        script = Script(statx, insisting, task=task, context=context)
        script.asks(StatPath(b"/app/x", False, True)).replies(reply).continues(Reason.REMOTE_OBJECT)
    Script(statx, (7, PATH, AT_EMPTY_PATH, 0x7FF, BUFFER), task=task, context=context).continues(Reason.REMOTE_OBJECT)
    Script(statx, (8, *insisting[1:]), task=task, context=context).continues(Reason.LOCAL_OBJECT)
    task.enters(7, b"")  # its path is too long to be told
    Script(statx, insisting, task=task, context=context).continues(Reason.REMOTE_OBJECT)


def test_statx() -> None:
    context, memory = remote(), {PATH: b"/app/x\0"}
    packed = {BUFFER: statx_layout.pack(STAT)}
    script = Script(statx, (AT_FDCWD, PATH, 0, 0x7FF, BUFFER), memory=memory, context=context)
    script.asks(StatPath(b"/app/x", True)).replies(GOOD).returns(0, packed)
    Script(statx, (AT_FDCWD, PATH, 0, 0x7FF, BUFFER), memory=memory, context=context).returns(0, packed)
    script = Script(statx, (AT_FDCWD, PATH, AT_STATX_FORCE_SYNC, 0x7FF, BUFFER), memory=memory, context=context)
    script.asks(StatPath(b"/app/x", True, True)).replies(GOOD).returns(0, packed)
    Script(statx, (AT_FDCWD, PATH, 1, 0x7FF, BUFFER), memory=memory, context=context).raises(errno.EINVAL)
    Script(statx, (7, PATH, AT_EMPTY_PATH, 0x7FF, BUFFER), memory={PATH: b"\0"}, context=context).continues()
    mapped = mounted(mapped={b"/a": b"/b"})
    script = Script(statx, (AT_FDCWD, PATH, 0, 0x7FF, BUFFER), memory={PATH: b"/a\0"}, context=mapped)
    script.runs({1: Scratch(b"/b\0")}).gets(0).keeps(Route.LOCAL)
