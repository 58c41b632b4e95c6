from __future__ import annotations

import errno
import os

import pytest
from mirrord_trace.agent.tree import paths


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        (b"/a", (b"/", b"a")),
        (b"/a/b", (b"/a", b"b")),
        (b"/a/b//", (b"/a", b"b")),
        (b"/", (b"/", b"")),
        (b"//", (b"/", b"")),
        (b"/a/..", (b"/a", b"..")),
    ],
)
def test_parent_and_name(path, parts):
    assert paths.split(path) == parts


def test_what_is_no_path(root, code_of):
    assert code_of(paths.split, b"") == "ENOENT"
    assert code_of(paths.split, b"/a\0b") == "EINVAL"
    assert code_of(paths.take_object, root, b"/a\0b") == "EINVAL"
    assert code_of(paths.take_object, root, b"") == "ENOENT"


def test_an_object_is_a_link_itself(root, at, put, same_fds):
    os.mkdir(at(b"/directory"))
    os.symlink(b"directory", at(b"/link"))
    for path in (b"/link", b"/link/"):
        with paths.open_object(root, path) as fd:
            assert os.fstat(fd).st_ino == os.lstat(at(b"/link")).st_ino
            assert os.path.samestat(os.stat(paths.through(fd)), os.lstat(at(b"/link")))


def test_a_parent_is_found_through_links_inside_the_root(root, at, same_fds):
    os.mkdir(at(b"/directory"))
    os.symlink(b"/directory", at(b"/link"))
    with paths.open_parent(root, b"/link/none", errno.EBUSY) as (fd, name):
        assert os.path.samestat(os.fstat(fd), os.stat(at(b"/directory")))
        assert name == b"none"


def test_the_root_has_no_parent(root, code_of):
    def enter():
        with paths.open_parent(root, b"/", errno.EBUSY):
            pass

    assert code_of(enter) == "EBUSY"
    assert paths.failure(errno.EPERM).strerror == os.strerror(errno.EPERM)
