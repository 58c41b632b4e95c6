from __future__ import annotations

import os
import stat

import pytest
from mirrord_trace.agent.tree import names
from mirrord_trace.agent.wire.file_messages import LinkFile, MakeLink, MakeNode, RemoveName, RenameFile
from mirrord_trace.agent.wire.messages import Done

pytestmark = pytest.mark.usefixtures("same_fds")


@pytest.fixture(autouse=True)
def no_umask():
    before = os.umask(0)
    yield
    os.umask(before)


def test_nodes_with_the_mode_as_it_comes(root, at):
    for path, mode in (
        (b"/file", stat.S_IFREG | 0o666),
        (b"/directory", stat.S_IFDIR | 0o777),
        (b"/sticky", stat.S_IFDIR | 0o1777),
        (b"/fifo", stat.S_IFIFO | 0o606),
        (b"/socket", stat.S_IFSOCK | 0o600),
    ):
        made = names.make_node(root, MakeNode(path, mode, 0)).stat
        assert made.mode == mode == os.lstat(at(path)).st_mode
        assert made.ino == os.lstat(at(path)).st_ino


def test_devices(root, at, code_of):
    request = MakeNode(b"/null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    if os.geteuid() != 0:
        assert code_of(names.make_node, root, request) == "EPERM"
        pytest.skip("devices: this needs root")
    assert names.make_node(root, request).stat.rdev == os.makedev(1, 3) == os.stat(at(b"/null")).st_rdev


def test_a_parent_that_is_a_link_is_followed_inside_the_root(root, at):
    os.mkdir(at(b"/real"))
    os.symlink(b"/real", at(b"/link"))
    names.make_node(root, MakeNode(b"/link/file", stat.S_IFREG | 0o600, 0))
    assert os.path.exists(at(b"/real/file"))


def test_the_last_name_is_not_followed(root, at, put, code_of):
    put(b"/file")
    os.symlink(b"none", at(b"/link"))
    assert code_of(names.make_node, root, MakeNode(b"/link", stat.S_IFREG | 0o600, 0)) == "EEXIST"
    assert names.link_path(root, LinkFile(b"/link", 0, b"/second")).stat.ino == os.lstat(at(b"/link")).st_ino
    assert names.rename_file(root, RenameFile(b"/link", b"/renamed", 0)) == Done()
    assert os.readlink(at(b"/renamed")) == b"none"
    assert names.remove_name(root, RemoveName(b"/renamed", False)) == Done()
    assert not os.path.lexists(at(b"/renamed"))


def test_links(root, at, put):
    made = names.make_link(root, MakeLink(b"/link", b"no \xff where"))
    assert os.readlink(at(b"/link")) == b"no \xff where"
    assert stat.S_ISLNK(made.stat.mode)
    put(b"/file")
    assert names.link_path(root, LinkFile(b"/file", 0, b"/second")).stat.nlink == 2
    assert os.path.samefile(at(b"/file"), at(b"/second"))


def test_an_open_file_without_a_name_gets_one(root, at):
    try:
        fd = os.open(at(b"/"), os.O_TMPFILE | os.O_RDWR, 0o600)
    except OSError as error:
        pytest.skip(f"the file system has no O_TMPFILE: {error}")
    os.write(fd, b"content")
    assert names.link_open_file(root, fd, b"/file").stat.nlink == 1
    os.close(fd)
    with open(at(b"/file"), "rb") as file:
        assert file.read() == b"content"


def test_renaming_with_flags(root, at, put, code_of):
    put(b"/a", b"a")
    put(b"/b", b"b")
    assert code_of(names.rename_file, root, RenameFile(b"/a", b"/b", 1)) == "EEXIST"
    names.rename_file(root, RenameFile(b"/a", b"/b", 2))
    with open(at(b"/a"), "rb") as file:
        assert file.read() == b"b"
    names.rename_file(root, RenameFile(b"/a", b"/b", 0))
    assert os.listdir(at(b"/")) == [b"b"]


@pytest.mark.parametrize(
    ("call", "request_", "code"),
    [
        (names.make_node, MakeNode(b"/", stat.S_IFDIR | 0o700, 0), "EEXIST"),
        (names.make_node, MakeNode(b"/..", stat.S_IFDIR | 0o700, 0), "EEXIST"),
        (names.make_node, MakeNode(b"/file/x", stat.S_IFREG | 0o600, 0), "ENOTDIR"),
        (names.make_node, MakeNode(b"/none/x", stat.S_IFREG | 0o600, 0), "ENOENT"),
        (names.make_link, MakeLink(b"/", b"x"), "EEXIST"),
        (names.make_link, MakeLink(b"/file", b"x"), "EEXIST"),
        (names.link_path, LinkFile(b"/", 0, b"/x"), "EPERM"),
        (names.link_path, LinkFile(b"/full", 0, b"/x"), "EPERM"),
        (names.link_path, LinkFile(b"/file", 0, b"/"), "EEXIST"),
        (names.remove_name, RemoveName(b"/", True), "EBUSY"),
        (names.remove_name, RemoveName(b"/", False), "EISDIR"),
        (names.remove_name, RemoveName(b"/full", True), "ENOTEMPTY"),
        (names.remove_name, RemoveName(b"/full", False), "EISDIR"),
        (names.remove_name, RemoveName(b"/full/.", True), "EINVAL"),
        (names.remove_name, RemoveName(b"/full/..", True), "ENOTEMPTY"),
        (names.remove_name, RemoveName(b"/file", True), "ENOTDIR"),
        (names.remove_name, RemoveName(b"/none", False), "ENOENT"),
        (names.rename_file, RenameFile(b"/", b"/x", 0), "EBUSY"),
        (names.rename_file, RenameFile(b"/file", b"/", 0), "EBUSY"),
        (names.rename_file, RenameFile(b"/file", b"/full", 0), "EISDIR"),
        (names.rename_file, RenameFile(b"/full", b"/full/x", 0), "EINVAL"),
    ],
)
def test_errors_are_the_kernels(root, at, put, code_of, call, request_, code):
    put(b"/file")
    os.mkdir(at(b"/full"))
    put(b"/full/file")
    assert code_of(call, root, request_) == code
