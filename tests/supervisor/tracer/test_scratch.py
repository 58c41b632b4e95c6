"""Bytes for a tracee's arguments, in memory of our own in it."""

from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.supervisor.errors import InternalError
from mirrord_trace.supervisor.tracer.scratch import LIMIT_BYTES
from mirrord_trace.supervisor.tracer.space import LARGE_SLOT_BYTES, REGION_BYTES, SLOT_BYTES
from mirrord_trace.syscalls.actions import Handling, Keep, Return, Run, Scratch, run
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from rig import ARCH, CALL, DECISION, LOCAL, Supervised, apart, supervise

pytestmark = pytest.mark.usefixtures("both_loops")


@apart
def test_scratch_is_mapped_once_a_process_and_its_slots_are_used_again() -> None:
    count = 3 * REGION_BYTES // SLOT_BYTES

    def handler(context: Context, task: Task, args: Args) -> Handling:
        result = yield from run({0: Scratch(b"/nowhere\0"), 1: Scratch(b"user.x\0" * 60)})
        return Return(result, DECISION)

    spaces: list[int] = []

    def watch(run: Supervised) -> None:
        run.driver.observer = lambda tracee, call, result, decision: spaces.append(len(tracee.space.regions))

    program = f"""
for number in range({count}): assert call() == -errno.ENOENT
if os.fork() == 0:
    assert call() == -errno.ENOENT
    os._exit(3)
say(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    done = supervise(program, {CALL: handler}, prepare=watch)
    assert done.lines() == ["3"]
    assert set(spaces) == {1}
    assert len(spaces) == count + 1


@apart
def test_pointers_inside_scratch_become_addresses_of_the_tracee() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        # writev(2) by way of the call: struct iovec {base, 5}, then the bytes.
        scratch = Scratch(bytes(8) + (5).to_bytes(8, "little") + b"hello", ((0, 16),))
        yield Run({0: 1, 1: scratch, 2: 1}, 20 if os.uname().machine == "x86_64" else 66)
        return Keep(DECISION)

    assert supervise("say(call())", {CALL: handler}).output == "hello5\n"


@apart
@pytest.mark.parametrize("size", [SLOT_BYTES + 1, LARGE_SLOT_BYTES, LARGE_SLOT_BYTES + 1, 300_000])
def test_long_contents_get_there_whole(size: int) -> None:
    text = b"0123456789" * (size // 10 - 2)

    def handler(context: Context, task: Task, args: Args) -> Handling:
        # writev(2), as above; a short one besides.
        scratch = Scratch(bytes(8) + len(text).to_bytes(8, "little") + text, ((0, 16),))
        result = yield Run({0: 1, 1: scratch, 2: 1, 3: Scratch(b"short")}, 20 if os.uname().machine == "x86_64" else 66)
        assert isinstance(result, int)
        return Return(result, DECISION)

    assert supervise("assert call() == call()", {CALL: handler}).output.encode() == text * 2


@apart
def test_scratch_that_the_program_unmapped_is_an_errno_not_our_end() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        result = yield from run({0: Scratch(b"/nowhere\0"), 1: Scratch(b"user.x\0")})
        return Return(result, DECISION)

    program = f"""
say(call())
for line in open('/proc/self/maps'):
    low, high = (int(end, 16) for end in line.split()[0].split('-'))
    if high - low == {REGION_BYTES} and len(line.split()) == 5: libc.munmap(ctypes.c_void_p(low), high - low)
say(call())
"""
    done = supervise(program, {CALL: handler})
    assert done.lines() in ([str(-errno.ENOENT), str(-errno.EFAULT)], [str(-errno.ENOENT), str(-errno.ENOENT)])


@apart
def test_a_tracee_whose_own_filter_forbids_mmap_gets_enomem() -> None:
    def handler(context: Context, task: Task, args: Args) -> Handling:
        result = yield from run({0: Scratch(b"/nowhere\0")})
        return Return(result, DECISION)

    number = ARCH.syscall_numbers["mmap"]
    program = f"""
import struct
program = ((0x20, 0, 0, 0), (0x15, 0, 1, {number}), (6, 0, 0, 0x50001), (6, 0, 0, 0x7fff0000))
code = b''.join(struct.pack('<HBBI', *instruction) for instruction in program)
buffer = ctypes.create_string_buffer(code, len(code))
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.create_string_buffer(struct.pack('<H6xQ', 4, ctypes.addressof(buffer)), 16)) == 0
say(call(0))
"""
    assert supervise(program, {CALL: handler}).lines() == [str(-errno.ENOMEM)]


@apart
def test_too_much_is_a_bug_of_ours() -> None:
    def too_much(context: Context, task: Task, args: Args) -> Handling:
        yield Run({0: Scratch(bytes(LIMIT_BYTES + 1))})
        return Keep(LOCAL)

    with pytest.raises(InternalError):
        supervise("call(0)", {CALL: too_much})
