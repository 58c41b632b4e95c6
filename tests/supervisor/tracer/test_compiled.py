"""The compiled loop lets pass what is known to be local, and hands everything else to Python; it leaks and breaks nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import loops
import pytest
from mirrord_trace.agent.wire.messages import ANYWHERE
from mirrord_trace.supervisor.errors import UsageError
from mirrord_trace.supervisor.tracer import compiled
from mirrord_trace.syscalls.abi.flags import AT_SYMLINK_NOFOLLOW
from mirrord_trace.syscalls.actions import Continue, Handling
from mirrord_trace.syscalls.context import Args, Context
from mirrord_trace.syscalls.files.mounted.directory import chdir, fchdir
from mirrord_trace.syscalls.files.mounted.find import find
from mirrord_trace.syscalls.files.mounted.paths import HANDLERS
from mirrord_trace.syscalls.net import connecting
from mirrord_trace.syscalls.table import OTHER_CHECKS, checks
from mirrord_trace.syscalls.task import Task
from rig import ARCH, LOCAL, Supervised, apart, supervise

sys.path.insert(0, str(Path(__file__).parents[2] / "syscalls"))
from script import mounted

FUZZ = Path(__file__).with_name("hot_fuzz.c")
NAMES = ("openat", "newfstatat", "chdir", "fchdir", "rename", "symlink", "clone3")


@pytest.fixture(autouse=True)
def _compiled_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled.library() is None:
        pytest.skip("the compiled loop was not built: install gcc, then make setup")
    monkeypatch.setattr(loops, "in_use", ["compiled"])


@dataclass
class Seen:
    """A session's context, and the paths of calls that came to a handler. `at`: what to do before a path is looked at.

    `stats`: the same of newfstatat(2).
    """

    context: Context
    paths: list[str] = field(default_factory=list)
    stats: list[str] = field(default_factory=list)
    at: dict[str, Callable[[], None]] = field(default_factory=dict)

    def openat(self, context: Context, task: Task, args: Args) -> Handling:
        """Decides as the real handler does, and lets the kernel run the call whatever it says."""
        path = os.fsdecode(task.read_string(args[1]))
        self.paths.append(path)
        self.at.get(path, lambda: None)()
        find(context, task, args[0], args[1], write=bool(args[2] & 3))
        return Continue(LOCAL)
        yield

    def newfstatat(self, context: Context, task: Task, args: Args) -> Handling:
        """As `openat`."""
        self.stats.append(os.fsdecode(task.read_string(args[1])))
        find(context, task, args[0], args[1], follow=not args[3] & AT_SYMLINK_NOFOLLOW)
        return Continue(LOCAL)
        yield

    def run(self, folder: Path, program: str, prepare: Callable[[Supervised], None] = lambda run: None) -> Supervised:
        """Run a Python program in the folder; `paths` then has what it opened by name there."""
        others = {"rename": HANDLERS["rename"], "symlink": HANDLERS["symlink"], "chdir": chdir, "fchdir": fchdir}
        handlers = {"openat": self.openat, "newfstatat": self.newfstatat, **others}
        quick = {number: one for number, one in checks(ARCH.syscall_numbers, mounted=True).items()
                 if number in [ARCH.syscall_numbers[name] for name in NAMES]}  # fmt: skip
        text = f"""
os.chdir({str(folder)!r})
def look(path, flags=os.O_RDONLY):
    try: os.close(os.open(path, flags))
    except OSError: pass
def stat(path, follow=False):
    try: os.stat(path, follow_symlinks=follow)
    except OSError: pass
"""
        done = supervise(text + program, handlers, context=self.context, checks=quick, prepare=prepare)
        assert done.end is not None
        assert done.end.exit_code == 0
        self.paths = [path for path in self.paths if path.startswith(("file", "app", "/clear", "/use", str(folder)))]
        return done


def _seen(folder: Path, **rules: object) -> Seen:
    context = mounted(remote=[b"/app", b"/app/b"], trees=(os.fsencode(folder) + b"/",), **rules)
    from mirrord_trace.supervisor.tracer.look import read_link

    context.read_link = read_link
    return Seen(context)


@apart
def test_a_path_is_decided_on_once(tmp_path: Path) -> None:
    seen = _seen(tmp_path)
    done = seen.run(tmp_path, "for _ in range(100): look('/use')")
    assert seen.paths == ["/use"]
    assert done.loop.stops >= 100 > done.loop._stops


@apart
def test_reading_says_nothing_about_writing(tmp_path: Path) -> None:
    seen = _seen(tmp_path)
    seen.run(tmp_path, "for flags in (0, 0, os.O_WRONLY, os.O_WRONLY, os.O_RDWR): look('/use', flags)")
    assert seen.paths == ["/use", "/use"]


@apart
def test_of_a_local_directory_only_the_first_name_is_python_s_business(tmp_path: Path) -> None:
    seen = _seen(tmp_path)
    folder = str(tmp_path)
    seen.run(tmp_path, f"for number in range(200): look({folder!r} + '/' + str(number))")
    assert len(seen.paths) < 20
    assert seen.paths[0] == f"{folder}/0"


@apart
def test_links_and_paths_that_are_not_plain_are_always_python_s(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/app/b")
    seen = _seen(tmp_path)
    folder = str(tmp_path)
    names = ["link", "../app/b", ".//link", "x/../link"]
    seen.run(tmp_path, f"""
look({folder!r} + '/a')
for _ in range(3):
    for name in {names!r}: look({folder!r} + '/' + name)
""")  # fmt: skip
    assert [path for path in seen.paths if path.endswith("/link")].count(f"{folder}/link") == 3


@apart
def test_a_directory_that_becomes_a_link_is_looked_at_again(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    seen = _seen(tmp_path)
    folder = str(tmp_path)
    seen.run(tmp_path, f"""
for name in 'acacac': look({folder!r} + '/d/' + name)
os.rename('d', 'e')
os.symlink('/app', 'd')
look({folder!r} + '/d/b')
""")  # fmt: skip
    assert f"{folder}/d/b" in seen.paths


@apart
def test_relative_paths_while_nobody_can_be_in_the_pod(tmp_path: Path) -> None:
    seen = _seen(tmp_path)
    seen.run(tmp_path, "for _ in range(3):\n for number in range(50): look('file' + str(number))")
    assert 1 <= len(seen.paths) < 10


@apart
@pytest.mark.parametrize("is_in_pod", [False, True])
def test_relative_paths_once_somebody_may_be(tmp_path: Path, is_in_pod: bool) -> None:
    seen = _seen(tmp_path)
    mount = seen.context.mount
    assert mount is not None
    if is_in_pod:
        mount.device = os.stat(tmp_path).st_dev

    def use() -> None:
        mount.is_used = True

    seen.at["/use"] = use
    seen.run(tmp_path, "look('file'); look('file'); look('/use')\nfor _ in range(5): look('file')")
    assert seen.paths == ["file", "/use", *(["file"] * 5 if is_in_pod else [])]


@apart
@pytest.mark.parametrize("absolute", [False, True])
def test_where_a_link_leads_to_is_nothing_to_those_who_do_not_follow_it(tmp_path: Path, absolute: bool) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "link").symlink_to("/app/b")
    seen = _seen(tmp_path)
    prefix = f"{tmp_path}/d/" if absolute else "d/"
    seen.run(tmp_path, f"""
stat({prefix!r} + 'first')
for _ in range(20): stat({prefix!r} + 'link')
for number in range(20): stat({prefix!r} + str(number))
stat({prefix!r} + 'link/')
stat({prefix!r} + 'link', True)
stat({prefix!r} + 'link', True)
""")  # fmt: skip
    # Who follows it, and a slash at the end does, means the pod's file.
    names = [path.removeprefix(prefix) for path in seen.stats if path.startswith(prefix)]
    assert names == ["first", "link/", "link", "link"]


@apart
@pytest.mark.parametrize("how", ["main", "thread", "fchdir"])
def test_relative_paths_are_those_of_the_directory_that_counts(tmp_path: Path, how: str) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "two" / "file9").symlink_to("/app/b")
    seen = _seen(tmp_path)
    mount = seen.context.mount
    assert mount is not None
    mount.is_used = True
    move = {
        "main": "os.chdir('../two')",
        "thread": "thread = threading.Thread(target=os.chdir, args=('../two',)); thread.start(); thread.join()",
        "fchdir": "fd = os.open('../two', os.O_PATH); libc.fchdir(fd)",
    }[how]
    seen.run(tmp_path, f"""
for name in ('one', 'two'):
    look({str(tmp_path)!r} + '/' + name + '/x')
os.chdir('one')
for number in range(9): look('file' + str(number))
{move}
look('file9')
""")  # fmt: skip
    # What is no link in the one directory may be one in the other.
    assert seen.paths[-1] == "file9"
    assert len([path for path in seen.paths if path.startswith("file")]) < 5


@apart
def test_what_is_forgotten_is_decided_again(tmp_path: Path) -> None:
    seen = _seen(tmp_path)
    seen.at["/clear"] = seen.context.local_reads.clear
    seen.run(tmp_path, "look('/use'); look('/use'); look('/clear'); look('/use')")
    assert seen.paths == ["/use", "/clear", "/use"]


@apart
def test_with_an_observer_every_call_takes_the_long_way(tmp_path: Path) -> None:
    def watch(run: Supervised) -> None:
        run.driver.observer = lambda tracee, call, result, decision: None

    seen = _seen(tmp_path)
    done = seen.run(tmp_path, "for _ in range(10): look('/use')", watch)
    assert seen.paths == ["/use"] * 10
    assert done.loop.stops == done.loop._stops


@apart
def test_another_program_is_another_memory(tmp_path: Path) -> None:
    seen = _seen(tmp_path)
    text = "import os\nfor _ in range(30): os.close(os.open('/etc/passwd', 0))"
    seen.run(tmp_path, f"""
for _ in range(5):
    look('/use')
    if os.fork() == 0: os.execv(sys.executable, [sys.executable, '-I', '-S', '-c', {text!r}])
    assert os.wait()[1] == 0
""")  # fmt: skip
    assert seen.paths == ["/use"]


@apart
def test_addresses_that_are_always_local(tmp_path: Path) -> None:
    seen, names = _seen(tmp_path, outgoing_route=LOCAL), []

    def connect(context: Context, task: Task, args: Args) -> Handling:
        names.append(task.read(args[1], args[2])[:4])
        if len(names) == 4:
            context.sockets.begin(1, ANYWHERE)
        return (yield from connecting.connect(context, task, args))

    quick = {ARCH.syscall_numbers["connect"]: OTHER_CHECKS["connect"]}
    done = supervise("""
import socket
def connect(family, name):
    with socket.socket(family, socket.SOCK_DGRAM) as own:
        try: own.connect(name)
        except OSError: pass
for _ in range(9):
    for port in (1, 2): connect(socket.AF_INET, ('127.0.0.1', port))
    connect(socket.AF_UNIX, '/no/such')
for _ in range(5): connect(socket.AF_INET, ('127.0.0.1', 3))
for _ in range(5): connect(socket.AF_UNIX, '/no/such')
""", {"connect": connect}, context=seen.context, checks=quick)  # fmt: skip
    assert done.end is not None
    assert done.end.exit_code == 0
    # Once there is a connection of the pod's, internet sockets are always Python's business.
    one, two, three = (b"\2\0\0" + bytes([port]) for port in (1, 2, 3))
    assert names == [one, two, b"\1\0/n", *[three] * 5]


@apart
def test_busy_threads_do_not_starve_each_other(tmp_path: Path) -> None:
    seen = _seen(tmp_path)
    seen.run(tmp_path, """
counts = [0] * 6
until = time.monotonic() + 0.5
def work(number):
    while time.monotonic() < until or not all(counts):
        look('/use')
        counts[number] += 1
threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""")  # fmt: skip


@pytest.mark.parametrize(("wanted", "expected"), [("python", "python"), ("compiled", "compiled"), ("", "compiled")])
def test_which_loop(monkeypatch: pytest.MonkeyPatch, wanted: str, expected: str) -> None:
    monkeypatch.setenv(compiled.VARIABLE, wanted)
    assert compiled.name() == expected


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    monkeypatch.delenv(compiled.VARIABLE, raising=False)
    assert compiled.name() == "python"
    (tmp_path / "hot.abi3.so").write_bytes(b"for another machine")
    assert compiled.library() is None
    monkeypatch.setenv(compiled.VARIABLE, "compiled")
    with pytest.raises(UsageError, match="C compiler"):
        compiled.library()
    monkeypatch.setenv(compiled.VARIABLE, "fast")
    with pytest.raises(UsageError, match="python or compiled"):
        compiled.library()


@pytest.mark.parametrize("seed", [1, 2])
def test_bad_pointers_and_kills_at_any_moment_under_sanitizers(tmp_path: Path, seed: int) -> None:
    loops.fuzz(FUZZ, tmp_path, seed)
