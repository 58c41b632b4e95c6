"""The messages, asked of a real agent: what goes where, what runs beside what, and with whose rights."""

from __future__ import annotations

import errno
import os
import signal
import stat
import threading

import pytest
from mirrord_trace.agent.wire import file_messages as wire
from mirrord_trace.agent.wire.messages import Attributes, Done, Failed
from mirrord_trace.agent.wire.stats import unpack_stats

RDONLY, WRONLY, RDWR, CREAT, NONBLOCK, PATH, TMPFILE = 0, 1, 2, 0o100, 0o4000, 0o10000000, 0o20200000
END = 2**63 - 1
EINTR, EBADF = Failed(errno.EINTR), Failed(errno.EBADF)


@pytest.fixture
def client(start_agent):
    return start_agent()[1]


@pytest.fixture
def here(tmp_path):
    return lambda name: os.fsencode(tmp_path / name)


@pytest.fixture
def begin(client):
    """Ask without waiting: the list that the reply will be in."""

    def ask(message):
        replies = []
        client.session.request(message, replies.append)
        return replies

    return ask


def lock(handle, owner, kind=wire.WRITE_LOCK, wait=False, flock=False):
    return wire.LockFile(handle, owner, kind, 0, END, wait, flock)


def change(path, handle, what, mode=0, size=0):
    return wire.SetAttributes(path, handle, what, mode, 0, 0, size, 0, 0)


def test_by_path(client, tmp_path, here):
    folder = os.fsencode(tmp_path)
    made = client.ask(wire.MakeNode(here("file"), stat.S_IFREG | 0o666, 0))
    assert made.stat.mode == stat.S_IFREG | 0o666  # the agent has no umask
    assert isinstance(client.ask(wire.MakeLink(here("link"), b"file")), Attributes)
    assert client.ask(wire.LinkFile(here("file"), 0, here("second"))).stat.nlink == 2
    assert client.ask(wire.RenameFile(here("second"), here("third"), 0)) == Done()
    assert client.ask(change(here("file"), 0, wire.SET_MODE | wire.SET_SIZE, 0o600, 5)).stat.size == 5
    walked = client.ask(wire.Walk(here("link"), True, 100))
    assert (walked.paths[-1], walked.content) == (here("file"), bytes(5))
    assert sorted(client.ask(wire.ReadDirectory(folder, 10)).names.split(b"\0")) == [b"file", b"link", b"third"]
    assert client.ask(wire.StatFs(folder)).name_length == 255
    assert client.ask(wire.RemoveName(here("third"), False)) == Done()
    assert client.ask(wire.RemoveName(here("third"), False)) == Failed(errno.ENOENT)


def test_by_handle(client, here):
    opened = client.ask(wire.OpenHandle(1, here("file"), RDWR | CREAT, 0o644, 0))
    assert opened.stat.mode == stat.S_IFREG | 0o644
    assert client.ask(wire.WriteHandle(1, 0, b"content")) == Done()
    assert client.ask(wire.ReadHandle(1, 3, 100)) == wire.Content(b"tent")
    assert client.ask(wire.AllocateHandle(1, 0, 0, 100)) == Done()
    assert client.ask(wire.SyncHandle(1, True)) == Done()
    assert client.ask(wire.SeekHandle(1, 0, 3)) == wire.Number(0)
    assert client.ask(wire.StatHandle(1)).stat.size == 100
    assert client.ask(change(b"", 1, wire.SET_SIZE | wire.SET_MODE, 0o600, 3)).stat.size == 3
    assert isinstance(client.ask(wire.OpenHandle(2, here("copy"), WRONLY | CREAT, 0o644, 0)), Attributes)
    assert client.ask(wire.CopyRange(1, 0, 2, 2, 3)) == wire.Number(3)
    assert isinstance(client.ask(wire.OpenHandle(3, b"", RDONLY, 0, 2)), Attributes)
    assert client.ask(wire.ReadHandle(3, 0, 10)) == wire.Content(b"\0\0con")
    client.session.notify(wire.CloseHandle(1))
    assert client.ask(wire.ReadHandle(1, 0, 1)) == EBADF
    assert client.ask(wire.CopyRange(1, 0, 2, 0, 1)) == EBADF
    assert client.ask(wire.OpenHandle(2, here("file"), RDONLY, 0, 0)) == Failed(errno.EINVAL)
    assert client.ask(wire.OpenHandle(9, here("file"), RDONLY, 0, 8)) == EBADF


def test_extended_attributes_by_path_and_handle(client, here):
    client.ask(wire.OpenHandle(1, here("file"), RDWR | CREAT, 0o644, 0))
    refused = client.ask(wire.SetXattr(here("file"), 0, b"user.one", b"1", 0))
    if refused != Done():
        pytest.skip(f"the file system has no user attributes: {refused}")
    assert client.ask(wire.SetXattr(b"", 1, b"user.two", b"2", 0)) == Done()
    assert client.ask(wire.GetXattr(here("file"), 0, b"user.two")) == wire.Content(b"2")
    assert b"user.one\0" in client.ask(wire.ListXattr(b"", 1)).content
    assert client.ask(wire.RemoveXattr(b"", 1, b"user.one")) == Done()
    assert client.ask(wire.GetXattr(b"", 1, b"user.one")) == Failed(errno.ENODATA)
    assert client.ask(wire.ListXattr(b"", 9)) == EBADF


def test_a_handle_may_be_used_before_it_is_open(client, begin, here):
    replies = [begin(wire.OpenHandle(1, here("file"), RDWR | CREAT, 0o644, 0))]
    replies += [begin(wire.WriteHandle(1, at, b"%d" % at)) for at in range(10)]
    replies.append(begin(wire.ReadHandle(1, 0, 100)))
    client.session.notify(wire.CloseHandle(1))
    replies.append(begin(wire.OpenHandle(1, here("none"), RDONLY, 0, 0)))
    replies.append(begin(wire.StatHandle(1)))
    client.until(lambda: all(replies))
    assert replies[11] == [wire.Content(b"0123456789")]
    assert replies[12:] == [[Failed(errno.ENOENT)], [EBADF]]
    assert isinstance(client.ask(wire.OpenHandle(1, here("file"), RDONLY, 0, 0)), Attributes)


def test_a_file_without_a_name_gets_one(client, tmp_path, here):
    if isinstance(client.ask(wire.OpenHandle(1, os.fsencode(tmp_path), TMPFILE | RDWR, 0o600, 0)), Failed):
        pytest.skip("the file system has no O_TMPFILE")
    client.ask(wire.WriteHandle(1, 0, b"content"))
    assert client.ask(wire.LinkFile(b"", 1, here("file"))).stat.nlink == 1
    assert (tmp_path / "file").read_bytes() == b"content"


def test_waiting_fifos_hold_up_nothing(client, begin, tmp_path, here):
    os.mkfifo(here("fifo"))
    (tmp_path / "file").write_bytes(b"x")
    opens = [begin(wire.OpenHandle(number, here("fifo"), RDONLY, 0, 0)) for number in range(1, 41)]
    for _ in range(5):
        assert client.ask(wire.Walk(here("file"), True, 10)).content == b"x"
    assert not any(opens)
    writer = os.open(here("fifo"), os.O_WRONLY)
    client.until(lambda: all(opens))
    reads = [begin(wire.ReadHandle(number, 0, 10)) for number in range(1, 41)]
    assert client.ask(wire.Walk(here("file"), True, 10)).content == b"x"
    assert not any(reads)
    os.write(writer, b"y")
    client.until(lambda: any(reads))
    os.close(writer)
    client.until(lambda: all(reads))
    assert sorted(reply[0].content for reply in reads) == [b""] * 39 + [b"y"]


def test_a_fifo_between_the_pod_and_the_client(client, begin, here):
    os.mkfifo(here("fifo"))
    opened = begin(wire.OpenHandle(1, here("fifo"), WRONLY, 0, 0))
    content, got = os.urandom(1 << 20), []
    written = begin(wire.WriteHandle(1, 0, content))

    def read():
        with open(here("fifo"), "rb") as file:
            got.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    client.until(lambda: opened and written)
    client.session.notify(wire.CloseHandle(1))
    client.until(lambda: got)
    reader.join()
    assert got == [content]
    assert written == [Done()]


def test_waits_are_given_up(client, begin, here):
    os.mkfifo(here("fifo"))
    opens = [begin(wire.OpenHandle(number, here("fifo"), RDONLY, 0, 0)) for number in (1, 2)]
    client.session.notify(wire.GiveUpWait(1, 0))
    client.session.notify(wire.GiveUpWait(99, 0))
    client.until(lambda: opens[0])
    assert opens == [[EINTR], []]
    client.session.notify(wire.CloseHandle(2))
    client.until(lambda: opens[1])
    assert opens[1] == [EINTR]
    client.ask(wire.OpenHandle(3, here("fifo"), RDWR, 0, 0))
    reads = [begin(wire.ReadHandle(3, 0, 1)), begin(wire.ReadHandle(3, 0, 1))]
    client.session.notify(wire.GiveUpWait(3, 0))
    client.until(lambda: all(reads))
    assert reads == [[EINTR], [EINTR]]
    assert client.ask(wire.WriteHandle(3, 0, b"x")) == Done()
    assert client.ask(wire.ReadHandle(3, 0, 1)) == wire.Content(b"x")
    client.ask(wire.OpenHandle(4, here("fifo"), RDONLY | NONBLOCK, 0, 0))
    assert client.ask(wire.ReadHandle(4, 0, 1)) == Failed(errno.EAGAIN)


def test_a_lock_is_waited_for(client, begin, here):
    client.ask(wire.OpenHandle(1, here("file"), RDWR | CREAT, 0o644, 0))
    assert client.ask(lock(1, 5)) == Done()
    assert client.ask(lock(1, 6)) == Failed(errno.EAGAIN)
    waiting = {owner: begin(lock(1, owner, wait=True)) for owner in range(6, 40)}
    assert client.ask(wire.StatHandle(1)).stat.size == 0  # nothing is held up
    assert client.ask(wire.GetLock(1, 6, wire.WRITE_LOCK, 0, END)) == wire.LockState(wire.WRITE_LOCK, 0, END, 0)
    client.session.notify(wire.GiveUpWait(1, 7))
    client.until(lambda: waiting[7])
    assert [owner for owner, reply in waiting.items() if reply] == [7]
    assert waiting.pop(7) == [EINTR]
    client.ask(lock(1, 5, wire.NO_LOCK))
    client.until(lambda: any(waiting.values()))
    holder = next(owner for owner, reply in waiting.items() if reply)
    assert waiting.pop(holder) == [Done()]
    assert client.ask(wire.StatHandle(1)).stat.size == 0
    client.session.notify(wire.CloseHandle(1))
    client.until(lambda: all(waiting.values()))
    assert all(reply == [EINTR] for reply in waiting.values())


def test_flocks_go_with_their_handle(client, begin, here):
    for number in (1, 2):
        client.ask(wire.OpenHandle(number, here("file"), RDWR | CREAT, 0o644, 0))
    assert client.ask(lock(1, 5, flock=True)) == Done()
    waiting = begin(lock(2, 5, wait=True, flock=True))
    assert client.ask(wire.StatHandle(2)).stat.size == 0
    assert not waiting
    client.session.notify(wire.CloseHandle(1))
    client.until(lambda: waiting)
    assert waiting == [Done()]


def test_what_happens_is_told(client, tmp_path, here):
    assert client.ask(wire.WatchPath(3, os.fsencode(tmp_path))) == Done()
    (tmp_path / "file").touch()
    client.until(lambda: wire.PathEvent(3, 0x100, 0, b"file") in client.notices)
    client.session.notify(wire.UnwatchPath(3))
    assert client.ask(wire.WatchPath(3, os.fsencode(tmp_path))) == Done()
    client.ask(wire.RemoveName(here("file"), False))
    client.until(lambda: wire.PathEvent(3, 0x200, 0, b"file") in client.notices)


def test_numbers_that_no_call_takes_cost_one_request(client, here):
    client.ask(wire.OpenHandle(1, here("file"), RDWR | CREAT, 0o644, 0))
    for message in (
        wire.ReadHandle(1, -1, 1),
        wire.ReadHandle(1, 0, -1),
        wire.ReadHandle(1, 2**64 - 1, 1),
        wire.WriteHandle(1, 2**64 - 1, b"x"),
        wire.AllocateHandle(1, 0, -1, -1),
        wire.MakeNode(here("x"), 2**40, 0),
        wire.LockFile(1, 1, 0, -5, 2**64 - 1, False, False),
        change(here("file"), 0, wire.SET_SIZE, size=-1),
    ):
        refused = client.ask(message)
        assert isinstance(refused, Failed), message
        assert refused.errno == errno.EINVAL, message
    assert client.ask(wire.StatHandle(1)).stat.size == 0


def test_the_targets_rights(start_agent, tmp_path, here):
    if os.geteuid() != 0:
        pytest.skip("a target of another user: this needs root")
    for parent in (tmp_path, *tmp_path.parents[:2]):
        os.chmod(parent, 0o755)
    (tmp_path / "secret").write_bytes(b"x")
    os.chmod(here("secret"), 0o600)
    os.mkdir(here("open"))
    os.chmod(here("open"), 0o777)
    reader, writer = os.pipe()
    target = os.fork()
    if target == 0:
        os.setgroups([77])
        os.setgid(99)
        os.setuid(1234)
        os.write(writer, b"x")
        signal.pause()
        os._exit(0)
    try:
        os.read(reader, 1)
        os.close(reader)
        os.close(writer)
        _, client = start_agent(pid=target)
        assert client.ask(wire.OpenHandle(1, here("secret"), RDONLY, 0, 0)) == Failed(errno.EACCES)
        walked = client.ask(wire.Walk(here("secret"), True, 100))
        assert (walked.errno, walked.has_content) == (0, False)
        assert unpack_stats(walked.stats)[-1].size == 1
        made = client.ask(wire.OpenHandle(2, here("open") + b"/file", RDWR | CREAT, 0o666, 0)).stat
        assert (made.uid, made.gid, made.mode) == (1234, 99, stat.S_IFREG | 0o666)
        assert client.ask(wire.RemoveName(here("secret"), False)) == Failed(errno.EACCES)
        assert client.ask(change(here("secret"), 0, wire.SET_MODE, 0o666)) == Failed(errno.EPERM)
        os.chown(here("secret"), 0, 77)
        os.chmod(here("secret"), 0o640)
        assert client.ask(wire.Walk(here("secret"), True, 100)).content == b"x"
    finally:
        os.kill(target, signal.SIGKILL)
        os.waitpid(target, 0)


def test_in_a_user_namespace_of_its_own(pod, start_agent, here):
    _, client = start_agent(pid=pod.pid)
    made = client.ask(wire.OpenHandle(1, here("file"), RDWR | CREAT, 0o640, 0))
    assert isinstance(made, Attributes)
    assert (made.stat.uid, made.stat.mode) == (0, stat.S_IFREG | 0o640)  # as the pod numbers its only user
    assert os.stat(here("file")).st_uid == os.geteuid()
    assert client.ask(wire.WriteHandle(1, 0, b"x")) == Done()
    assert client.ask(wire.Walk(here("file"), True, 10)).content == b"x"


def test_a_terminal_is_written_to_while_it_is_read(client, begin):
    ours, theirs = os.openpty()
    try:
        opened = client.ask(wire.OpenHandle(1, os.fsencode(os.ttyname(theirs)), RDWR, 0, 0))
        assert stat.S_ISCHR(opened.stat.mode)
        read = begin(wire.ReadHandle(1, 0, 100))
        assert client.ask(wire.WriteHandle(1, 0, b"prompt")) == Done()
        assert os.read(ours, 100) == b"prompt"
        assert not read
        os.write(ours, b"line\n")
        client.until(lambda: read)
        assert read == [wire.Content(b"line\n")]
        waiting = begin(wire.ReadHandle(1, 0, 100))
        client.session.notify(wire.GiveUpWait(1, 0))
        client.until(lambda: waiting)
        assert waiting == [EINTR]
    finally:
        os.close(ours)
        os.close(theirs)
