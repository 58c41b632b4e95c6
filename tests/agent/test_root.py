"""The confinement, by the kernel and by hand: both must give the same."""

from __future__ import annotations

import contextlib
import errno
import os
import random

import pytest
from mirrord_trace.agent.root import Root


@pytest.fixture(params=["openat2", "walk"])
def root(request, tmp_path):
    outside = tmp_path / "secret"
    outside.write_bytes(b"outside")
    inside = tmp_path / "root"
    (inside / "etc" / "deep").mkdir(parents=True)
    (inside / "etc" / "passwd").write_bytes(b"inside")
    (inside / "secret").write_bytes(b"the root's own")
    links = {
        "absolute": "/etc/passwd",
        "relative": "etc/passwd",
        "dots": "../../../../secret",
        "etc/deep/dots": "../../../../../secret",
        "outside": str(outside),
        "directory": "/etc",
        "loop": "loop2",
        "loop2": "/loop",
        "dangling": "/nowhere",
        "chain": "directory/deep/../../absolute",
        "slash": "/",
    }
    for name, target in links.items():
        os.symlink(target, inside / name)
    root = Root(os.open(inside, os.O_PATH | os.O_DIRECTORY), use_openat2=request.param == "openat2")
    if request.param == "openat2" and not root._in_kernel:
        pytest.skip("openat2 is missing")
    yield root
    root.close()


def read(root, path):
    fd = root.open_path(path)
    try:
        with open(f"/proc/self/fd/{fd}", "rb") as file:
            return file.read()
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    "path",
    [
        b"/etc/passwd",
        b"etc/passwd",
        b"//etc/./deep/..//passwd",
        b"/absolute",
        b"/relative",
        b"/chain",
        b"/directory/passwd",
        b"/slash/etc/passwd",
    ],
)
def test_paths_lead_to_the_roots_files(root, path):
    assert read(root, path) == b"inside"


@pytest.mark.parametrize("path", [b"/dots", b"/etc/deep/dots", b"/../../secret", b"/etc/../../../secret"])
def test_nothing_leads_out(root, path):
    assert read(root, path) == b"the root's own"


@pytest.mark.parametrize(
    ("path", "follow", "directory", "code"),
    [
        (b"", True, False, errno.ENOENT),
        (b"/outside", True, False, errno.ENOENT),
        (b"/dangling", True, False, errno.ENOENT),
        (b"/etc/none", True, False, errno.ENOENT),
        (b"/loop", True, False, errno.ELOOP),
        (b"/loop/x", False, False, errno.ELOOP),
        (b"/etc/passwd/x", True, False, errno.ENOTDIR),
        (b"/etc/passwd/", True, False, errno.ENOTDIR),
        (b"/etc/passwd", True, True, errno.ENOTDIR),
        (b"/directory", False, True, errno.ENOTDIR),
        (b"/" + b"x" * 256, True, False, errno.ENAMETOOLONG),
        (b"/x" * 2048, True, False, errno.ENOENT),  # longer than any call takes, but directories may be so deep
    ],
)
def test_errors_are_the_kernels(root, path, follow, directory, code):
    with pytest.raises(OSError) as caught:
        root.open_path(path, follow=follow, directory=directory)
    assert caught.value.errno == code


def test_a_final_link_is_left_alone_on_demand(root):
    fd = root.open_path(b"/absolute", follow=False)
    assert os.readlink(b"", dir_fd=fd) == b"/etc/passwd"
    os.close(fd)
    fd = root.open_path(b"/directory/", follow=False)  # the slash demands what it points to
    assert os.path.samestat(os.fstat(fd), os.stat("etc", dir_fd=root.fd))
    os.close(fd)


def test_the_root_itself(root):
    for path in (b"/", b"/..", b".", b"/slash", b"/etc/../.."):
        fd = root.open_path(path, directory=True)
        assert os.path.samestat(os.fstat(fd), os.fstat(root.fd))
        os.close(fd)


def test_no_descriptor_is_leaked(root):
    before = sorted(os.listdir("/proc/self/fd"))
    for path in (b"/chain", b"/loop", b"/etc/passwd/x", b"/none"):
        with contextlib.suppress(OSError):
            os.close(root.open_path(path))
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_both_ways_agree_on_random_paths(root):
    other = Root(os.dup(root.fd), use_openat2=not root._in_kernel)
    parts = [b"etc", b"deep", b"passwd", b"..", b".", b"", b"dots", b"directory", b"absolute", b"loop", b"slash", b"none"]
    dice = random.Random(7)
    for _ in range(300):
        path = b"/" + b"/".join(dice.choice(parts) for _ in range(dice.randrange(1, 7)))
        follow = dice.random() < 0.5
        outcomes = []
        for each in (root, other):
            try:
                fd = each.open_path(path, follow=follow)
                outcomes.append((os.fstat(fd).st_dev, os.fstat(fd).st_ino))
                os.close(fd)
            except OSError as error:
                outcomes.append(error.errno)
        assert outcomes[0] == outcomes[1], path
    other.close()


def test_the_network_is_told_by_the_agents_own_proc(root):
    with open("/proc/self/net/protocols", "rb") as file:
        protocols = file.read()
    for path in (b"/proc/net/protocols", b"/proc/self/net/protocols", b"/proc/net//protocols"):
        assert read(root, path) == protocols
    for path in (b"/proc/net/../version", b"/proc/net/nothing", b"/proc/network", b"/proc/self/status"):
        with pytest.raises(FileNotFoundError):
            root.open_path(path)


def test_the_network_directory_is_a_link(root):
    for path, follow, kind in (
        (b"/proc/net", True, 0o040000),
        (b"/proc/net", False, 0o120000),
        (b"/proc/self/net", False, 0o040000),
    ):
        fd = root.open_path(path, follow=follow)
        try:
            assert os.fstat(fd).st_mode & 0o170000 == kind
        finally:
            os.close(fd)
