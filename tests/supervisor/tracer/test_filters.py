"""The filters of the table: exactly its calls stop, for every number, architecture, x32 bit and argument value."""

from __future__ import annotations

import errno
import itertools
import socket

import pytest
from bpf import run
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.supervisor.tracer import filter as seccomp
from mirrord_trace.supervisor.tracer.arch import Arch, native
from mirrord_trace.supervisor.tracer.filters import first_filter, later_filter, notify_filter
from mirrord_trace.supervisor.tracer.space import SLOT_BYTES
from mirrord_trace.syscalls.actions import Handling, Return, trap
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.table import ROWS, ArgumentTest, Row
from mirrord_trace.syscalls.table import rows as table
from mirrord_trace.syscalls.task import Task
from rig import ARCH, CALL, DECISION, apart, supervise

pytestmark = pytest.mark.usefixtures("both_loops")

_MACHINES = ("x86_64", "aarch64")
_LATER = frozenset(row.name for row in table(True) if row.later)
_FOREIGN = seccomp.RET_TRACE | seccomp.TRACE_FOREIGN_ABI
_NUMBERS = range(1024)

# Everything an argument test of the table can tell apart, and numbers that only differ in the upper half.
_VALUES = sorted(
    {value for row in ROWS for tests in (row.tests, *row.alternatives) for test in tests for value in test.values}
    | {0, 1, 0x80802, 1 << 32, (1 << 64) - 1}
)
_args = st.tuples(*[st.sampled_from(_VALUES) | st.integers(0, (1 << 64) - 1)] * 6)


def _holds(test: ArgumentTest, args: tuple[int, ...]) -> bool:
    value = args[test.argument]
    return value & test.mask & 0xFFFFFFFF in test.values if test.values else value != 0


def _expected(rows: dict[int, Row], sysno: int, args: tuple[int, ...]) -> int:
    row = rows.get(sysno)
    if row is None:
        return seccomp.RET_ALLOW
    if row.errno is not None:
        return seccomp.RET_ERRNO | row.errno
    stops = any(all(_holds(test, args) for test in tests) for tests in (row.tests, *row.alternatives))
    return seccomp.RET_TRACE if stops else seccomp.RET_ALLOW


def _rows(arch: Arch, later: bool, mounted: bool) -> dict[int, Row]:
    numbers = arch.syscall_numbers
    return {numbers[row.name]: row for row in table(mounted) if bool(row.later) is later and row.name in numbers}


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(_MACHINES), st.booleans(), st.booleans(), _args)
def test_exactly_the_tables_calls_stop(machine: str, later: bool, mounted: bool, args: tuple[int, ...]) -> None:
    arch = native(machine)
    code = later_filter(arch, _LATER) if later else first_filter(arch, mounted=mounted)
    rows = _rows(arch, later, mounted or later)
    for sysno in _NUMBERS:
        assert run(code, sysno, arch.audit, args) == _expected(rows, sysno, args), (sysno, args)


@pytest.mark.parametrize("machine", _MACHINES)
def test_every_combination_of_the_values_that_matter(machine: str) -> None:
    arch = native(machine)
    code, rows = first_filter(arch), _rows(arch, False, False)
    for sysno, row in rows.items():
        tested = sorted({test.argument for tests in (row.tests, *row.alternatives) for test in tests})
        own = {value for tests in (row.tests, *row.alternatives) for test in tests for value in test.values}
        for values in itertools.product(sorted(own | {0, 1, 0x80802, 1 << 32, (1 << 64) - 1}), repeat=len(tested)):
            args = [0] * 6
            for argument, value in zip(tested, values, strict=True):
                args[argument] = value
            assert run(code, sysno, arch.audit, args) == _expected(rows, sysno, tuple(args)), (row.name, args)


@pytest.mark.parametrize("machine", _MACHINES)
def test_foreign_architectures(machine: str) -> None:
    arch = native(machine)
    for audit in {0x40000003, 0xC000003E, 0xC00000B7, 0x40000028, 0} - {arch.audit}:
        assert {run(first_filter(arch), sysno, audit) for sysno in _NUMBERS} == {_FOREIGN}


@pytest.mark.parametrize("machine", _MACHINES)
def test_unix_datagram_sockets_stop_only_where_the_pods_are_wanted(machine: str) -> None:
    arch = native(machine)
    sysno = arch.syscall_numbers["socket"]
    for kind, stops in ((socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, True), (socket.SOCK_STREAM, False)):
        args = (socket.AF_UNIX, kind, 0)
        assert run(first_filter(arch), sysno, arch.audit, args) == seccomp.RET_ALLOW
        wanted = seccomp.RET_TRACE if stops else seccomp.RET_ALLOW
        assert run(first_filter(arch, unix_streams=True), sysno, arch.audit, args) == wanted


def test_x32_numbers_are_foreign() -> None:
    arch = native("x86_64")
    for code in (first_filter(arch), later_filter(arch, _LATER)):
        assert {run(code, sysno | 0x40000000, arch.audit) for sysno in (*_NUMBERS, 0x3FFFFFFF)} == {_FOREIGN}
        assert run(code, -1, arch.audit) == _FOREIGN


def test_io_uring_is_enosys_without_a_stop() -> None:
    for machine in _MACHINES:
        arch = native(machine)
        assert run(first_filter(arch), 425, arch.audit) == seccomp.RET_ERRNO | errno.ENOSYS


@pytest.mark.parametrize("machine", _MACHINES)
def test_only_the_later_calls_asked_for_and_small_enough_for_a_slot(machine: str) -> None:
    arch = native(machine)
    for name in _LATER:
        code = later_filter(arch, frozenset({name}))
        stopping = {sysno for sysno in _NUMBERS if run(code, sysno, arch.audit, ((1 << 64) - 1,) * 6) != seccomp.RET_ALLOW}
        assert stopping == {arch.syscall_numbers[name]}
    assert len(later_filter(arch, _LATER)) <= SLOT_BYTES


def _trapping(context: Context, task: Task, args: Args) -> Handling:
    return Return((yield from trap(frozenset({"uname"}))), DECISION)


def _uname(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    return Return(77, DECISION)


def _build(names: frozenset[str]) -> bytes:
    return seccomp.program([seccomp.Rule(ARCH.syscall_numbers[name]) for name in names], ARCH.audit)


@apart
def test_a_later_filter_is_put_on_all_threads_and_inherited_once() -> None:
    uname = ARCH.syscall_numbers["uname"]
    program = f"""
buffer = ctypes.create_string_buffer(4096)
def filters():
    return next((int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('Seccomp_filters')), 0)
before = filters()
def look(): return raw({uname}, ctypes.addressof(buffer))
go, done = threading.Event(), threading.Event()
def other(): done.set(); go.wait(); say(look())
thread = threading.Thread(target=other); thread.start(); done.wait()
say(look()); say(call()); say(look()); go.set(); thread.join(); say(call())
if os.fork() == 0: say(look()); say(call()); os._exit(0)
os.wait()
say(filters() - before <= 1)
"""
    done = supervise(program, {CALL: _trapping, "uname": _uname}, later=_build, trapped=["uname"])
    assert done.lines() == ["0", "0", "77", "77", "0", "77", "0", "True"]


@apart
def test_a_thread_with_a_filter_of_its_own_makes_it_eperm() -> None:
    program = """
import struct
allow = ctypes.create_string_buffer(struct.pack('<HBBI', 6, 0, 0, 0x7fff0000), 8)
header = ctypes.create_string_buffer(struct.pack('<H6xQ', 1, ctypes.addressof(allow)), 16)
go, done = threading.Event(), threading.Event()
def other():
    libc.prctl(38, 1, 0, 0, 0); assert libc.prctl(22, 2, header) == 0
    done.set(); go.wait()
thread = threading.Thread(target=other); thread.start(); done.wait()
say(call()); go.set(); thread.join(); say(call())
"""
    done = supervise(program, {CALL: _trapping}, later=_build)
    assert done.lines() == [str(-errno.EPERM), "0"]


@apart
def test_a_program_that_has_lost_the_right_to_filters_gives_up_new_privileges() -> None:
    program = """
import struct
# capset: no capability is left.
header = ctypes.create_string_buffer(struct.pack('<Ii', 0x20080522, 0), 8)
assert libc.capset(header, ctypes.create_string_buffer(24)) == 0
say(call()); say(libc.prctl(39, 0, 0, 0, 0))
"""
    done = supervise(program, {CALL: _trapping}, later=_build)
    assert done.lines() == ["0", "1"]


@pytest.mark.parametrize("machine", _MACHINES)
@given(args=_args)
@settings(max_examples=20)
def test_the_one_filter_of_the_other_engine_has_all_that_stops_now_or_later(machine: str, args: tuple[int, ...]) -> None:
    arch = native(machine)
    both, one = [first_filter(arch, mounted=True), later_filter(arch, _LATER)], notify_filter(arch, mounted=True)
    without = {arch.syscall_numbers["ptrace"]}
    for sysno in set(arch.syscall_numbers.values()) - without:
        stops = any(run(code, sysno, arch.audit, args) == seccomp.RET_TRACE for code in both)
        assert (run(one, sysno, arch.audit, args) == seccomp.RET_USER_NOTIF) == stops, sysno
