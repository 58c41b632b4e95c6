"""The server on a socket in place of the device: as there, a packet is a request or a reply."""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fakekernel import ROOT, read_entry
from fakepod import Pod
from mirrord_trace.agent.pump.loop import Loop
from mirrord_trace.agent.wire.file_messages import GiveUpWait
from mirrord_trace.agent.wire.messages import Failed
from mirrord_trace.supervisor.fuse import patience, protocol, server
from mirrord_trace.supervisor.fuse.generation import Generation
from mirrord_trace.supervisor.fuse.names import Names
from mirrord_trace.supervisor.fuse.protocol import Op, Request
from mirrord_trace.supervisor.fuse.server import Server
from mirrord_trace.supervisor.fuse.tree import Tree, TreeSettings
from mirrord_trace.supervisor.fuse.waiting import Work
from mirrord_trace.supervisor.pending import Pending

TIMEOUT_S = 20.0
END = 2**63 - 1
REQUESTER = 1


class Kernel:
    """The other end of the device. `notifications`: what came that was no reply."""

    def __init__(self, pod: Pod) -> None:
        self.pod = pod
        self.loop = pod.loop = Loop()
        self.socket, device = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self.tree = Tree(pod, TreeSettings(), Generation())  # type: ignore[arg-type]
        self.tree.may_write = lambda path: True
        self.device = device.detach()
        self.server = Server(self.loop, self.device, self.tree)
        self.replies: dict[int, tuple[int, bytes]] = {}
        self.notifications: list[bytes] = []
        self._unique = 0

    def close(self) -> None:
        self.server.close()
        self.socket.close()
        self.loop.close()

    def until(self, condition: Callable[[], object]) -> None:
        """Run the loop until the condition holds."""
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, "the condition did not come true in time"
            again = self.loop.call_later(0.002, self.loop.stop)
            self.loop.run()
            again.cancel()
            self._receive()

    def _receive(self) -> None:
        while True:
            try:
                data = self.socket.recv(1 << 21)
            except BlockingIOError:
                return
            if not data:
                return
            size, error, unique = struct.unpack_from("=IiQ", data)
            assert size == len(data)
            if unique:
                assert unique not in self.replies, "answered twice"
                self.replies[unique] = -error, data[16:]
            else:
                self.notifications.append(data)

    def send(self, op: int, node: int = ROOT, body: bytes = b"") -> int:
        self._unique += 2
        self.socket.send(struct.pack("=IIQQIIIHH", 40 + len(body), op, self._unique, node, 0, 0, REQUESTER, 0, 0) + body)
        return self._unique

    def kill(self, unique: int) -> None:
        """SIGKILL for who waits for this: an INTERRUPT, and the request is given up."""
        self.send(Op.INTERRUPT, 0, protocol.INTERRUPT_IN.pack(unique))
        self.until(lambda: unique in self.replies)
        assert self.replies.pop(unique) == (errno.EINTR, b"")

    def settle(self) -> None:
        """Let the server take everything that was sent before."""
        self.code(Op.IOCTL)

    def reply(self, unique: int) -> tuple[int, bytes]:
        def is_there() -> bool:
            self.pod.answer_all()
            return unique in self.replies

        self.until(is_there)
        return self.replies.pop(unique)

    def code(self, op: int, node: int = ROOT, body: bytes = b"") -> int:
        """The errno of a request."""
        unique = self.send(op, node, body)
        self.until(lambda: unique in self.replies)
        return self.replies.pop(unique)[0]

    def call(self, op: int, node: int = ROOT, body: bytes = b"") -> bytes:
        code, reply = self.reply(self.send(op, node, body))
        assert code == 0, os.strerror(code)
        return reply

    def node(self, name: bytes) -> int:
        return read_entry(self.call(Op.LOOKUP, body=name + b"\0")).node

    def open(self, node: int, flags: int = 0) -> int:
        return int.from_bytes(self.call(Op.OPEN, node, protocol.OPEN_IN.pack(flags, 0))[:8], "little")


@pytest.fixture
def kernel(pod: Pod) -> Iterator[Kernel]:
    kernel = Kernel(pod)
    yield kernel
    kernel.close()


# -- requests -----------------------------------------------------------------------------------------------------------


def test_init(kernel: Kernel) -> None:
    reply = kernel.call(Op.INIT, 0, struct.pack("=IIII48x", 7, 41, 0, protocol.ASYNC_READ))
    assert struct.unpack_from("=II", reply) == (7, 41)
    for major, minor in ((7, 30), (6, 41), (8, 0)):
        assert kernel.code(Op.INIT, 0, struct.pack("=IIII48x", major, minor, 0, 0)) == errno.EPROTO


@pytest.mark.parametrize("op", [37, 48, 49, 50, 99, 4096])
def test_what_it_does_not_know(kernel: Kernel, op: int) -> None:
    assert kernel.code(op) == errno.ENOSYS


def test_ioctl_is_for_terminals(kernel: Kernel) -> None:
    assert kernel.code(Op.IOCTL) == errno.ENOTTY


def test_a_file_from_the_look_up_to_its_end(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    node = kernel.node(b"a")
    handle = kernel.open(node, os.O_RDWR)
    assert kernel.call(Op.READ, node, protocol.READ_IN.pack(handle, 0, 4096, 0, 0, 0)) == b"hello"
    body = protocol.WRITE_IN.pack(handle, 5, 3, 0, 0, 0) + b"!!!"
    assert kernel.call(Op.WRITE, node, body) == struct.pack("=II", 3, 0)
    assert kernel.call(Op.FLUSH, node, protocol.FLUSH_IN.pack(handle, 1)) == b""
    assert len(kernel.server.handles) == 1
    assert kernel.call(Op.RELEASE, node, protocol.RELEASE_IN.pack(handle, 0, 0, 0)) == b""
    assert (pod.folder / "a").read_bytes() == b"hello!!!"
    assert pod.closed() == [handle]
    assert len(kernel.server.handles) == 0
    assert not kernel.server._patience


def test_every_operation_that_is_served_has_its_handler(kernel: Kernel) -> None:
    without = {Op.FORGET, Op.BATCH_FORGET, Op.INIT, Op.IOCTL, Op.INTERRUPT, Op.DESTROY}
    assert set(kernel.server._handlers) == set(Op) - without


def test_many_requests_are_under_way_at_a_time(pod: Pod, kernel: Kernel) -> None:
    uniques = [kernel.send(Op.LOOKUP, body=b"%d\0" % number) for number in range(100)]
    kernel.until(lambda: pod.waiting)
    for unique in reversed(uniques):
        assert kernel.reply(unique)[0] == 0


def test_forgetting(pod: Pod, kernel: Kernel) -> None:
    nodes = []
    for name in ("a", "b", "c"):
        pod.write(name)
        nodes.append(kernel.node(name.encode()))
    kernel.node(b"a")
    kernel.send(Op.FORGET, nodes[0], protocol.FORGET_IN.pack(2))
    pairs = b"".join(protocol.FORGET_ONE.pack(node, 1) for node in nodes[1:])
    kernel.send(Op.BATCH_FORGET, 0, protocol.BATCH_FORGET_IN.pack(2) + pairs)
    kernel.send(Op.DESTROY)
    kernel.settle()
    for node in nodes:
        assert kernel.code(Op.GETATTR, node, bytes(16)) == errno.ESTALE
    assert not kernel.replies


# -- interrupts ---------------------------------------------------------------------------------------------------------


def test_interrupting_who_waits_for_a_lock(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    node = kernel.node(b"a")
    handle = kernel.open(node, os.O_RDWR)
    kernel.call(Op.SETLK, node, protocol.LOCK_IN.pack(handle, 1, 0, END, 1, 1, 0))
    waiting = kernel.send(Op.SETLKW, node, protocol.LOCK_IN.pack(handle, 2, 0, END, 1, 1, 0))
    kernel.until(lambda: pod.waiting)
    assert not pod.answer()
    kernel.send(Op.INTERRUPT, 0, protocol.INTERRUPT_IN.pack(waiting))
    assert kernel.reply(waiting) == (errno.EINTR, b"")
    assert pod.notices == [GiveUpWait(handle, 2)]


def test_interrupting_who_waits_for_a_fifo(pod: Pod, kernel: Kernel) -> None:
    os.mkfifo(pod.folder / "fifo")
    node = kernel.node(b"fifo")
    opening = kernel.send(Op.OPEN, node, protocol.OPEN_IN.pack(os.O_RDONLY, 0))
    kernel.until(lambda: pod.waiting)
    kernel.send(Op.INTERRUPT, 0, protocol.INTERRUPT_IN.pack(opening))
    assert kernel.reply(opening)[0] == errno.EINTR
    other = os.open(pod.folder / "fifo", os.O_RDWR)
    handle = kernel.open(node)
    reading = kernel.send(Op.READ, node, protocol.READ_IN.pack(handle, 0, 10, 0, 0, 0))
    kernel.until(lambda: pod.waiting)
    kernel.send(Op.INTERRUPT, 0, protocol.INTERRUPT_IN.pack(reading))
    assert kernel.reply(reading)[0] == errno.EINTR
    os.close(other)


def test_what_ends_by_itself_is_not_interrupted(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    node = kernel.node(b"a")
    handle = kernel.open(node)
    reading = kernel.send(Op.READ, node, protocol.READ_IN.pack(handle, 0, 10, 0, 0, 0))
    for unique in (reading, kernel.send(Op.LOOKUP, body=b"x\0"), 9999):
        kernel.send(Op.INTERRUPT, 0, protocol.INTERRUPT_IN.pack(unique))
    assert kernel.reply(reading) == (0, b"hello")
    assert pod.notices == []


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes the requests has SIGKILL pending."""
    monkeypatch.setattr(patience, "pending_of", lambda tid: Pending(is_killed=tid == REQUESTER))


@pytest.mark.usefixtures("killed")
def test_what_comes_of_a_request_that_was_given_up_is_taken_back(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    pod.write("other")
    os.mkdir(pod.folder / "d")
    pod.write("d/x")
    node, directory = kernel.node(b"a"), kernel.node(b"d")
    given_up = [
        kernel.send(Op.OPEN, node, protocol.OPEN_IN.pack(os.O_RDWR, 0)),
        kernel.send(Op.CREATE, ROOT, protocol.CREATE_IN.pack(os.O_RDWR, 0o600, 0, 0) + b"new\0"),
        kernel.send(Op.LOOKUP, body=b"other\0"),
        kernel.send(Op.OPENDIR, directory, bytes(8)),
    ]
    kernel.until(lambda: len(pod.waiting) == 4)
    for index in range(4):
        pod.carry_out(index)
    for unique in given_up:
        kernel.kill(unique)
    kernel.until(lambda: pod.answer_all() or len(pod.closed()) == 2)
    kernel.settle()
    assert pod.handles == {}
    assert not kernel.server._directories._open
    assert [kernel.tree.nodes.at(path) for path in (b"/new", b"/other")] == [None, None]
    assert kernel.tree.nodes.get(node).lookups == 1
    assert not kernel.replies, "answered twice"
    assert (pod.folder / "new").exists()
    assert read_entry(kernel.call(Op.LOOKUP, body=b"new\0")).node, "the pod has made it all the same"


@pytest.mark.usefixtures("killed")
def test_references_by_a_listing_that_was_given_up_are_taken_back(pod: Pod, kernel: Kernel) -> None:
    for name in ("d/x", "d/longer name"):
        pod.write(name)
    directory = kernel.node(b"d")
    number = int.from_bytes(kernel.call(Op.OPENDIR, directory, bytes(8))[:8], "little")
    body = protocol.READ_IN.pack(number, 0, 4096, 0, 0, 0)
    assert kernel.call(Op.READDIRPLUS, directory, body)
    known = {path: found.lookups for path in (b"/d/x", b"/d/longer name") if (found := kernel.tree.nodes.at(path))}
    assert list(known.values()) == [1, 1]
    kernel.tree.changed_there(b"/d")
    again = kernel.send(Op.READDIRPLUS, directory, body)
    kernel.until(lambda: pod.waiting)
    kernel.kill(again)
    kernel.until(lambda: pod.answer_all() or not kernel.server._patience)
    kernel.settle()
    now = {path: found.lookups for path in known if (found := kernel.tree.nodes.at(path))}
    assert now == known


@pytest.mark.usefixtures("killed")
def test_pages_of_a_version_of_which_the_kernel_does_not_know_are_not_kept(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "first")
    node = kernel.node(b"a")
    kernel.call(Op.RELEASE, node, protocol.RELEASE_IN.pack(kernel.open(node, os.O_RDWR), 0, 0, 0))
    pod.write("a", "second")
    opening = kernel.send(Op.OPEN, node, protocol.OPEN_IN.pack(os.O_RDWR, 0))
    kernel.until(lambda: pod.waiting)
    pod.carry_out()
    kernel.kill(opening)
    kernel.until(lambda: pod.answer_all() or len(pod.closed()) == 2)
    opened = kernel.call(Op.OPEN, node, protocol.OPEN_IN.pack(os.O_RDWR, 0))
    assert not struct.unpack("=QII", opened)[1] & protocol.FOPEN_KEEP_CACHE


def test_the_tool_wants_a_thread_back(pod: Pod, kernel: Kernel) -> None:
    looking = kernel.send(Op.LOOKUP, body=b"x\0")
    kernel.until(lambda: pod.waiting)
    kernel.server.give_up_for(REQUESTER + 1)
    kernel.settle()
    assert not kernel.replies
    kernel.server.give_up_for(REQUESTER)
    kernel.until(lambda: looking in kernel.replies)
    assert kernel.replies.pop(looking)[0] == errno.EINTR
    pod.answer_all()
    kernel.settle()
    assert not kernel.replies


def test_what_may_not_fail_while_its_requester_goes_on(pod: Pod, kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    pod.write("a", "hello")
    os.mkfifo(pod.folder / "fifo")
    other = os.open(pod.folder / "fifo", os.O_RDWR)
    file, fifo = kernel.open(kernel.node(b"a")), kernel.open(kernel.node(b"fifo"))
    os.close(other)

    def may_fail(op: Op, handle: int) -> bool:
        body = protocol.READ_IN.pack(handle, 0, 1, 0, 0, 0)
        return kernel.server._may_fail(Request(op, 2, ROOT, REQUESTER, memoryview(body)))

    monkeypatch.setattr(server, "is_reading", lambda tid: True)
    assert may_fail(Op.READ, file)
    assert may_fail(Op.LOOKUP, file)
    assert not may_fail(Op.READ, fifo)
    assert not may_fail(Op.WRITE, file)
    monkeypatch.setattr(server, "is_reading", lambda tid: False)
    assert not may_fail(Op.READ, file)


# -- what goes wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
def test_a_bug_costs_one_request(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], at_once: bool
) -> None:
    def readlink(self: Names, request: Request) -> Work[bytes]:
        if not at_once:
            yield from self._tree.lstat(b"/x")
        yield from ()
        raise KeyError("bug")

    monkeypatch.setattr(Names, "readlink", readlink)
    kernel = Kernel(pod)
    assert kernel.reply(kernel.send(Op.READLINK))[0] == errno.EIO
    assert "KeyError: 'bug'" in capfd.readouterr().err
    pod.write("a")
    assert kernel.node(b"a")
    kernel.close()


def test_after_the_session_is_lost_everything_fails_but_files_are_closed(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    node = kernel.node(b"a")
    handle = kernel.open(node)
    looking = kernel.send(Op.LOOKUP, body=b"x\0")
    kernel.until(lambda: pod.waiting)
    kernel.server.fail_all(errno.ENETDOWN)
    pod.answer(0, Failed(errno.ECONNRESET))
    assert kernel.reply(looking)[0] == errno.ECONNRESET
    for op, body in ((Op.LOOKUP, b"y\0"), (Op.GETATTR, bytes(16)), (Op.OPEN, bytes(8)), (Op.STATFS, b"")):
        assert kernel.code(op, ROOT, body) == errno.ENETDOWN
    assert kernel.code(Op.IOCTL) == errno.ENOTTY
    assert kernel.code(Op.RELEASE, node, protocol.RELEASE_IN.pack(handle, 0, 0, 0)) == 0
    assert len(kernel.server.handles) == 0


def test_an_open_file_that_the_kernel_never_learns_of_is_closed(pod: Pod, kernel: Kernel, monkeypatch: Any) -> None:
    pod.write("a")
    node = kernel.node(b"a")
    opening = kernel.send(Op.OPEN, node, protocol.OPEN_IN.pack(os.O_RDWR, 0))
    creating = kernel.send(Op.CREATE, ROOT, protocol.CREATE_IN.pack(os.O_RDWR, 0o600, 0, 0) + b"new\0")
    pod.write("other")
    looking = kernel.send(Op.LOOKUP, body=b"other\0")
    kernel.until(lambda: len(pod.waiting) == 3)
    write = os.write

    def nobody_waits(fd: int, data: bytes) -> int:
        if fd == kernel.device:
            raise OSError(errno.ENOENT, "nobody waits")
        return write(fd, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", nobody_waits)
        pod.answer_all()
        kernel.until(lambda: len(pod.closed()) == 2 and not kernel.server._patience)
    assert pod.handles == {}
    assert not {opening, creating, looking} & set(kernel.replies)
    assert [kernel.tree.nodes.at(path) for path in (b"/new", b"/other")] == [None, None]
    assert kernel.tree.nodes.get(node).lookups == 1


def test_when_the_mount_is_gone_nothing_is_open(pod: Pod, kernel: Kernel, monkeypatch: Any) -> None:
    """The kernel drops what it has not told yet."""
    pod.write("a")
    handle = kernel.open(kernel.node(b"a"))
    idle: list[bool] = []
    kernel.server.when_idle(lambda: idle.append(True))
    read = os.read

    def gone(fd: int, size: int) -> bytes:
        if fd == kernel.device:
            raise OSError(errno.ENODEV, "gone")
        return read(fd, size)

    with monkeypatch.context() as patch:
        patch.setattr(os, "read", gone)
        kernel.send(Op.IOCTL)
        kernel.until(lambda: idle)
    assert pod.closed() == [handle]


def test_closing_twice(pod: Pod) -> None:
    kernel = Kernel(pod)
    kernel.server.close()
    with pytest.raises(OSError) as caught:
        kernel.send(Op.IOCTL)
    assert caught.value.errno in (errno.EPIPE, errno.ECONNRESET)
    kernel.close()


# -- idleness -----------------------------------------------------------------------------------------------------------


def test_idle_at_once_where_nothing_is_open(kernel: Kernel) -> None:
    idle: list[bool] = []
    kernel.server.when_idle(lambda: idle.append(True))
    assert idle == []
    kernel.until(lambda: idle)


def test_idle_after_the_last_file_is_closed(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    node = kernel.node(b"a")
    handle = kernel.open(node)
    idle: list[bool] = []
    kernel.server.when_idle(lambda: idle.append(True))
    kernel.settle()
    assert idle == []
    kernel.call(Op.RELEASE, node, protocol.RELEASE_IN.pack(handle, 0, 0, 0))
    kernel.until(lambda: idle)


@pytest.mark.parametrize("asked_first", [True, False])
def test_idle_after_the_last_byte_has_arrived(pod: Pod, kernel: Kernel, asked_first: bool) -> None:
    """Pages of a mapping may be written, and the file closed, without anybody waiting for them."""
    pod.write("a")
    node = kernel.node(b"a")
    handle = kernel.open(node, os.O_RDWR)
    idle: list[bool] = []
    if asked_first:
        kernel.server.when_idle(lambda: idle.append(True))
    writing = kernel.send(Op.WRITE, node, protocol.WRITE_IN.pack(handle, 0, 1, protocol.WRITE_CACHE, 0, 0) + b"x")
    releasing = kernel.send(Op.RELEASE, node, protocol.RELEASE_IN.pack(handle, 0, 0, 0))
    kernel.until(lambda: writing in kernel.replies and releasing in kernel.replies)
    if not asked_first:
        kernel.server.when_idle(lambda: idle.append(True))
    kernel.settle()
    assert idle == []
    pod.answer_all()
    kernel.until(lambda: idle)
    assert idle == [True]


# -- notifications ------------------------------------------------------------------------------------------------------


def test_invalidating_an_inode(kernel: Kernel) -> None:
    settled: list[object] = []
    kernel.server.invalidate(7, settled.append)
    kernel.server.invalidate(8, settled.append)
    kernel.until(lambda: len(settled) == 2 and len(kernel.notifications) == 2)
    assert kernel.notifications[0] == struct.pack("=IiQQqq", 40, 2, 0, 7, 0, 0)
    assert settled == [None, None]


def test_nothing_is_written_elsewhere_after_the_end(pod: Pod) -> None:
    """Its number may belong to another file by then."""
    kernel = Kernel(pod)
    settled: list[object] = []
    for number in range(100):
        kernel.server.invalidate(number, settled.append)
    kernel.server.close()
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    kernel.until(lambda: len(settled) == 100)
    with pytest.raises(BlockingIOError):
        os.read(ours, 1)
    os.close(ours)
    os.close(theirs)
    kernel.close()
