"""The kernel's part: prefixes, doors, what is foretold."""

from __future__ import annotations

import errno
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from mirrord_trace.syscalls.actions import Action, Decision, Final, Outcome, Reason, Route, Scratch, SyscallError
from mirrord_trace.syscalls.context import Context
from mirrord_trace.syscalls.files.mounted.running import Target, path_argument, run_at
from mirrord_trace.syscalls.files.place import Place
from mirrord_trace.syscalls.requests import Foretell
from mirrord_trace.syscalls.task import Task
from script import PREFIX, Script, mounted, told

POD = Place(b"/n/x", Decision(Route.REMOTE, Reason.FS_MODE, b"/app/x"))
BEHIND = POD._replace(base=b"/app")
LOCAL = Place(b"/usr/x", Decision(Route.LOCAL, Reason.DEFAULT_LOCAL))


class FakeDoors:
    """A door that may be there."""

    def __init__(self, other: bytes) -> None:
        self._other = other
        self.asked = 0

    def prefix(self, task: Task) -> bytes:
        """Always /own."""
        return b"/own"

    def other(self, task: Task) -> bytes:
        """The door."""
        self.asked += 1
        return self._other


def running(targets: Sequence[Target], context: Context | None = None, others: Any = None) -> Script:
    def handler(context: Context, task: Task, args: Any) -> Generator[Action, Outcome, Final]:
        return (yield from run_at(context, task, targets, others))

    return Script(handler, context=context or mounted())


def test_a_pod_path_is_put_behind_the_prefix_and_foretold() -> None:
    context = mounted()
    script = running([Target(1, POD, False, content=True)], context)
    assert context.mount is not None
    assert context.mount.is_used
    assert told(context) == [Foretell(b"/app/x", False, True, False)]
    script.runs({1: Scratch(PREFIX + b"/app/x\0")}).gets(3).keeps(Reason.FS_MODE)


def test_behind_a_pod_directory_one_stop() -> None:
    context = mounted()
    running([Target(1, BEHIND)], context).continues(Route.REMOTE)
    assert told(context) == [Foretell(b"/app/x", True, False, False)]
    running([Target(1, BEHIND)], None, {3: 0}).runs({3: 0}).gets(0).keeps()


def test_local_places_and_pairs() -> None:
    context = mounted()
    running([Target(0, LOCAL)], context).runs({0: Scratch(b"/usr/x\0")}).gets(0).keeps(Route.LOCAL)
    assert context.mount is not None
    assert not context.mount.is_used
    both = {0: Scratch(b"/usr/x\0"), 1: Scratch(PREFIX + b"/app/x\0")}
    running([Target(0, LOCAL), Target(1, POD)]).runs(both).gets(-errno.EXDEV).keeps(Route.REMOTE)
    running([Target(0, BEHIND), Target(1, POD)]).runs({1: both[1]}).gets(0).keeps()


def test_the_end_of_the_path_stays_as_it_is() -> None:
    assert path_argument(POD._replace(directory=True, tail=b"/."), b"/p") == Scratch(b"/p/app/x/.\0")
    assert path_argument(POD._replace(directory=True), b"/p") == Scratch(b"/p/app/x/\0")
    root = Place(b"/", Decision(Route.REMOTE, Reason.FS_MODE, b"/"), True, tail=b"/")
    assert path_argument(root, b"/p") == Scratch(b"/p/\0")
    long = Place(b"/x", Decision(Route.REMOTE, Reason.FS_MODE, b"/" + b"a" * 4093))
    assert path_argument(long, b"/") == Scratch(b"/" + long.decision.path + b"\0")
    with pytest.raises(SyscallError) as caught:
        path_argument(long, b"/p")
    assert caught.value.errno == errno.ENAMETOOLONG


@pytest.mark.parametrize("refused", [errno.EACCES, errno.EPERM, errno.ENOENT, errno.ELOOP])
def test_another_user_takes_the_door(refused: int) -> None:
    context = mounted()
    context.doors = FakeDoors(b"/door")
    script = running([Target(0, POD)], context).runs({0: Scratch(b"/own/app/x\0")}).gets(-refused)
    script.runs({0: Scratch(b"/door/app/x\0")}).gets(4).keeps()


def test_without_a_door_the_result_stands() -> None:
    context = mounted()
    context.doors = doors = FakeDoors(b"")
    running([Target(0, POD)], context).runs({0: Scratch(b"/own/app/x\0")}).gets(-errno.ENOENT).keeps()
    running([Target(0, POD)], context).runs({0: Scratch(b"/own/app/x\0")}).gets(-errno.EIO).keeps()
    assert doors.asked == 1
    running([Target(0, LOCAL)], context).runs({0: Scratch(b"/usr/x\0")}).gets(-errno.ENOENT).keeps()
    assert doors.asked == 1
