"""Which layout a machine has."""

from __future__ import annotations

import platform

import pytest
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.tracer.arch import Arch, native


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_it_is_found_by_the_machines_name(machine: str) -> None:
    arch: Arch = native(machine)
    assert arch.name == machine


@pytest.mark.parametrize("machine", ["riscv64", "i686", "ppc64le"])
def test_other_machines_are_a_clear_error(machine: str) -> None:
    with pytest.raises(UsageError, match=machine):
        native(machine)


def test_without_a_name_it_is_this_machines() -> None:
    assert native().name == platform.machine()
