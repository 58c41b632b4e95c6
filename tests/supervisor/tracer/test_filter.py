"""The generated program against the rules it was made from, run by an interpreter and by the kernel."""

from __future__ import annotations

import errno

import pytest
from bpf import decides_by_number, run
from hypothesis import given, settings
from hypothesis import strategies as st
from mirrord_trace.supervisor.tracer.filter import (
    RET_ALLOW,
    RET_ERRNO,
    RET_TRACE,
    TRACE_CALL,
    TRACE_FOREIGN_ABI,
    NonZero,
    OneOf,
    Rule,
    Test,
    program,
)
from mirrord_trace.supervisor.tracer.stops import Ended, SeccompStop
from rig import ARCH, CALL, Child, apart, syscall

_AUDIT = 0xC000003E
_X32 = 0x40000000
_U32 = st.integers(0, 0xFFFFFFFF)
_U64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)


def _tests() -> st.SearchStrategy[tuple[Test, ...]]:
    values = st.lists(_U32 | st.integers(0, 3), min_size=1, max_size=4).map(tuple)
    masks = st.sampled_from((0xFFFFFFFF, 0xF, 0x8000_0000))
    one = st.builds(NonZero, st.integers(0, 5)) | st.builds(OneOf, st.integers(0, 5), values, masks)
    return st.lists(one, max_size=3).map(tuple)


def _ways() -> st.SearchStrategy[tuple[tuple[Test, ...], ...]]:
    return st.lists(_tests(), max_size=2).map(tuple)


_rules = st.lists(
    st.builds(Rule, st.integers(0, 500), _tests(), st.none() | st.integers(1, 200), _ways()),
    max_size=60,
    unique_by=lambda rule: rule.sysno,
)


def _holds(test: Test, args: tuple[int, ...]) -> bool:
    value = args[test.argument]
    return value != 0 if isinstance(test, NonZero) else value & test.mask & 0xFFFFFFFF in test.values


def _expected(rules: list[Rule], sysno: int, args: tuple[int, ...]) -> int:
    for rule in rules:
        if rule.sysno == sysno:
            if rule.errno is not None:
                return RET_ERRNO | rule.errno
            if any(all(_holds(test, args) for test in tests) for tests in (rule.tests, *rule.alternatives)):
                return RET_TRACE | TRACE_CALL
    return RET_ALLOW


@settings(deadline=None, max_examples=60)
@given(_rules, st.tuples(*[_U64 | st.integers(0, 3) | st.just(1 << 32)] * 6))
def test_exactly_the_ruled_calls_stop(rules: list[Rule], args: tuple[int, ...]) -> None:
    code = program(rules, _AUDIT, _X32)
    for sysno in [*range(-1 & 0, 505), 0x3FFFFFFF]:
        assert run(code, sysno, _AUDIT, args) == _expected(rules, sysno, args), sysno


@given(_rules, _U32, _U32)
def test_another_architecture_is_foreign_whatever_the_number(rules: list[Rule], sysno: int, audit: int) -> None:
    if audit != _AUDIT:
        assert run(program(rules, _AUDIT, _X32), sysno, audit) == RET_TRACE | TRACE_FOREIGN_ABI


@given(_rules, _U32)
def test_the_x32_bit_is_foreign(rules: list[Rule], sysno: int) -> None:
    assert run(program(rules, _AUDIT, _X32), sysno | _X32, _AUDIT) == RET_TRACE | TRACE_FOREIGN_ABI


def test_without_an_x32_bit_such_numbers_are_numbers() -> None:
    code = program([Rule(_X32 | 1)], 0xC00000B7)
    assert run(code, _X32 | 1, 0xC00000B7) == RET_TRACE
    assert run(code, _X32 | 2, 0xC00000B7) == RET_ALLOW


def test_the_instruction_pointer_and_upper_halves_do_not_matter() -> None:
    code = program([Rule(5, (OneOf(0, (7,)),))], _AUDIT)
    assert run(code, 5, _AUDIT, (7 | 0xDEAD << 32,), ip=0xFFFFFFFFFFFF) == RET_TRACE


def test_calls_without_a_rule_are_allowed_by_their_number_alone() -> None:
    code = program([Rule(number * 3, (NonZero(0),)) for number in range(100)], _AUDIT, _X32)
    assert all(decides_by_number(code, sysno, _AUDIT) == (sysno % 3 != 0) for sysno in range(300))


def test_two_rules_for_one_number_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="two rules"):
        program([Rule(1), Rule(1)], _AUDIT)


def test_a_program_the_kernel_would_not_take_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="4096"):
        program([Rule(number, (OneOf(0, tuple(range(20))),)) for number in range(200)], _AUDIT)


def test_many_rules_jump_far() -> None:
    rules = [Rule(number, (OneOf(0, tuple(range(3))),)) for number in range(150)]
    code = program(rules, _AUDIT, _X32)
    for number in range(151):
        for value in range(4):
            assert run(code, number, _AUDIT, (value,)) == _expected(rules, number, (value, 0, 0, 0, 0, 0))


@apart
def test_the_kernel_takes_it_and_stops_the_child_there() -> None:
    child = Child(lambda: -syscall(CALL, 0, 0, 0, 0))
    assert child.next() == SeccompStop()
    ARCH.skip(child.pid, -errno.EXDEV)
    from mirrord_trace.supervisor.tracer import ptrace

    ptrace.cont(child.pid)
    assert child.next() == Ended(errno.EXDEV, 0, False)
