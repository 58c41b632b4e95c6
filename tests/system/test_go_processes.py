"""A static Go program's processes, waits, signals and bad pointers are as without supervision."""

from __future__ import annotations

import os

import pytest
from build import go_program
from mirrord_trace.supervisor.targets.demo import rootfs
from runs import Runner

pytestmark = pytest.mark.usefixtures("every_way")

_LEAF = 7
"""With which it ends, by an exec."""


def test_as_natively(runner: Runner) -> None:
    native = runner.native(go_program("process"), os.uname().nodename)
    assert (native.status, native.out.splitlines()[-1]) == (_LEAF, "leaf"), native
    # It and all its children see the pod's name: none of them was started without supervision.
    traced = runner.traced(go_program("process"), rootfs.HOSTNAME)
    assert (traced.status, traced.out) == (native.status, native.out), traced.err


def test_as_natively_with_all_local(runner: Runner) -> None:
    command = (go_program("process"), os.uname().nodename)
    native, local = runner.native(*command), runner.local(*command)
    assert native.status == _LEAF, native
    assert (local.status, local.out) == (native.status, native.out), local.err
