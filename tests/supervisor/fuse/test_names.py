from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

import pytest
from fakekernel import ROOT, Clock, Kernel, read_entry
from fakepod import Pod
from mirrord_trace.agent.wire.file_messages import LinkFile, MakeNode, OpenHandle, RemoveName, RenameFile, Walk
from mirrord_trace.agent.wire.messages import Failed
from mirrord_trace.supervisor.fuse import protocol
from mirrord_trace.supervisor.fuse.knowledge import Lifetimes
from mirrord_trace.supervisor.fuse.protocol import Op

EXCHANGE, NOREPLACE = 2, 1
SET_MODE = 1


def mkdir(kernel: Kernel, name: str, node: int = ROOT) -> int:
    body = kernel.call(kernel.names.mkdir, Op.MKDIR, node, protocol.MKDIR_IN.pack(0o755, 0o022) + name.encode() + b"\0")
    return read_entry(body).node


def symlink(kernel: Kernel, name: str, target: str) -> int:
    return read_entry(kernel.call(kernel.names.symlink, Op.SYMLINK, ROOT, f"{name}\0{target}\0".encode())).node


def mknod(kernel: Kernel, name: str, mode: int, rdev: int = 0) -> bytes:
    return kernel.call(kernel.names.mknod, Op.MKNOD, ROOT, protocol.MKNOD_IN.pack(mode, rdev, 0o022) + name.encode() + b"\0")


def link(kernel: Kernel, number: int, name: str) -> int:
    body = protocol.LINK_IN.pack(number) + name.encode() + b"\0"
    return read_entry(kernel.call(kernel.names.link, Op.LINK, ROOT, body)).node


def readlink(kernel: Kernel, number: int) -> bytes:
    return kernel.call(kernel.names.readlink, Op.READLINK, number, b"")


# -- LOOKUP -----------------------------------------------------------------------------------------------------------


def test_a_look_up_is_one_round_trip_and_none_while_it_is_known(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    pod.write("etc/conf", "hello")
    entry = kernel.lookup("etc/conf")
    assert (entry.attr.size, stat.S_IFMT(entry.attr.mode), entry.entry_s, entry.attr_s) == (5, stat.S_IFREG, 1.0, 1.0)
    again = kernel.lookup("etc/conf")
    assert again.node == entry.node
    assert pod.take() == ["Walk", "Walk"]  # the kernel asked for one name after the other, and nobody had foretold it
    clock.passes(0.75)
    assert kernel.lookup("etc/conf").attr_s == 0.25


def test_a_missing_name_is_kept_by_the_kernel_too(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    entry = kernel.lookup("none")
    assert (entry.node, entry.entry_s) == (0, 1.0)
    clock.passes(0.75)
    assert kernel.lookup("none").entry_s == 0.25
    assert pod.take() == ["Walk"]


def test_names_in_a_stale_directory(pod: Pod, kernel: Kernel) -> None:
    (pod.folder / "d").mkdir()
    directory = kernel.node("d")
    kernel.tree.nodes.gone(b"/d")
    for call in (kernel.begin_lookup("x", directory), kernel.begin_lookup("x", 999)):
        with pytest.raises(OSError) as caught:
            kernel.finish(call)
        assert caught.value.errno == errno.ESTALE


def test_a_name_looked_up_while_its_directory_is_renamed(pod: Pod, kernel: Kernel) -> None:
    """The answer is about a place where nothing is any more."""
    pod.write("d/x", "hello")
    directory = kernel.node("d")
    looking = kernel.begin_lookup("x", directory)
    renaming = kernel.begin_rename("d", "e")
    (index,) = (index for index, asked in enumerate(pod.waiting) if isinstance(asked.message, RenameFile))
    pod.answer(index)
    renaming.body()
    entry = read_entry(kernel.finish(looking))
    assert entry.attr.size == 5
    assert kernel.inode(entry.node).path == b"/e/x"


# -- READLINK ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "path", "shown"),
    [
        ("target", "link", b"target"),
        ("/etc/conf", "link", b"etc/conf"),
        ("/", "link", b"."),
        ("/etc/conf", "a/b/link", b"../../etc/conf"),
        ("/", "a/link", b"../."),
        ("../x", "a/link", b"../x"),
    ],
)
def test_absolute_links_become_relative(pod: Pod, kernel: Kernel, target: str, path: str, shown: bytes) -> None:
    where = pod.folder / path
    where.parent.mkdir(parents=True, exist_ok=True)
    where.symlink_to(target)
    number = kernel.node(path)
    pod.take()
    assert readlink(kernel, number) == shown
    assert pod.take() == []


def test_the_target_of_a_link_that_is_not_known_is_asked_for(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    (pod.folder / "link").symlink_to("a")
    number = kernel.node("link")
    (pod.folder / "link").unlink()
    (pod.folder / "link").symlink_to("b")
    clock.passes(1.0)
    assert readlink(kernel, number) == b"b"


def test_a_link_that_loses_its_name_while_it_is_read(pod: Pod, kernel: Kernel, clock: Clock) -> None:
    (pod.folder / "link").symlink_to("/a")
    number = kernel.node("link")
    clock.passes(1.0)
    reading = kernel.begin(kernel.names.readlink, Op.READLINK, number, b"")
    kernel.tree.nodes.gone(b"/link")
    assert kernel.finish(reading) == b"a"


# -- making -----------------------------------------------------------------------------------------------------------


def test_mkdir(pod: Pod, kernel: Kernel) -> None:
    number = mkdir(kernel, "d")
    assert pod.asked == [MakeNode(b"/d", stat.S_IFDIR | 0o755, 0)]
    assert (pod.folder / "d").is_dir()
    assert kernel.node("d") == number
    assert pod.take() == ["MakeNode"]
    assert kernel.inode(mkdir(kernel, "e", number)).path == b"/d/e"


def test_symlink(pod: Pod, kernel: Kernel) -> None:
    number = symlink(kernel, "link", "/etc")
    assert os.readlink(pod.folder / "link") == "/etc"
    assert readlink(kernel, number) == b"etc"


def test_a_fifo_is_one_when_it_is_made_and_a_file_afterwards(pod: Pod, kernel: Kernel) -> None:
    """The kernel insists on the type that it asked for, and must not open a FIFO of its own."""
    made = read_entry(mknod(kernel, "fifo", stat.S_IFIFO | 0o600))
    assert (stat.S_IFMT(made.attr.mode), made.entry_s, made.attr_s) == (stat.S_IFIFO, 0.0, 0.0)
    assert stat.S_ISFIFO((pod.folder / "fifo").stat().st_mode)
    assert stat.S_IFMT(kernel.lookup("fifo").attr.mode) == stat.S_IFREG


@pytest.mark.parametrize("kind", [stat.S_IFREG, stat.S_IFSOCK])
def test_mknod_of_what_is_no_device(pod: Pod, kernel: Kernel, kind: int) -> None:
    made = read_entry(mknod(kernel, "new", kind | 0o600))
    assert stat.S_IFMT(made.attr.mode) == kind == stat.S_IFMT((pod.folder / "new").stat().st_mode)
    assert made.attr_s == 1.0


def test_device_numbers_of_mknod(pod: Pod, kernel: Kernel) -> None:
    pod.refusals[MakeNode] = errno.EPERM
    with pytest.raises(PermissionError):
        mknod(kernel, "device", stat.S_IFBLK | 0o600, 0x12 | 259 << 8 | 0x34500 << 12)
    assert pod.asked == [MakeNode(b"/device", stat.S_IFBLK | 0o600, os.makedev(259, 0x34512))]


def test_what_was_made_is_in_the_listing(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    root = kernel.tree.asking.listing(b"/")
    call = kernel.begin(lambda request: ((yield from root), b"")[1], Op.OPENDIR, ROOT, b"")
    kernel.finish(call)
    mkdir(kernel, "d")
    kernel.unlink("a")
    listing = kernel.tree.knowledge.listing(b"/")
    assert listing is not None
    assert set(listing.entries) == {b"d"}


def test_what_could_not_be_made_is_looked_for_again(pod: Pod, kernel: Kernel) -> None:
    assert kernel.lookup("d").node == 0
    (pod.folder / "d").mkdir()
    before = kernel.generation.now
    with pytest.raises(FileExistsError):
        mkdir(kernel, "d")
    assert kernel.node("d")
    assert kernel.generation.now > before


def test_a_name_made_in_a_directory_that_is_renamed_meanwhile(pod: Pod, kernel: Kernel) -> None:
    (pod.folder / "d").mkdir()
    directory = kernel.node("d")
    body = protocol.MKDIR_IN.pack(0o755, 0o022) + b"x\0"
    making = kernel.begin(kernel.names.mkdir, Op.MKDIR, directory, body)
    pod.carry_out()
    renaming = kernel.begin_rename("d", "e")
    pod.answer(1)
    renaming.body()
    assert kernel.inode(read_entry(kernel.finish(making)).node).path == b"/e/x"


# -- links ------------------------------------------------------------------------------------------------------------


def test_link(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    assert link(kernel, number, "b") == number
    assert kernel.getattr(number).nlink == 2
    assert kernel.lookup("a").attr.nlink == 2
    assert kernel.inode(number).paths == [b"/b", b"/a"]


def test_link_of_a_file_without_a_name(pod: Pod, kernel: Kernel) -> None:
    body = protocol.CREATE_IN.pack(os.O_RDWR | os.O_TMPFILE, 0o100600, 0, 0)
    made = kernel.call(kernel.files.tmpfile, Op.TMPFILE, ROOT, body)
    number = read_entry(made).node
    assert link(kernel, number, "named") == number
    assert isinstance(pod.asked[-1], LinkFile)
    assert pod.asked[-1].path == b""
    assert (pod.folder / "named").exists()
    assert kernel.inode(number).path == b"/named"


def test_a_change_of_a_file_is_one_by_all_its_names(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    link(kernel, number, "b")
    kernel.lookup("b")
    kernel.lookup("a")
    kernel.setattr(number, SET_MODE, mode=0o600)
    assert kernel.tree.knowledge.look(b"/b") is None or kernel.lookup("b").attr.mode & 0o777 == 0o600
    assert kernel.lookup("a").attr.mode & 0o777 == 0o600


# -- UNLINK, RMDIR ------------------------------------------------------------------------------------------------------


def test_unlink(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    pod.take()
    before = kernel.generation.now
    kernel.unlink("a")
    assert pod.take() == ["RemoveName"]
    assert kernel.generation.now > before
    assert not (pod.folder / "a").exists()
    assert kernel.lookup("a").node == 0
    with pytest.raises(OSError) as caught:
        _ = kernel.inode(number).path
    assert caught.value.errno == errno.ESTALE
    assert kernel.getattr(number).nlink == 0  # of who has it open with O_PATH


def test_rmdir(pod: Pod, kernel: Kernel) -> None:
    (pod.folder / "d").mkdir()
    kernel.node("d")
    kernel.call(kernel.names.rmdir, Op.RMDIR, ROOT, b"d\0")
    assert pod.asked[-1] == RemoveName(b"/d", True)
    assert kernel.lookup("d").node == 0


def test_what_could_not_be_removed_stays(pod: Pod, kernel: Kernel) -> None:
    pod.write("d/x")
    number = kernel.node("d")
    with pytest.raises(OSError) as caught:
        kernel.call(kernel.names.rmdir, Op.RMDIR, ROOT, b"d\0")
    assert caught.value.errno == errno.ENOTEMPTY
    assert kernel.node("d") == number


def test_unlink_of_one_of_two_names_changes_the_other(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    link(kernel, number, "b")
    kernel.lookup("b")
    kernel.unlink("a")
    assert kernel.lookup("b").attr.nlink == 1
    assert kernel.inode(number).path == b"/b"


def test_an_open_file_stays_readable_after_its_last_name_has_gone(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    handle = opened_here(pod, kernel, "a")
    kernel.unlink("a")
    assert pod.take() == ["OpenHandle", "RemoveName"]
    kernel.handles.get(handle).content = None
    assert kernel.read(handle) == b"hello"
    node = kernel.handles.get(handle).node
    assert kernel.getattr(node.id, handle).nlink == 0
    kernel.release(handle)
    assert pod.closed() == [handle]


def opened_here(pod: Pod, kernel: Kernel, path: str) -> int:
    """An open file of which the pod does not know."""
    kernel.tree.asking.foretell(b"/" + path.encode(), True, True, False)
    handle = kernel.open(kernel.node(path))
    assert not kernel.handles.get(handle).is_remote
    pod.take()
    return handle


@pytest.mark.parametrize("code", [errno.EACCES, errno.ENOENT])
def test_unlink_of_an_open_file_that_the_pod_does_not_open_any_more(pod: Pod, kernel: Kernel, clock: Clock, code: int) -> None:
    """Its content is here: nothing of it is lost."""
    pod.write("a", "hello")
    handle = opened_here(pod, kernel, "a")
    pod.refusals[OpenHandle] = code
    kernel.unlink("a")
    assert not (pod.folder / "a").exists()
    clock.passes(10.0)
    assert kernel.read(handle) == b"hello"
    assert kernel.read(handle, 5) == b""
    assert kernel.getattr(kernel.handles.get(handle).node.id, handle).size == 5
    kernel.release(handle)
    assert pod.closed() == []


# -- RENAME -----------------------------------------------------------------------------------------------------------


def test_rename(pod: Pod, kernel: Kernel) -> None:
    pod.write("a", "hello")
    number = kernel.node("a")
    pod.take()
    kernel.rename("a", "b")
    assert pod.take() == ["RenameFile"]
    assert (kernel.inode(number).path, kernel.node("b"), kernel.lookup("a").node) == (b"/b", number, 0)


def test_old_rename(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    kernel.node("a")
    kernel.call(kernel.names.rename, Op.RENAME, ROOT, protocol.RENAME_IN.pack(ROOT) + b"a\0b\0")
    assert pod.asked[-1] == RenameFile(b"/a", b"/b", 0)


def test_renaming_a_directory_takes_what_is_below_along(pod: Pod, kernel: Kernel) -> None:
    pod.write("d/sub/x", "hello")
    number = kernel.node("d/sub/x")
    (pod.folder / "to").mkdir()
    kernel.rename("d", "e", to=kernel.node("to"))
    assert kernel.inode(number).path == b"/to/e/sub/x"
    assert kernel.getattr(number).size == 5
    assert kernel.lookup("d").node == 0
    assert kernel.node("to/e/sub/x") == number


def test_rename_over_an_open_file(pod: Pod, kernel: Kernel) -> None:
    pod.write("new", "new")
    pod.write("old", "older")
    handle = opened_here(pod, kernel, "old")
    number = kernel.node("new")
    pod.take()
    kernel.rename("new", "old")
    assert pod.take() == ["OpenHandle", "RenameFile"]
    kernel.handles.get(handle).content = None
    assert kernel.read(handle) == b"older"
    assert kernel.node("old") == number
    assert kernel.getattr(number).size == 3


def test_rename_over_one_of_two_names_changes_the_other(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    pod.write("b")
    number = kernel.node("b")
    link(kernel, number, "c")
    kernel.node("a")
    kernel.lookup("c")
    kernel.rename("a", "b")
    assert kernel.lookup("c").attr.nlink == 1


def test_rename_of_a_name_to_another_of_the_same_file_does_nothing(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    number = kernel.node("a")
    link(kernel, number, "b")
    kernel.rename("a", "b")
    assert {path.name for path in pod.folder.iterdir()} == {"a", "b"}
    assert kernel.node("a") == kernel.node("b") == number
    assert sorted(kernel.inode(number).paths) == [b"/a", b"/b"]


def test_exchange(pod: Pod, kernel: Kernel) -> None:
    pod.write("d/x", "hello")
    pod.write("f", "file")
    inside, file = kernel.node("d/x"), kernel.node("f")
    kernel.rename("d", "f", EXCHANGE)
    assert (kernel.inode(inside).path, kernel.inode(file).path) == (b"/f/x", b"/d")
    assert (kernel.node("f/x"), kernel.node("d")) == (inside, file)


def test_a_rename_that_fails(pod: Pod, kernel: Kernel) -> None:
    pod.write("a")
    pod.write("b")
    numbers = kernel.node("a"), kernel.node("b")
    with pytest.raises(FileExistsError):
        kernel.rename("a", "b", NOREPLACE)
    assert (kernel.node("a"), kernel.node("b")) == numbers


def test_what_was_written_is_in_the_pod_before_the_rename(pod: Pod, kernel: Kernel) -> None:
    """Who finds the new name must find the content."""
    _, handle = kernel.create("a")
    call = kernel.begin_write(handle, 0, b"hello")
    call.body()
    renaming = kernel.begin_rename("a", "b")
    assert pod.take() == ["OpenHandle", "WriteHandle"]
    kernel.finish(renaming)
    assert pod.take() == ["RenameFile"]


def test_an_answer_that_was_on_its_way_during_a_rename_is_not_learnt(pod: Pod, kernel: Kernel) -> None:
    pod.write("new", "new")
    pod.write("old", "older")
    kernel.node("new")
    looking = kernel.begin_lookup("old")
    pod.carry_out()
    renaming = kernel.begin_rename("new", "old")
    assert isinstance(pod.waiting[0].message, Walk)
    pod.answer(1)
    renaming.body()
    pod.answer(0)
    kernel.finish(looking)
    assert kernel.lookup("old").attr.size == 3


# -- policy -----------------------------------------------------------------------------------------------------------


def test_what_policy_does_not_let_the_program_change_is_read_only(pod: Pod, kernel_with: Callable[..., Kernel]) -> None:
    kernel = kernel_with(may_write=lambda path: path.startswith(b"/tmp"))
    pod.write("etc/a")
    pod.write("tmp/b")
    etc, tmp, a = kernel.node("etc"), kernel.node("tmp"), kernel.node("etc/a")
    pod.take()
    name = b"x\0"
    attempts: list[tuple[Any, Op, int, bytes]] = [
        (kernel.names.mkdir, Op.MKDIR, etc, protocol.MKDIR_IN.pack(0, 0) + name),
        (kernel.names.mknod, Op.MKNOD, etc, protocol.MKNOD_IN.pack(0, 0, 0) + name),
        (kernel.names.symlink, Op.SYMLINK, etc, name + name),
        (kernel.names.link, Op.LINK, etc, protocol.LINK_IN.pack(a) + name),
        (kernel.names.unlink, Op.UNLINK, etc, b"a\0"),
        (kernel.names.rmdir, Op.RMDIR, etc, b"a\0"),
        (kernel.names.rename2, Op.RENAME2, etc, protocol.RENAME2_IN.pack(tmp, 0) + b"a\0c\0"),
        (kernel.names.rename2, Op.RENAME2, tmp, protocol.RENAME2_IN.pack(etc, 0) + b"b\0c\0"),
        (kernel.files.create, Op.CREATE, etc, protocol.CREATE_IN.pack(2, 0o600, 0, 0) + name),
        (kernel.files.tmpfile, Op.TMPFILE, etc, protocol.CREATE_IN.pack(2, 0o600, 0, 0)),
        (kernel.files.open, Op.OPEN, a, protocol.OPEN_IN.pack(os.O_WRONLY, 0)),
        (kernel.files.open, Op.OPEN, a, protocol.OPEN_IN.pack(os.O_RDONLY | os.O_TRUNC, 0)),
        (kernel.attributes.setattr, Op.SETATTR, a, bytes(protocol.SETATTR_IN.size)),
        (kernel.attributes.access, Op.ACCESS, a, protocol.ACCESS_IN.pack(os.W_OK)),
        (kernel.attributes.setxattr, Op.SETXATTR, a, protocol.SETXATTR_IN.pack(1, 0) + b"user.a\0v"),
        (kernel.attributes.removexattr, Op.REMOVEXATTR, a, b"user.a\0"),
    ]
    for handler, op, node, body in attempts:
        with pytest.raises(OSError) as caught:
            kernel.call(handler, op, node, body)
        assert caught.value.errno == errno.EROFS, op
    assert pod.take() == []
    assert mkdir(kernel, "x", tmp)


def test_nothing_is_kept_where_nothing_counts(pod: Pod, kernel_with: Callable[..., Kernel]) -> None:
    kernel = kernel_with(lifetimes=Lifetimes(0.0, 0.0))
    pod.write("a", "hello")
    for _ in range(2):
        entry = kernel.lookup("a")
        assert (entry.entry_s, entry.attr_s) == (0.0, 0.0)
    assert pod.take() == ["Walk"] * 2


def test_failures_of_the_session(pod: Pod, kernel: Kernel) -> None:
    looking = kernel.begin_lookup("a")
    pod.answer(0, Failed(errno.ECONNRESET))
    with pytest.raises(ConnectionResetError):
        looking.body()
