"""The table's rows say the same of a call here and as a seccomp filter."""

from __future__ import annotations

import errno
import random

import pytest
from bpf import run
from mirrord_trace.supervisor.attach.selection import Selection
from mirrord_trace.supervisor.tracer.filter import RET_ALLOW, RET_ERRNO, RET_TRACE
from mirrord_trace.supervisor.tracer.filters import first_filter, later_filter
from mirrord_trace.syscalls.context import Args
from mirrord_trace.syscalls.table import rows
from rig import ARCH

_VALUES = (0, 1, 2, 3, 4, 5, 9, 10, 16, 40, 262, 0x20000000, 0x00800000, 0x800, 1 << 32, (1 << 32) + 2, (1 << 64) - 1)
_EVERYTHING = frozenset(row.name for row in rows(True) if row.later)


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("unix_streams", [False, True])
def test_it_chooses_as_the_filters_do(mounted: bool, unix_streams: bool) -> None:
    chance = random.Random(5)
    selection = Selection(rows(mounted), ARCH.syscall_numbers, unix_streams=unix_streams)
    first = first_filter(ARCH, unix_streams=unix_streams, mounted=mounted)
    for _ in range(3000):
        sysno = chance.choice(sorted(ARCH.syscall_numbers.values()))
        args = _args(chance)
        verdict = run(first, sysno, ARCH.audit, args)
        assert selection.wants(sysno, args, frozenset()) == (verdict != RET_ALLOW), (sysno, args)
        if verdict & 0xFFFF0000 == RET_ERRNO:
            assert selection.refused[sysno][1] == verdict & 0xFFFF


def test_later_rows_count_for_those_who_asked() -> None:
    chance = random.Random(6)
    selection = Selection(rows(True), ARCH.syscall_numbers)
    first, later = first_filter(ARCH, mounted=True), later_filter(ARCH, _EVERYTHING)
    for _ in range(3000):
        sysno = chance.choice(sorted(ARCH.syscall_numbers.values()))
        args = _args(chance)
        stops = RET_TRACE in (run(first, sysno, ARCH.audit, args), run(later, sysno, ARCH.audit, args))
        refused = sysno in selection.refused
        assert selection.wants(sysno, args, _EVERYTHING) == (stops or refused), (sysno, args)


def _args(chance: random.Random) -> Args:
    first, second, third, fourth, fifth, sixth = chance.choices(_VALUES, k=6)
    return first, second, third, fourth, fifth, sixth


def test_rings_do_not_exist() -> None:
    selection = Selection(rows(True), ARCH.syscall_numbers)
    assert selection.refused[ARCH.syscall_numbers["io_uring_setup"]] == ("io_uring_setup", errno.ENOSYS)


def test_calls_that_this_machine_does_not_have_are_left_out() -> None:
    assert not Selection(rows(True), {}).always
