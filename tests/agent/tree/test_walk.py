from __future__ import annotations

import errno
import os
import stat

import pytest
from mirrord_trace.agent.root import Root
from mirrord_trace.agent.tree import walk as walking
from mirrord_trace.agent.wire.file_messages import Walk
from mirrord_trace.agent.wire.stats import unpack_stats


@pytest.fixture
def walk(root, same_fds):
    def go(path, follow=True, limit=0):
        walked = walking.walk(root, Walk(path, follow, limit))
        assert len(walked.paths) == len(walked.targets) == len(unpack_stats(walked.stats))
        return walked

    return go


@pytest.fixture
def tree(root, at, put):
    os.makedirs(at(b"/usr/lib"))
    put(b"/usr/lib/file")
    os.symlink(b"usr/lib", at(b"/lib"))
    os.symlink(b"../../lib/file", at(b"/usr/lib/link"))
    os.symlink(b"/usr/lib/link", at(b"/absolute"))
    os.symlink(b"loop", at(b"/loop"))
    os.symlink(b"../../../etc/hostname", at(b"/out"))
    os.symlink(b"/usr/./lib//../none/x", at(b"/dangling"))


def test_each_object_on_the_way_with_its_attributes(walk, tree, at):
    walked = walk(b"/usr/lib/file")
    assert walked.paths == (b"/", b"/usr", b"/usr/lib", b"/usr/lib/file")
    assert walked.targets == (b"",) * 4
    assert (walked.errno, walked.missing, walked.has_content) == (0, b"", False)
    assert [entry.ino for entry in unpack_stats(walked.stats)] == [os.stat(at(path)).st_ino for path in walked.paths]


def test_links_are_told_with_their_targets_and_followed(walk, tree):
    walked = walk(b"/absolute")
    met = dict(zip(walked.paths, walked.targets, strict=True))
    assert met == {
        b"/": b"",
        b"/absolute": b"/usr/lib/link",
        b"/usr": b"",
        b"/usr/lib": b"",
        b"/usr/lib/link": b"../../lib/file",
        b"/lib": b"usr/lib",
        b"/usr/lib/file": b"",
    }
    assert walked.paths[-1] == b"/usr/lib/file"


def test_a_last_link_is_followed_on_demand(walk, tree):
    assert walk(b"/absolute", follow=False).paths == (b"/", b"/absolute")
    assert walk(b"/lib/", follow=False).paths == (b"/", b"/lib", b"/usr", b"/usr/lib")
    assert walk(b"/lib/file", follow=False).paths[-1] == b"/usr/lib/file"


def test_the_end_is_last_even_if_it_was_met_before(walk, tree):
    for path, end in (
        (b"/usr/lib/..", b"/usr"),
        (b"/usr/lib/../..", b"/"),
        (b"/usr/../..", b"/"),
        (b"/", b"/"),
        (b"/.", b"/"),
    ):
        walked = walk(path)
        assert (walked.errno, walked.paths[-1]) == (0, end)
        assert len(set(walked.paths)) >= len(walked.paths) - 1


@pytest.mark.parametrize(
    ("path", "code", "end", "missing"),
    [
        (b"/usr/none", errno.ENOENT, b"/usr", b"/usr/none"),
        (b"/usr/none/x/y", errno.ENOENT, b"/usr", b"/usr/none"),
        (b"/dangling", errno.ENOENT, b"/usr/lib", b"/usr/none"),
        (b"/out", errno.ENOENT, b"/out", b"/etc"),
        (b"/loop", errno.ELOOP, b"/loop", b""),
        (b"/usr/lib/file/x", errno.ENOTDIR, b"/usr/lib/file", b""),
        (b"/usr/lib/file/", errno.ENOTDIR, b"/usr/lib/file", b""),
        (b"/usr/lib/file/..", errno.ENOTDIR, b"/usr/lib/file", b""),
        (b"/" + b"x" * 256, errno.ENAMETOOLONG, b"/", b""),
        (b"/x" * 2048, errno.ENOENT, b"/", b"/x"),  # longer than any call takes, but directories may be so deep
        (b"", errno.ENOENT, b"/", b""),
        (b"/a\0b", errno.EINVAL, b"/", b""),
    ],
)
def test_where_it_ends_early(walk, tree, path, code, end, missing):
    walked = walk(path)
    assert (walked.errno, walked.paths[-1], walked.missing) == (code, end, missing)


def test_forty_links_are_followed_and_no_more(walk, at, put):
    put(b"/link0")
    for number in range(1, 42):
        os.symlink(b"link%d" % (number - 1), at(b"/link%d" % number))
    assert walk(b"/link40").errno == 0
    assert walk(b"/link41").errno == errno.ELOOP


def test_a_directory_that_may_not_be_searched(walk, tree, at):
    if os.geteuid() == 0:
        pytest.skip("root may search everything: this needs an ordinary user")
    os.chmod(at(b"/usr"), 0o600)
    walked = walk(b"/usr/lib/file")
    os.chmod(at(b"/usr"), 0o700)
    assert (walked.errno, walked.paths) == (errno.EACCES, (b"/", b"/usr"))


@pytest.mark.parametrize("size", [0, 1, 5000, 9999, 10000])
def test_a_small_file_comes_along(walk, put, size):
    put(b"/file", b"x" * size)
    walked = walk(b"/file", limit=10000)
    assert (walked.has_content, walked.content) == (True, b"x" * size)


def test_what_does_not_come_along(walk, tree, at, put):
    put(b"/large", b"x" * 101)
    os.mkfifo(at(b"/fifo"))
    for path in (b"/large", b"/fifo", b"/usr", b"/", b"/usr/lib/.."):
        assert not walk(path, limit=100).has_content
    assert not walk(b"/lib", follow=False, limit=100).has_content
    assert not walk(b"/usr/lib/file", limit=0).has_content
    assert walk(b"/absolute", limit=100).content == b"content"


def test_a_file_that_may_not_be_read_is_told_without_content(walk, put):
    if os.geteuid() == 0:
        pytest.skip("root may read everything: this needs an ordinary user")
    put(b"/file", mode=0)
    walked = walk(b"/file", limit=100)
    assert (walked.errno, walked.has_content) == (0, False)


@pytest.fixture
def whole(same_fds):
    root = Root(os.open("/", os.O_PATH))
    yield lambda path, follow=True, limit=0: walking.walk(root, Walk(path, follow, limit))
    root.close()


def test_files_that_say_they_are_empty_are_read(whole):
    with open("/proc/version", "rb") as file:
        assert whole(b"/proc/version", limit=4096).content == file.read()
    assert not whole(b"/proc/kallsyms", limit=100).has_content


def test_links_of_proc_are_read_not_entered(walk, whole):
    pid = b"/proc/%d" % os.getpid()
    reader, writer = os.pipe()
    target = b"pipe:[%d]" % os.fstat(reader).st_ino
    walked = whole(pid + b"/fd/%d" % reader)
    os.close(reader)
    os.close(writer)
    assert walked.targets[-1] == target
    assert (walked.errno, walked.missing) == (errno.ENOENT, pid + b"/fd/" + target)
    walked = whole(pid + b"/root/usr")
    assert b"/" in walked.targets
    assert walked.paths[-1] == b"/usr"


def test_self_is_the_target_to_a_proc_that_does_not_know_us(root, at, put):
    walker = walking._Walker(root.fd, 77)
    os.makedirs(at(b"/proc/77"))
    fd = os.open(at(b"/proc"), os.O_PATH)
    assert walker._read_link(fd, b"self", b"/proc/self") == b"77"
    assert walker._read_link(fd, b"thread-self", b"/proc/thread-self") == b"77/task/77"
    with pytest.raises(FileNotFoundError):
        walker._read_link(fd, b"other", b"/proc/other")
    os.close(fd)


def test_it_agrees_with_the_kernel(walk, tree, root, at):
    for path in (b"/lib/link", b"/usr/../lib/../lib/file", b"/absolute", b"/./lib/.", b"/usr/lib/link"):
        fd = root.open_path(path)
        found = os.fstat(fd)
        os.close(fd)
        last = unpack_stats(walk(path).stats)[-1]
        assert (last.dev, last.ino, stat.S_IFMT(last.mode)) == (found.st_dev, found.st_ino, stat.S_IFMT(found.st_mode))
