"""Threads, processes and signals are as without supervision; these programs judge themselves."""

from __future__ import annotations

import pytest
from build import FLAVOURS, c_program
from mirrord_trace.supervisor.targets.demo import rootfs
from runs import Argument, Runner

_POD_FILE = "/app/config.json"


def _as_natively(runner: Runner, *command: Argument) -> None:
    native, traced = runner.native(*command), runner.traced(*command)
    assert native.status == 0, native
    assert (traced.status, traced.out) == (native.status, native.out), traced.err


@pytest.mark.parametrize("program", ["process", "signals"])
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_three_ways(runner: Runner, program: str, flavour: str) -> None:
    command = (c_program(program, flavour),)
    native = runner.native(*command)
    local = runner.local(*command)
    traced = runner.traced(*command)
    assert native.status == 0, native
    assert (local.status, local.out) == (native.status, native.out), local.err
    assert (traced.status, traced.out) == (native.status, native.out), traced.err


@pytest.mark.timeout(700)
@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_thousand_threads_five_hundred_processes_and_all_their_ways_to_begin(runner: Runner, flavour: str) -> None:
    # It takes some seconds. But at each of its 20,000 stops, most of them one after the other, the tracer has to be given the
    # CPU, for which it waits as long as any other: on a machine with a load of 30 that makes minutes.
    runner.time_limit_s = 300
    _as_natively(runner, c_program("family", flavour), "1000", "500", _POD_FILE)


def test_static_and_dynamic_programs_that_execute_each_other(runner: Runner) -> None:
    for one, other in (("glibc", "static"), ("musl", "glibc"), ("static", "musl")):
        command = (c_program("family", one), "chain", "20", c_program("family", other))
        native = runner.native(*command)
        assert native.status == 25, native
        # The last of them sees the pod's name: each exec kept the filter and its tracer.
        traced = runner.traced(*command, rootfs.HOSTNAME)
        assert (traced.status, traced.out) == (25, ""), traced.err


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_a_parent_is_told_and_how_processes_end(runner: Runner, flavour: str) -> None:
    _as_natively(runner, c_program("waits", flavour), "200")
