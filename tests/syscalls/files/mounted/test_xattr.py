"""xattr(7) of files that are known to have none."""

from __future__ import annotations

import errno
import stat
from dataclasses import replace

import pytest
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.rows import HANDLERS
from mirrord_trace.syscalls.requests import PathStat
from script import PREFIX, STAT, Script, mounted

PATH, NAME = 0x1000, 0x2000
X = {0: Scratch(PREFIX + b"/app/x\0")}
DIRECTORY = replace(STAT, mode=stat.S_IFDIR | 0o755)
FILE = replace(STAT, mode=stat.S_IFREG | 0o644)
LINK = replace(STAT, mode=stat.S_IFLNK | 0o777)


def knowing(found: object = FILE, code: int = 0, *, no_xattrs: bool = True, follow: bool = True) -> Context:
    context = mounted(remote=[b"/app/x"])
    assert context.mount is not None
    assert isinstance(found, type(STAT))
    context.mount.learn(b"/app/x", follow, PathStat(code, found, 60_000, 0, no_xattrs))
    return context


def call(name: str, context: Context, path: bytes = b"/app/x", attribute: bytes = b"user.a") -> Script:
    return Script(HANDLERS[name], (PATH, NAME, 0, 0), memory={PATH: path + b"\0", NAME: attribute + b"\0"}, context=context)


@pytest.mark.parametrize("prefix", ["", "l"])
def test_a_file_without_any(prefix: str) -> None:
    context = knowing(follow=not prefix)
    for attribute in (b"user.a", b"security.selinux", b"trusted.x", b"system.posix_acl_access"):
        call(f"{prefix}getxattr", context, attribute=attribute).raises(errno.ENODATA)
    call(f"{prefix}listxattr", context).returns(0, {}, Reason.FS_MODE)


@pytest.mark.parametrize("attribute", [b"", b"user.", b"nothing", b"system.nfs4_acl", b"user." + b"x" * 260])
def test_names_that_file_systems_judge(attribute: bytes) -> None:
    call("getxattr", knowing(), attribute=attribute).runs(X).gets(-errno.EOPNOTSUPP).keeps(Route.REMOTE)


@pytest.mark.parametrize(
    "context",
    [mounted(remote=[b"/app/x"]), knowing(no_xattrs=False), knowing(LINK), knowing(code=errno.ENOENT), knowing(follow=False)],
)
@pytest.mark.parametrize("name", ["getxattr", "listxattr"])
def test_of_what_is_not_known_the_kernel_is_asked(name: str, context: Context) -> None:
    call(name, context).runs(X).gets(-errno.ENODATA).keeps(Route.REMOTE)


def test_a_slash_at_the_end() -> None:
    call("getxattr", knowing(), b"/app/x/").runs({0: Scratch(PREFIX + b"/app/x/\0")}).gets(-errno.ENOTDIR).keeps(Route.REMOTE)
    call("getxattr", knowing(DIRECTORY), b"/app/x/").raises(errno.ENODATA)


def test_an_attribute_is_set_by_the_kernel() -> None:
    call("setxattr", mounted(remote=[b"/app/x"], writable=[b"/app/x"])).runs(X).gets(0).keeps(Route.REMOTE)


def test_a_name_that_cannot_be_read() -> None:
    script = Script(HANDLERS["getxattr"], (PATH, 1, 0, 0), memory={PATH: b"/app/x\0"}, context=knowing())
    script.runs(X).gets(-errno.EFAULT).keeps(Route.REMOTE)
