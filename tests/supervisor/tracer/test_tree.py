"""Who is who: both orders of announcement and first stop, what is shared, and what an exec replaces."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable

import pytest
from mirrord_trace.supervisor.tracer import ptrace
from mirrord_trace.supervisor.tracer.stops import Ended, NewTaskStop
from mirrord_trace.supervisor.tracer.tracee import Tracee
from mirrord_trace.supervisor.tracer.tree import Tree
from rig import ARCH, Child, Supervised, apart, libc, supervise

_CLONE_VM, _CLONE_VFORK, _CLONE_THREAD = 0x100, 0x4000, 0x10000
_SIGNAL_BYTES = signal.SIGCHLD


def _fork() -> int:
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    return 0


def _vfork() -> int:
    return os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0)[1])


def _clone3_fork() -> int:
    args = struct.pack("<11Q", 0, 0, 0, 0, _SIGNAL_BYTES, 0, 0, 0, 0, 0, 0)
    if libc.syscall(ARCH.syscall_numbers["clone3"], args, len(args)) == 0:
        os._exit(0)
    os.wait()
    return 0


def _thread() -> int:
    import threading

    thread = threading.Thread(target=lambda: None)
    thread.start()
    thread.join()
    return 0


_MADE: dict[str, tuple[Callable[[], int], bool, bool]] = {
    # how: (function, same process, same memory)
    "fork": (_fork, False, False),
    "vfork": (_vfork, False, True),
    "clone3": (_clone3_fork, False, False),
    "thread": (_thread, True, True),
}


@apart
@pytest.mark.parametrize("how", _MADE)
@pytest.mark.parametrize("first", ["announced", "stopped"])
def test_a_new_task_shares_what_its_maker_said(how: str, first: str) -> None:
    body, same_process, same_memory = _MADE[how]
    child = Child(body, calls=())
    tree = Tree(ARCH)
    parent = tree.add_root(child.pid)
    parent.process.traps = frozenset({"sendmsg"})
    parent.space.add_region(0x10000)
    assert isinstance(child.next(), NewTaskStop)
    new = ptrace.event_message(child.pid)
    if first == "stopped":
        assert os.waitpid(new, ptrace.WALL)[1] >> 16 == ptrace.EVENT_STOP
        assert tree.has_parent(new)
        tree.unclaimed.add(new)
    assert tree.announce(parent, new) is (first == "stopped")
    assert tree.unclaimed == set()
    made = tree.tracees[new]
    assert (made.process is parent.process) is same_process
    assert (made.space is parent.space) is same_memory
    assert made.tgid == (child.pid if same_process else new)
    assert made.space.regions == [0x10000]
    assert made.process.traps == {"sendmsg"}
    os.kill(child.pid, signal.SIGKILL)


@apart
def test_announced_twice_it_stays_who_it_is() -> None:
    child = Child(_fork, calls=())
    tree = Tree(ARCH)
    parent = tree.add_root(child.pid)
    child.next()
    new = ptrace.event_message(child.pid)
    tree.announce(parent, new)
    made = tree.tracees[new]
    tree.announce(parent, new)
    assert tree.tracees[new] is made
    os.kill(child.pid, signal.SIGKILL)


@apart
def test_killed_before_its_announcement_the_parent_leaves_an_orphan() -> None:
    child = Child(_fork, calls=())
    tree = Tree(ARCH)
    tree.add_root(child.pid)
    child.next()
    new = ptrace.event_message(child.pid)
    assert os.waitpid(new, ptrace.WALL)[1] >> 16 == ptrace.EVENT_STOP
    child.kill()
    assert child.next() == Ended(-1, signal.SIGKILL, False)
    del tree.tracees[child.pid]
    assert not tree.has_parent(new)
    tree.unclaimed.add(new)
    (adopted,) = tree.adopt_orphans()
    assert (adopted.tid, adopted.tgid) == (new, new)
    assert tree.tracees == {new: adopted}
    ptrace.cont(new)
    assert os.waitpid(new, ptrace.WALL) == (new, 0)


@apart
def test_an_unclaimed_thread_is_adopted_into_its_process() -> None:
    child = Child(_thread, calls=())
    tree = Tree(ARCH)
    parent = tree.add_root(child.pid)
    child.next()
    new = ptrace.event_message(child.pid)
    tree.unclaimed.add(new)
    (adopted,) = tree.adopt_orphans()
    assert adopted.process is parent.process
    os.kill(child.pid, signal.SIGKILL)


@apart
def test_adopted_and_ended_before_its_announcement_it_is_not_there_again() -> None:
    child = Child(_fork, calls=())
    tree = Tree(ARCH)
    parent = tree.add_root(child.pid)
    child.next()
    new = ptrace.event_message(child.pid)
    assert os.waitpid(new, ptrace.WALL)[1] >> 16 == ptrace.EVENT_STOP
    tree.unclaimed.add(new)
    # Some other process has ended, and the parent's event is still to come.
    tree.adopt_orphans()
    ptrace.cont(new)
    assert os.waitpid(new, ptrace.WALL) == (new, 0)
    del tree.tracees[new]
    assert not tree.announce(parent, new)
    assert set(tree.tracees) == {child.pid}
    os.kill(child.pid, signal.SIGKILL)


def test_nobody_is_adopted_without_need() -> None:
    assert Tree(ARCH).adopt_orphans() == []
    assert not Tree(ARCH).has_parent(2**22 + 1)


def test_an_exec_leaves_one_thread_with_new_memory_and_the_filters() -> None:
    tree = Tree(ARCH)
    leader = tree.add_root(10)
    leader.process.traps = frozenset({"sendmsg"})
    other = tree.add_root(20)
    for tid in (11, 12):
        tree.tracees[tid] = Tracee(tid, leader.process)
    assert {tracee.tid for tracee in tree.executed(10)} == {10, 11, 12}
    assert set(tree.tracees) == {10, 20}
    assert tree.tracees[20] is other
    assert tree.tracees[10].space is not leader.space
    assert tree.tracees[10].process.traps == {"sendmsg"}


def test_whether_a_process_is_skipped_is_asked_when_it_executes() -> None:
    tree = Tree(ARCH)
    asked: list[tuple[int, bytes]] = []
    answers = [True, False]
    tree.skips = lambda tgid, program: asked.append((tgid, program)) or answers.pop(0)  # type: ignore[func-returns-value]
    tree.add_root(10)
    assert not tree.tracees[10].is_skipped
    tree.tracees[10].process.next_program = b"/app/it"
    tree.executed(10)
    assert tree.tracees[10].is_skipped
    tree.executed(10)
    assert not tree.tracees[10].is_skipped
    assert asked == [(10, b"/app/it"), (10, b"")]


@apart
@pytest.mark.parametrize("how", _MADE)
def test_threads_and_children_are_skipped_as_their_parent(how: str) -> None:
    child = Child(_MADE[how][0], calls=())
    tree = Tree(ARCH)
    tree.skips = lambda tgid, program: False
    parent = tree.add_root(child.pid)
    parent.process.is_skipped = parent.is_skipped = True
    child.next()
    new = ptrace.event_message(child.pid)
    tree.announce(parent, new)
    assert tree.tracees[new].is_skipped
    os.kill(child.pid, signal.SIGKILL)


@apart
def test_of_an_adopted_process_its_program_says_whether_it_is_skipped() -> None:
    child = Child(_fork, calls=())
    tree = Tree(ARCH)
    child.next()
    new = ptrace.event_message(child.pid)
    tree.unclaimed.add(new)
    tree.skips = lambda tgid, program: (tgid, program) == (new, b"")
    (adopted,) = tree.adopt_orphans()
    assert adopted.is_skipped
    os.kill(child.pid, signal.SIGKILL)


@apart
def test_arguments_of_clone3_that_are_gone_do_not_matter() -> None:
    child = Child(_thread, calls=())
    tree = Tree(ARCH)
    parent = tree.add_root(child.pid)
    child.next()
    words = ARCH.registers(child.pid)
    words[ARCH.argument_index(0)] = 8
    ARCH.set_call(child.pid, words, ARCH.syscall_numbers["clone3"])
    tree.announce(parent, ptrace.event_message(child.pid))
    assert tree.tracees[ptrace.event_message(child.pid)].process is parent.process
    os.kill(child.pid, signal.SIGKILL)


@apart
def test_clone_with_shared_memory_and_a_process_of_its_own() -> None:
    spaces: list[bool] = []

    def prepare(run: Supervised) -> None:
        announce = run.tree.announce

        def watch(parent: Tracee, tid: int) -> bool:
            waiting = announce(parent, tid)
            made = run.tree.tracees[tid]
            spaces.append(made.space is parent.space and made.process is not parent.process)
            return waiting

        run.tree.announce = watch  # type: ignore[method-assign]

    # glibc's clone() with a stack of its own: CLONE_VM without CLONE_THREAD; the child only exits.
    program = f"""
stack = ctypes.create_string_buffer(1 << 16)
libc.clone.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
top = ctypes.addressof(stack) + (1 << 16) - 64
pid = libc.clone(ctypes.cast(libc._exit, ctypes.c_void_p), top, {_CLONE_VM | signal.SIGCHLD}, 7)
say(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert supervise(program, prepare=prepare).lines() == ["7"]
    assert spaces == [True]


@apart
def test_what_a_process_runs_is_its_childs_and_gone_with_the_next_program() -> None:
    child = Child(_fork)
    tree = Tree(ARCH)
    parent = tree.add_root(child.pid)
    tree.programs[child.pid] = b"/app/x"
    assert isinstance(child.next(), NewTaskStop)
    grandchild = ptrace.event_message(child.pid)
    tree.announce(parent, grandchild)
    assert tree.tracees[grandchild].program_of(grandchild) == b"/app/x"
    tree.tracees[grandchild].will_execute(b"/app/y")
    tree.executed(grandchild)
    assert tree.programs == {child.pid: b"/app/x", grandchild: b"/app/y"}
    tree.executed(grandchild)
    assert tree.programs == {child.pid: b"/app/x"}
    child.kill()


def test_tasks_that_were_there_before() -> None:
    tree = Tree(ARCH)
    leader = tree.add(10, 10)
    assert tree.add(11, 10).process is leader.process
    assert tree.add(12, 12).process is not leader.process
    # Whose leader has ended is known by itself.
    assert tree.add(14, 13).tgid == 13
    assert sorted(tree.tracees) == [10, 11, 12, 14]
