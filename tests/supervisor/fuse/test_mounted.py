"""A real mount, a real session, and the agent's own tree behind it: programs use it as they use any file system.

The programs are other processes: who serves the mount must not touch it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from mirrord_trace.agent import files
from mirrord_trace.agent.net import failed
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.pump.session import Session
from mirrord_trace.agent.pump.transport import SocketTransport
from mirrord_trace.agent.root import Root
from mirrord_trace.agent.target import Target
from mirrord_trace.agent.tree.identity import read_credentials
from mirrord_trace.agent.tree.tree import Tree as AgentTree
from mirrord_trace.agent.wire.connection import Connection, Role
from mirrord_trace.agent.wire.messages import Access, Done, Failed, Message, ReadLink
from mirrord_trace.supervisor.fuse.availability import fuse_obstacle
from mirrord_trace.supervisor.fuse.generation import Generation
from mirrord_trace.supervisor.fuse.mounted import Mounted
from mirrord_trace.supervisor.fuse.mounting import MountedTree, mount
from mirrord_trace.supervisor.fuse.tree import TreeSettings
from mirrord_trace.syscalls.requests import Foretell, Head, PathStat, ReadHead, StatPath

TIMEOUT_S = 30.0


class Rig:
    """Both ends of a session on one loop. `folder` is the pod's root."""

    def __init__(self, folder: Path, mounted: MountedTree) -> None:
        self.folder = folder
        self.loop = Loop()
        self.generation = Generation()
        self._agent_root = Root(os.open(folder, os.O_PATH | os.O_DIRECTORY))
        self.session = self._session(Role.CLIENT, lambda message, reply: reply(Failed(38)), lambda message: None)
        self.agent = self._session(Role.AGENT, self._on_request, self._on_notice)
        target = Target(os.getpid(), self._agent_root, (), (), b"/", read_credentials("self"))
        self._agent_tree = AgentTree(self.loop, self.agent, target, self._attempt)
        self._handlers: dict[type[Message], Any] = self._agent_tree.handlers()
        ours, theirs = socket.socketpair()
        self.session.attach(SocketTransport(ours))
        self.agent.attach(SocketTransport(theirs))
        self.root = mounted.root
        self.mounted = Mounted(self.loop, self.session, mounted, TreeSettings(), self.generation)
        self.mounted.tree.may_write = lambda path: True
        self.programs: list[subprocess.Popen[str]] = []

    def _session(self, role: Role, on_request: Any, on_notice: Callable[[Message], None]) -> Session:
        return Session(self.loop, Connection(role), on_request=on_request, on_notice=on_notice, on_lost=lambda error: None)

    def _on_request(self, message: Message, reply: Callable[[Message], None]) -> None:
        if isinstance(message, Access):
            reply(Done())
        elif isinstance(message, ReadLink):
            reply(self._attempt(lambda: files.read_link(self._agent_root, message)))
        else:
            self._handlers[type(message)](message, reply)

    def _on_notice(self, message: Message) -> None:
        self._agent_tree.notice(message)

    def _attempt(self, work: Callable[[], Message]) -> Message:
        try:
            return work()
        except OSError as error:
            return failed(error)

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            again = self.loop.call_later(0.005, self.loop.stop)
            self.loop.run()
            again.cancel()

    def start(self, *command: str) -> subprocess.Popen[str]:
        """A program; the tree is in $POD."""
        environment = {**os.environ, "POD": f"/proc/self/fd/{self.root}", "LC_ALL": "C"}
        program = subprocess.Popen(
            command, env=environment, pass_fds=(self.root,), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.programs.append(program)
        return program

    def run(self, *command: str) -> str:
        """What the program says; it must succeed."""
        program = self.start(*command)
        self.until(lambda: program.poll() is not None)
        assert program.stdout is not None
        said = program.stdout.read()
        assert program.returncode == 0, said
        return said

    def sh(self, script: str) -> str:
        return self.run("sh", "-ec", script)

    def python(self, script: str) -> str:
        return self.run(sys.executable, "-c", "import os, sys\npod = os.environ['POD'] + '/'\n" + script)

    def ask(self, answer: Callable[[Any, Callable[[Message], None]], None], message: Message) -> Any:
        replies: list[Message] = []
        answer(message, replies.append)
        self.until(lambda: replies)
        return replies[0]

    def close(self) -> None:
        for program in self.programs:
            with contextlib.suppress(OSError):
                program.kill()
        os.close(self.root)
        self.mounted.close()
        for program in self.programs:
            program.wait()
            assert program.stdout is not None
            program.stdout.close()
        self.session.abandon()
        self.agent.abandon()
        self._agent_tree.close()
        self._agent_root.close()
        self.loop.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pod"
    (folder / "etc").mkdir(parents=True)
    (folder / "etc/conf").write_text("hello\n")
    return folder


@pytest.fixture
def rig(folder: Path) -> Iterator[Rig]:
    if fuse_obstacle():
        pytest.skip(fuse_obstacle())
    rig = Rig(folder, mount())
    yield rig
    rig.close()


@pytest.fixture
def unused(folder: Path) -> Iterator[Rig]:
    """Without a mount: for what the tracer asks."""
    ours, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    rig = Rig(folder, MountedTree(device.detach(), os.open(folder, os.O_PATH | os.O_DIRECTORY)))
    yield rig
    rig.close()
    ours.close()


# -- programs -----------------------------------------------------------------------------------------------------------


def test_ordinary_tools(rig: Rig) -> None:
    assert rig.sh("cat $POD/etc/conf; cd $POD/etc; echo world >> conf; cat conf; wc -c < conf") == "hello\nhello\nworld\n12\n"
    assert (rig.folder / "etc/conf").read_text() == "hello\nworld\n"
    rig.sh("cd $POD; mkdir -p a/b; cp etc/conf a/b/copy; ln a/b/copy a/hard")
    rig.sh("cd $POD; ln -s b/copy a/soft; ln -s /etc/conf a/abs; mv a z")
    assert rig.sh("cd $POD/z; cat soft abs hard | sort | uniq -c | tr -s ' '; stat -c %h hard; ls") == (
        " 3 hello\n 3 world\n2\nabs\nb\nhard\nsoft\n"
    )
    assert rig.sh("cd $POD; rm -r z; ls") == "etc\n"
    assert sorted(path.name for path in rig.folder.iterdir()) == ["etc"]


def test_a_foretold_file_is_one_round_trip_and_then_none(rig: Rig) -> None:
    for round_trips in (1, 0):
        before = rig.session.round_trips
        rig.mounted.foretell(Foretell(b"/etc/conf", True, True, False))
        assert rig.sh("exec cat $POD/etc/conf") == "hello\n"
        assert rig.session.round_trips - before == round_trips


def test_a_large_file_both_ways(rig: Rig, tmp_path: Path) -> None:
    content = os.urandom(5_000_001)
    (tmp_path / "large").write_bytes(content)
    rig.sh(f"cp {tmp_path}/large $POD/large; cmp {tmp_path}/large $POD/large; cp $POD/large $POD/again")
    assert (rig.folder / "large").read_bytes() == content == (rig.folder / "again").read_bytes()


def test_mapped_pages_arrive_and_leave_nothing_open(rig: Rig) -> None:
    (rig.folder / "log").write_bytes(b"one\ntwo\n")
    rig.python(
        "import mmap\n"
        "for flags in (os.O_RDWR, os.O_RDWR | os.O_APPEND):\n"
        "    fd = os.open(pod + 'log', flags)\n"
        "    pages = mmap.mmap(fd, 8)\n"
        "    os.close(fd)\n"
        "    pages[4:7] = bytes(pages[4:7]).upper()\n"
        "    pages[0:1] = b'O'\n"
        "    pages.close()\n"
    )
    drained: list[bool] = []
    rig.mounted.finish(lambda: drained.append(True))
    rig.until(lambda: drained)
    assert (rig.folder / "log").read_bytes() == b"One\nTWO\n"
    assert len(rig.mounted.server.handles) == 0


def test_what_others_change_is_seen_after_a_while_and_what_it_changes_itself_at_once(rig: Rig) -> None:
    program = rig.start(
        sys.executable, "-uc",
        "import os, time\n"
        "pod = os.environ['POD'] + '/'\n"
        "log = open(pod + 'log')\n"
        "assert log.read() == 'one'\n"
        "print('ready')\n"
        "while (more := log.read()) != 'two': assert not more; time.sleep(0.05)\n"
        "while os.stat(pod + 'log').st_ino == os.fstat(log.fileno()).st_ino: time.sleep(0.05)\n"
        "assert log.read() == ''\n"
        "open(pod + 'log', 'a').write('!')\n"
        "assert open(pod + 'log').read() == 'new!'\n"
        "assert os.stat(pod + 'log').st_size == 4\n",
    )  # fmt: skip
    (rig.folder / "log").write_text("one")
    rig.until(lambda: len(rig.mounted.server.handles) == 1)
    with (rig.folder / "log").open("a") as log:
        log.write("two")
    (rig.folder / "new").write_text("new")
    rotated = time.monotonic() + 1.5  # not before it may have read the rest
    rig.until(lambda: time.monotonic() > rotated)
    (rig.folder / "new").rename(rig.folder / "log")
    rig.until(lambda: program.poll() is not None)
    assert program.stdout is not None
    assert (program.returncode, program.stdout.read()) == (0, "ready\n")


def test_removed_but_open(rig: Rig) -> None:
    rig.python(
        "file = open(pod + 'etc/conf', 'r+')\n"
        "os.unlink(pod + 'etc/conf')\n"
        "assert file.read() == 'hello\\n'\n"
        "file.write('more'); file.flush()\n"
        "assert os.fstat(file.fileno()).st_size == 10\n"
        "assert os.fstat(file.fileno()).st_nlink == 0\n"
        "assert not os.path.exists(pod + 'etc/conf')\n"
    )


def test_locks_are_the_pods(rig: Rig) -> None:
    holder = rig.start("flock", f"/proc/self/fd/{rig.root}/etc/conf", "sleep", "1000")
    rig.until(lambda: _is_locked(rig.folder / "etc/conf"))
    assert rig.sh("flock -n $POD/etc/conf true || echo busy") == "busy\n"
    waiter = rig.start("sh", "-c", "exec flock $POD/etc/conf echo mine")
    os.kill(holder.pid, signal.SIGTERM)
    subprocess.run(["pkill", "-P", str(holder.pid)], check=False)
    rig.until(lambda: waiter.poll() is not None)
    assert waiter.returncode == 0


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_who_is_killed_while_waiting_for_a_fifo_dies(rig: Rig) -> None:
    os.mkfifo(rig.folder / "fifo")
    program = rig.start("sh", "-c", "exec cat $POD/fifo")
    rig.until(lambda: rig.mounted.server._files._opening)
    program.kill()
    rig.until(lambda: program.poll() is not None)
    assert program.returncode == -signal.SIGKILL
    assert len(rig.mounted.server.handles) == 0


def test_after_the_last_program_nothing_is_open_however_it_ended(rig: Rig) -> None:
    program = rig.start("sh", "-c", "exec 3< $POD/etc/conf 4>> $POD/log; echo written >&4; echo; read never")
    program.stdin = None
    rig.until(lambda: program.poll() is not None or ((rig.folder / "log").exists() and (rig.folder / "log").stat().st_size))
    drained: list[bool] = []
    rig.mounted.finish(lambda: drained.append(True))
    program.kill()
    rig.until(lambda: drained)
    assert (rig.folder / "log").read_text() == "written\n"


def test_the_end(rig: Rig) -> None:
    program = rig.start("sh", "-c", "cat $POD/etc/conf; until ! cat $POD/etc/conf 2>&1; do :; done")
    rig.until(lambda: rig.session.round_trips > 0)
    rig.mounted.server.close()
    program.wait(TIMEOUT_S)
    assert program.stdout is not None
    said = program.stdout.read()
    assert "not connected" in said or "connection abort" in said


# -- what the tracer asks -----------------------------------------------------------------------------------------------


def test_stat_for_the_tracer(unused: Rig) -> None:
    (unused.folder / "link").symlink_to("etc/conf")
    found = unused.ask(unused.mounted.stat_path, StatPath(b"/link", True))
    assert isinstance(found, PathStat)
    assert (found.errno, found.stat.size, found.stat.dev) == (0, 6, unused.mounted.device)
    assert 0 < found.valid_ms <= 1000
    assert found.generation == unused.generation.now
    link = unused.ask(unused.mounted.stat_path, StatPath(b"/link", False))
    assert stat.S_ISLNK(link.stat.mode)
    before = unused.session.round_trips
    assert unused.ask(unused.mounted.stat_path, StatPath(b"/etc/conf", True)).stat == found.stat
    assert unused.session.round_trips == before


@pytest.mark.parametrize(
    ("path", "code", "counts"),
    [(b"/none", errno.ENOENT, True), (b"/none/x", errno.ENOENT, True), (b"/etc/conf/x", errno.ENOTDIR, False)],
)
def test_stat_of_nothing(unused: Rig, path: bytes, code: int, counts: bool) -> None:
    for _ in range(2):
        found = unused.ask(unused.mounted.stat_path, StatPath(path, True))
        assert found.errno == code
        assert bool(found.valid_ms) is counts


def test_stat_when_the_session_is_lost(unused: Rig) -> None:
    unused.session.abandon()
    assert unused.ask(unused.mounted.stat_path, StatPath(b"/etc/conf", True)).errno == errno.ECONNRESET


def test_heads_of_programs(unused: Rig) -> None:
    shutil.copy(os.path.realpath(sys.executable), unused.folder / "python")
    (unused.folder / "script").write_text("#!/bin/sh\n")
    (unused.folder / "script").chmod(0o755)
    (unused.folder / "empty").touch(0o755)
    found = unused.ask(unused.mounted.read_head, ReadHead(b"/python"))
    assert isinstance(found, Head)
    assert found.head[:4] == b"\x7fELF"
    assert b"ld" in found.interpreter
    assert unused.ask(unused.mounted.read_head, ReadHead(b"/script")) == Head(0, b"#!/bin/sh\n", b"")
    assert unused.ask(unused.mounted.read_head, ReadHead(b"/empty")) == Head(0, b"", b"")
    assert len(unused.mounted.server.handles) == 0


@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"/none", errno.ENOENT),
        (b"/etc", errno.EACCES),
        (b"/etc/conf", errno.EACCES),
        (b"/etc/conf/x", errno.ENOTDIR),
    ],
)
def test_what_is_no_program(unused: Rig, path: bytes, code: int) -> None:
    assert unused.ask(unused.mounted.read_head, ReadHead(path)) == Failed(code)
    assert len(unused.mounted.server.handles) == 0


@pytest.mark.parametrize("offset", [1 << 20, 2**63, 2**64 - 8])
def test_a_program_whose_interpreter_is_nowhere(unused: Rig, offset: int) -> None:
    """Somebody in the pod may have made it so."""
    head = bytearray(64 + 56)
    head[:5] = b"\x7fELF\x02"
    head[32:40] = (64).to_bytes(8, "little")
    head[54:58] = (56).to_bytes(2, "little") + (1).to_bytes(2, "little")
    head[64:68] = (3).to_bytes(4, "little")
    head[72:80] = offset.to_bytes(8, "little")
    head[96:104] = (100).to_bytes(8, "little")
    (unused.folder / "strange").write_bytes(head)
    (unused.folder / "strange").chmod(0o755)
    found = unused.ask(unused.mounted.read_head, ReadHead(b"/strange"))
    assert isinstance(found, Failed) or found.interpreter == b""
    assert len(unused.mounted.server.handles) == 0


def test_what_is_foretold_is_asked_for(unused: Rig) -> None:
    unused.mounted.foretell(Foretell(b"/etc", True, False, True))
    unused.until(lambda: unused.mounted.tree.knowledge.listing(b"/etc") is not None)
    before = unused.session.round_trips
    assert unused.ask(unused.mounted.stat_path, StatPath(b"/etc/conf", True)).errno == 0
    assert unused.ask(unused.mounted.stat_path, StatPath(b"/etc/none", True)).errno == errno.ENOENT
    assert unused.session.round_trips == before
