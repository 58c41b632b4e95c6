"""The compiled loop of this engine: what is known to be local goes on without Python, and nothing else does."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import loops
import pytest
from mirrord_trace.supervisor.tracer.compiled import library
from mirrord_trace.supervisor.tracer.look import read_link
from mirrord_trace.supervisor.tracer.stops import Ended
from mirrord_trace.syscalls.actions import Continue, Handling, Return
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.files.mounted.directory import chdir
from mirrord_trace.syscalls.files.mounted.find import find
from mirrord_trace.syscalls.table import checks
from mirrord_trace.syscalls.task import Task
from notified import NUMBERS, Supervised, supervise
from rig import CALL, DECISION, LOCAL, apart

sys.path.insert(0, str(Path(__file__).parents[2] / "syscalls"))
from script import mounted

FUZZ = Path(__file__).with_name("hot_notify_fuzz.c")


@pytest.fixture(autouse=True)
def _compiled_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    if library() is None:
        pytest.skip("the compiled loop was not built: install gcc, then make setup")
    monkeypatch.setattr(loops, "in_use", ["compiled"])


class Seen:
    """A session whose pod has /app, and the paths whose openat(2) came to a handler. `at`: what to do before that."""

    def __init__(self, folder: Path) -> None:
        self.context = mounted(remote=[b"/app"], trees=(os.fsencode(folder) + b"/",))
        self.context.read_link = read_link
        self.folder = folder
        self.paths: list[str] = []
        self.at: dict[str, Callable[[], None]] = {}

    def openat(self, context: Context, task: Task, args: Args) -> Handling:
        """Decides as the real handler does, and lets the kernel run the call whatever it says."""
        path = os.fsdecode(task.read_string(args[1]))
        if path.startswith((str(self.folder), "/app", "/use", "file")):
            self.paths.append(path)
            self.at.get(path, lambda: None)()
        find(context, task, args[0], args[1], write=bool(args[2] & 3))
        return Continue(LOCAL)
        yield

    def run(self, program: str, prepare: Callable[[Supervised], None] = lambda run: None) -> Supervised:
        """Run a Python program in the folder, which ends well."""
        handlers = {"openat": self.openat, "chdir": chdir, CALL: _seven}
        numbers = [NUMBERS[name] for name in handlers]
        quick = {number: one for number, one in checks(NUMBERS, mounted=True).items() if number in numbers}
        text = f"""
os.chdir({str(self.folder)!r})
def look(path, flags=os.O_RDONLY):
    try: os.close(os.open(path, flags))
    except OSError: pass
"""
        done = supervise(text + program, handlers, prepare=prepare, context=self.context, checks=quick)
        assert done.end == Ended(0, 0, False)
        return done


def _seven(context: Context, task: Task, args: Args) -> Handling:
    yield from ()
    return Return(7, DECISION)


@apart
def test_a_path_is_decided_on_once(tmp_path: Path) -> None:
    seen = Seen(tmp_path)
    done = seen.run("for _ in range(1000): look('/use')")
    assert seen.paths == ["/use"]
    assert done.loop.stops >= 1000
    assert done.loop._stops < 500


@apart
def test_what_is_the_pods_is_always_pythons(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/app")
    seen = Seen(tmp_path)
    link = str(tmp_path / "link")
    seen.run(f"look({str(tmp_path / 'x')!r})\nfor _ in range(5): look('/app'); look({link!r})")
    assert seen.paths.count("/app") == 5
    assert seen.paths.count(link) == 5


@apart
def test_paths_at_the_end_of_memory_and_beyond(tmp_path: Path) -> None:
    Seen(tmp_path).run("""
import ctypes, mmap
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
page = libc.mmap(None, 8192, 3, 0x22, -1, 0)
libc.munmap(ctypes.c_void_p(page + 4096), 4096)
ctypes.memmove(page + 4091, b'/use\\0', 5)
def number(at):
    ctypes.set_errno(0)
    libc.open(ctypes.c_void_p(at), 0)
    return ctypes.get_errno()
for _ in range(3):
    look('/use')
    assert number(page + 4091) == 2
    assert [number(at) for at in (page + 4092 + 4, 0, 2 ** 63, 2 ** 64 - 4)] == [14] * 4
""")


@apart
def test_relative_paths_are_those_of_the_directory_that_counts(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "file9").symlink_to("/app")
    seen = Seen(tmp_path)
    mount = seen.context.mount
    assert mount is not None

    def use() -> None:
        mount.is_used = True

    seen.at["/use"] = use
    seen.run("""
look('/use')
os.chdir('one')
for _ in range(3):
    for number in range(9): look('file' + str(number))
thread = threading.Thread(target=lambda: os.chdir('../two'))
thread.start()
thread.join()
for _ in range(3): look('file9')
""")
    assert seen.paths.count("file9") == 3
    assert len(seen.paths) < 12


@apart
def test_a_session_goes_on_while_calls_never_cease(tmp_path: Path) -> None:
    told = []

    def prepare(run: Supervised) -> None:
        run.loop.on_ring = lambda: told.append(run.loop.stops)

    # Whoever waits for an answer of Python's does not wait for ever, and nor does the relay.
    Seen(tmp_path).run("""
from ctypes import CDLL
done = []
def busy():
    while not done: look('/use')
threads = [threading.Thread(target=busy) for _ in range(4)]
for thread in threads: thread.start()
for _ in range(50): assert call() == 7
time.sleep(0.5)
done.append(1)
for thread in threads: thread.join()
""", prepare)  # fmt: skip
    assert len(told) >= 3


@apart
def test_calls_that_come_now_and_then_do_not_keep_a_session_from_its_ticks(tmp_path: Path) -> None:
    seen, ticks = Seen(tmp_path), []

    def prepare(run: Supervised) -> None:
        run.loop.on_ring = lambda: ticks.append(1) if "/use" in seen.paths else None

    # Each of them before patience has run out.
    seen.run("look('/use')\nfor _ in range(30): time.sleep(0.02); look('/use')", prepare)
    assert len(ticks) >= 3


@apart
def test_who_has_been_killed_has_no_call_left(tmp_path: Path) -> None:
    Seen(tmp_path).run(f"""
for _ in range(100):
    child = os.fork()
    if child == 0:
        os.chdir('.')
        while True: look('/use'); look('file')
    time.sleep(0.001)
    os.kill(child, {signal.SIGKILL:d})
    assert os.waitpid(child, 0)[1] == {signal.SIGKILL:d}
look('file')
""")


@pytest.mark.parametrize("seed", [1, 2])
def test_bad_pointers_and_kills_at_any_moment_under_sanitizers(tmp_path: Path, seed: int) -> None:
    loops.fuzz(FUZZ, tmp_path, seed)
