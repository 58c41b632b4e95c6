"""Whole programs under the loop: threads, forks, execs, signals, stops and ends are as without supervision."""

from __future__ import annotations

import ast
import errno
import gc
import itertools
import os
import random
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from mirrord_trace.agent.wire.messages import Done, GetPod, Message
from mirrord_trace.supervisor.errors import InternalError
from mirrord_trace.supervisor.tracer import loop as module
from mirrord_trace.supervisor.tracer.loop import refuse_foreign_call
from mirrord_trace.supervisor.tracer.space import AddressSpace
from mirrord_trace.supervisor.tracer.stops import Ended, Stop
from mirrord_trace.supervisor.tracer.tracee import Process, Tracee
from mirrord_trace.syscalls.actions import Answer, Ask, Continue, GiveFile, Handling, Return, Scratch, run
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.task import Task
from rig import ARCH, CALL, DECISION, Supervised, apart, python, supervise

pytestmark = pytest.mark.usefixtures("both_loops")


def _answer(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    return Return(args[0] + 1, DECISION)


def _run(program: str, prepare: Callable[[Supervised], None] = lambda run: None) -> Supervised:
    done = supervise(program, {CALL: _answer}, prepare=prepare)
    assert done.tree.tracees == {}
    assert done.tree.unclaimed == set()
    return done


@apart
@pytest.mark.parametrize("code", [0, 1, 42, 255])
def test_the_exit_code(code: int) -> None:
    assert _run(f"sys.exit({code})").end == Ended(code, 0, False)


@apart
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT, signal.SIGSEGV, signal.SIGRTMIN])
def test_the_signal_that_killed(number: int) -> None:
    end = _run(f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), {int(number)})").end
    assert end == Ended(-1, number, False)


@apart
def test_threads_and_forks_of_threads_are_supervised() -> None:
    program = """
def work(number):
    assert call(number) == number + 1
    pid = os.fork()
    if pid == 0: os._exit(call(number) - 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == number
    say(number)
threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    assert sorted(map(int, _run(program).lines())) == list(range(8))


@apart
def test_a_program_executed_by_another_thread_takes_the_leaders_place() -> None:
    program = f"""
busy = threading.Event()
def spin():
    busy.set()
    while True: call(1)
for _ in range(3): threading.Thread(target=spin).start()
busy.wait()
pid = os.getpid()
thread = threading.Thread(target=lambda:
    os.execv(sys.executable, {python("say(os.getpid(), call(5), len(os.listdir('/proc/self/task')))")!r}))
say(pid); thread.start(); thread.join()
"""
    done = _run(program)
    first, second = done.lines()
    assert second == f"{first} 6 1"
    assert done.end == Ended(0, 0, False)


@apart
def test_vfork_and_a_shell_pipeline() -> None:
    program = """
import subprocess
say(subprocess.run(['sh', '-c', 'echo one two | tr a-z A-Z | cat'], stdout=subprocess.PIPE).stdout.decode().strip())
say(os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn('/bin/false', ['false'], {}), 0)[1]))
"""
    assert _run(program).lines() == ["ONE TWO", "1"]


@apart
def test_a_failed_exec_changes_nothing() -> None:
    program = """
try: os.execv('/nowhere', ['x'])
except OSError as error: say(error.errno, call(1))
"""
    assert _run(program).lines() == [f"{errno.ENOENT} 2"]


@apart
def test_signals_are_delivered_exactly_once() -> None:
    program = """
count = 0
def take(*_):
    global count; count += 1
signal.signal(signal.SIGUSR1, take)
for number in range(200):
    os.kill(os.getpid(), signal.SIGUSR1); assert call(number) == number + 1
say(count)
for number in (signal.SIGTRAP, signal.SIGSYS, signal.SIGCONT):
    seen = []; signal.signal(number, lambda *_: seen.append(1)); os.kill(os.getpid(), number); say(len(seen))
signal.pthread_sigmask(signal.SIG_BLOCK, {40})
libc.sigqueue(os.getpid(), 40, ctypes.c_void_p(1234))
took = signal.sigwaitinfo({40}); say(took.si_code, took.si_pid == os.getpid())
"""
    assert _run(program).lines() == ["200", "1", "1", "1", "-1 True"]


@apart
@pytest.mark.parametrize("number", ["SIGSTOP", "SIGTSTP", "SIGTTIN", "SIGTTOU"])
def test_a_stopped_child_stops_as_a_whole_and_goes_on_after_sigcont(number: str) -> None:
    program = f"""
os.setpgid(0, 0)
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    threading.Thread(target=lambda: [call(1) for _ in range(20000)], daemon=True).start()
    os.write(write, b'.')
    while True: call(2)
os.read(read, 1)
for _ in range(3):
    os.kill(pid, signal.{number})
    _, status = os.waitpid(pid, os.WUNTRACED); assert os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.{number}, status
    os.kill(pid, signal.SIGCONT)
    _, status = os.waitpid(pid, os.WCONTINUED); assert os.WIFCONTINUED(status), status
os.kill(pid, signal.SIGTERM)
say(os.WTERMSIG(os.waitpid(pid, 0)[1]))
"""
    assert _run(program).lines() == ["15"]


@apart
@pytest.mark.parametrize(
    ("number", "with_child", "stops"),
    [("SIGTSTP", False, True), ("SIGSTOP", False, True), ("SIGTSTP", True, True), ("SIGSTOP", True, False)],
)
def test_the_tool_stops_like_its_program_unless_others_need_it(
    number: str, with_child: bool, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped: list[int] = []

    def stop_like(program: int) -> None:
        stopped.append(program)
        os.kill(program, signal.SIGCONT)

    monkeypatch.setattr(module, "stop_like", stop_like)
    program = f"""
os.setpgid(0, 0)
if {with_child}:
    pid = os.fork()
    if pid == 0:
        # Where nobody else is going to continue the parent.
        while not {stops}: os.kill(os.getppid(), signal.SIGCONT); call(1)
        signal.pause()
os.kill(os.getpid(), signal.{number})
say('goes on')
if {with_child}: os.kill(pid, 9); os.wait()
"""
    done = _run(program)
    assert done.lines() == ["goes on"]
    assert bool(stopped) is stops


@apart
def test_the_program_outlived_by_what_it_started() -> None:
    signals: list[int] = []

    def prepare(run: Supervised) -> None:
        ended = run.loop._ended

        def watch(tracee: Tracee, end: Ended) -> None:
            ended(tracee, end)
            if run.loop.root_end is not None and not signals:
                signals.append(signal.SIGTERM)
                run.loop.post(lambda: run.loop.pass_on(signal.SIGTERM))

        run.loop._ended = watch  # type: ignore[method-assign]

    program = """
read, write = os.pipe()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, lambda *_: (say('told to end'), os._exit(0)))
    os.write(write, b'.')
    while True: signal.pause()
os.read(read, 1)
os._exit(3)
"""
    done = _run(program, prepare)
    assert done.lines() == ["told to end"]
    assert done.end == Ended(3, 0, False)


@apart
def test_a_signal_for_the_program_goes_to_it_alone() -> None:
    def prepare(run: Supervised) -> None:
        run.loop.post(lambda: None)
        handlers = run.driver.handlers
        number = ARCH.syscall_numbers[CALL]

        def ready(context: Context, task: Task, args: Args) -> Handling:
            run.loop.post(lambda: run.loop.pass_on(signal.SIGUSR2))
            yield from ()
            return Return(0, DECISION)

        run.driver.handlers = {**handlers, number: (CALL, ready)}

    program = """
pid = os.fork()
if pid == 0: signal.pause()
taken = []
signal.signal(signal.SIGUSR2, lambda number, _: taken.append(number))
call()
while not taken: time.sleep(0.001)
os.kill(pid, 0); os.kill(pid, 9); os.wait(); say(taken)
"""
    assert _run(program, prepare).lines() == [f"[{int(signal.SIGUSR2)}]"]


@apart
@pytest.mark.parametrize("by", ["tool", "both"])
def test_a_continued_tool_continues_its_program_once(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[Supervised] = []

    def stop_like(program: int) -> None:
        if by == "both":
            os.kill(program, signal.SIGCONT)
        runs[0].loop.pass_on(signal.SIGCONT)
        runs[0].loop.post(lambda: runs[0].loop.pass_on(signal.SIGCONT))

    monkeypatch.setattr(module, "stop_like", stop_like)
    program = """
taken = []
signal.signal(signal.SIGCONT, lambda *_: taken.append(1))
for _ in range(20): os.kill(os.getpid(), signal.SIGSTOP)
say(len(taken))
"""
    assert _run(program, runs.append).lines() == ["20"]


@apart
def test_a_few_descriptors_are_enough_for_it() -> None:
    program = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))
for number in range(40):
    if os.fork() == 0: os._exit(call(number) != number + 1)
    assert os.wait()[1] == 0
say('done')
"""
    assert _run(program).lines() == ["done"]


@apart
def test_killed_processes_at_any_point_are_a_normal_outcome() -> None:
    program = """
import random
for number in range(60):
    pid = os.fork()
    if pid == 0:
        threading.Thread(target=lambda: [call(1) for _ in range(10**6)], daemon=True).start()
        while True:
            if os.fork() == 0: os._exit(0)
            call(1); os.wait()
    for _ in range(random.Random(number).randrange(2000)): pass
    os.kill(pid, 9); assert os.waitpid(pid, 0)[1] == 9
say('done')
"""
    assert _run(program).lines() == ["done"]


@apart
def test_posted_work_is_done_by_the_loops_thread() -> None:
    threads: list[int] = []

    def prepare(run: Supervised) -> None:
        threading.Thread(target=lambda: run.loop.post(lambda: threads.append(threading.get_ident()))).start()

    _run("time.sleep(0.1)", prepare)
    assert threads == [threading.get_ident()]


@apart
def test_without_its_doorbell_it_is_broken() -> None:
    def prepare(run: Supervised) -> None:
        run.loop.post(lambda: os.kill(run.loop._doorbell.pid, signal.SIGKILL))

    with pytest.raises(InternalError, match="doorbell"):
        supervise("signal.pause()", prepare=prepare)


def test_nobody_survives_a_killed_tracer(tmp_path: Path) -> None:
    text = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from rig import supervise
from pathlib import Path
supervise('''
if os.fork() == 0: os.setsid()
open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w').close()
signal.pause()
''')
"""
    with subprocess.Popen([sys.executable, "-c", text]) as tracer:
        try:
            while len(list(tmp_path.iterdir())) < 2:
                assert tracer.poll() is None
            pidfds = [os.pidfd_open(int(path.name)) for path in tmp_path.iterdir()]
        finally:
            tracer.kill()
    for pidfd in pidfds:
        assert select.select([pidfd], [], [], 20)[0]
        os.close(pidfd)


class _FakeArch:
    def __init__(self) -> None:
        self.audit = ARCH.audit
        self.skipped: list[int] = []

    def skip(self, tid: int, result: int) -> None:
        self.skipped.append(result)


@apart
def test_a_call_of_another_architecture_ends_its_process() -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    fake = _FakeArch()
    text = refuse_foreign_call(fake, Tracee(pid, Process(pid, AddressSpace())), 0x40000003, 20)  # type: ignore[arg-type]
    assert "i386" in text
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    assert fake.skipped == [-errno.ENOSYS]


@apart
def test_numbers_that_no_abi_has_are_enosys_and_x32_is_told() -> None:
    numbers = "-1, 0x40000000 | 39, 0x40000000 | 39, 5000"
    done = _run(f"say(*[raw(number) for number in ({numbers})])")
    assert done.lines() == [" ".join([str(-errno.ENOSYS)] * 4)]


@apart
def test_the_first_execve_is_a_call_of_the_table() -> None:
    """Whatever else our own child does before is not."""
    seen: list[int] = []

    def execve(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        seen.append(args[0])
        return Continue(DECISION)

    def other(context: Context, task: Task, args: Args) -> Handling:
        yield from ()
        seen.append(0)
        return Continue(DECISION)

    assert supervise(["/bin/true"], {"execve": execve, "close": other}).end == Ended(0, 0, False)
    assert seen[0] > 0


_KILLS = int(os.environ.get("MIRRORD_TRACE_KILLS", "300"))
_PREY = """
# One name after another, so that a stop is as likely to be of the one kind as of the other.
def work(number):
    for _ in range(4):
        call(number)
        number += 1
counts = {}
killed = 0
while killed < KILLS:
    pid = os.fork()
    if pid == 0:
        if killed % 4 == 0:
            os.execv('/bin/true', ['true'])
        thread = threading.Thread(target=work, args=(pid + killed,))
        thread.start()
        work(killed)
        if killed % 4 == 1:
            os.posix_spawn('/bin/true', ['true'], {})
        thread.join()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    counts[status] = counts.get(status, 0) + 1
    killed = counts.get(9, 0)
say(counts)
"""


# Every kind of stop that a call can have: answered, let through, run, parked once or twice, with memory that has to be mapped,
# with a descriptor on its way.
def _every_way(context: Context, task: Task, args: Args) -> Handling:
    way = args[0] % 7
    if way == 0:
        return Continue(DECISION)
    if way in (1, 2):
        yield from run()
    elif way == 3:
        yield from run({1: Scratch(b"x" * 100)})
    elif way == 4:
        yield GiveFile(os.open(os.devnull, os.O_RDONLY), os.O_RDONLY)
    else:
        for _ in range(way - 4):
            yield Ask(GetPod())
    return Return(args[0], DECISION)


@apart
@pytest.mark.timeout(600)
def test_processes_killed_at_stops_of_every_kind_leave_nothing() -> None:
    """MIRRORD_TRACE_KILLS sets how many are killed, each at the moment of a stop, before the tracer deals with it."""
    chance = random.Random(7)
    at: dict[str, int] = {}

    def prepare(run: Supervised) -> None:
        def reply() -> None:
            while len(waiting) > 1 or (waiting and chance.random() < 0.5):
                run.driver.answer(waiting.pop(0), Answer(Done()))
            if waiting:
                run.loop.post(lambda: None)

        def ask(request: Message) -> int:
            waiting.append(next(numbers))
            run.loop.post(lambda: None)
            return waiting[-1]

        def strike(tracee: Tracee | None, kind: str) -> None:
            # The first process is the one that counts.
            if tracee is not None and tracee.tgid != run.loop._launched.pid and chance.random() < 0.06:
                at[kind] = at.get(kind, 0) + 1
                os.kill(tracee.tgid, signal.SIGKILL)

        def at_stop(tid: int, tracee: Tracee | None, stop: Stop) -> None:
            if not isinstance(stop, Ended):
                strike(tracee, type(stop).__name__)
            dispatch(tid, tracee, stop)

        def at_call(tracee: Tracee) -> bool:
            strike(tracee, "call" if tracee.call is None else tracee.call.phase.name)
            return at_seccomp_stop(tracee)

        waiting: list[int] = []
        numbers = itertools.count(1)
        dispatch, at_seccomp_stop = run.loop._dispatch, run.driver.at_seccomp_stop
        run.loop.on_ring = reply
        run.driver._ask = ask
        run.loop._dispatch = at_stop  # type: ignore[method-assign]
        run.driver.at_seccomp_stop = at_call  # type: ignore[method-assign]

    before = len(os.listdir("/proc/self/fd"))
    supervise("pass")
    of_a_run = len(os.listdir("/proc/self/fd")) - before
    done = supervise(_PREY.replace("KILLS", str(_KILLS)), {CALL: _every_way}, prepare=prepare)
    assert done.end == Ended(0, 0, False), done.output
    counts = ast.literal_eval(done.output)
    assert set(counts) <= {0, signal.SIGKILL}, counts
    assert counts[signal.SIGKILL] == _KILLS
    assert {"call", "REWOUND", "SyscallStop", "NewTaskStop", "ExecStop", "TrapStop"} <= set(at), at
    assert (done.tree.tracees, done.tree.unclaimed, done.driver.parked) == ({}, set(), {})
    del done
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before + 2 * of_a_run
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
