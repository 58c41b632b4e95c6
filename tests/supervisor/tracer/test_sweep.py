"""What no supervised process has open any more is forgotten."""

from __future__ import annotations

import os
from collections.abc import Collection, Container
from types import SimpleNamespace
from typing import cast

from mirrord_trace.supervisor.tracer.sweep import Sweeper
from mirrord_trace.supervisor.tracer.tree import Tree
from mirrord_trace.syscalls.context import Context
from rig import ARCH, CALL, Child, apart, syscall


class FakeTable:
    """Stands for the objects and the sockets."""

    def __init__(self, wants_sweep: bool) -> None:
        self.wants_sweep = wants_sweep
        self.swept: list[Container[object]] = []

    def sweep(self, live: Container[object]) -> None:
        self.swept.append(live)


def _sweep(objects: FakeTable, sockets: FakeTable, tids: Collection[int]) -> None:
    tree = Tree(ARCH)
    for tid in tids:
        tree.add_root(tid)
    Sweeper(tree, cast(Context, SimpleNamespace(objects=objects, sockets=sockets))).sweep_if_due()


def test_not_due_it_looks_at_nothing() -> None:
    objects, sockets = FakeTable(False), FakeTable(False)
    _sweep(objects, sockets, [os.getpid()])
    assert objects.swept == sockets.swept == []


def test_if_either_wants_it_both_are_swept() -> None:
    for wishes in ((True, False), (False, True)):
        objects, sockets = (FakeTable(wish) for wish in wishes)
        _sweep(objects, sockets, [os.getpid()])
        assert len(objects.swept) == len(sockets.swept) == 1


@apart
def test_what_any_tracee_has_open_is_alive_and_the_ended_do_not_matter() -> None:
    fd = os.memfd_create("open in the child")

    def body() -> int:
        return syscall(CALL)

    child = Child(body)
    child.next()
    status, other = os.fstat(fd), os.memfd_create("ours only")
    gone = os.fstat(other)
    os.close(fd)
    objects, sockets = FakeTable(True), FakeTable(True)
    _sweep(objects, sockets, [child.pid, 2**22 + 1])
    assert (status.st_dev, status.st_ino) in objects.swept[0]
    assert (gone.st_dev, gone.st_ino) not in objects.swept[0]
    assert status.st_ino in sockets.swept[0]
    child.kill()
