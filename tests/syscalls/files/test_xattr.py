"""getxattr(2), lgetxattr(2), listxattr(2), llistxattr(2)."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import pytest
from mirrord_trace.syscalls.actions import Reason, Route, Scratch
from mirrord_trace.syscalls.files.xattr import getxattr, lgetxattr, listxattr, llistxattr
from script import Script, session

PATH = 0x7000


@pytest.mark.parametrize(
    ("handler", "result"),
    [(getxattr, -errno.EOPNOTSUPP), (lgetxattr, -errno.EOPNOTSUPP), (listxattr, 0), (llistxattr, 0)],
)
def test_pod_files_have_none(handler: Callable[..., Any], result: int) -> None:
    def calling(path: bytes) -> Script:
        context = session(remote=[b"/x"], missing=[b"/k"], mapped={b"/a": b"/b"})
        return Script(handler, (PATH, 0x9000, 100), memory={PATH: path + b"\0"}, context=context)

    calling(b"/x").returns(result, decision=Route.REMOTE)
    calling(b"/k").raises(errno.ENOENT, Route.MISSING)
    calling(b"/usr").continues(Reason.DEFAULT_LOCAL)
    calling(b"x").continues(Reason.RELATIVE_PATH)
    calling(b"/a").runs({0: Scratch(b"/b\0")}).gets(0).keeps(Route.LOCAL)
