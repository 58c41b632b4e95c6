from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from mirrord_trace.supervisor.targets.demo import rootfs
from mirrord_trace.supervisor.targets.demo.pod import DemoPod


def test_content_is_the_same_each_time() -> None:
    assert rootfs.files() == rootfs.files()
    assert len(rootfs.big_content()) == rootfs.BIG_BYTES


def test_populate_writes_files_links_and_the_fifo(tmp_path: Path) -> None:
    rootfs.populate(str(tmp_path))
    for path, content in rootfs.files().items():
        assert (tmp_path / path.lstrip("/")).read_bytes() == content, path
    for path, target in rootfs.LINKS.items():
        assert os.readlink(tmp_path / path.lstrip("/")) == target
    assert len(os.listdir(tmp_path / "app" / "many")) == rootfs.MANY
    assert stat.S_ISFIFO((tmp_path / "app" / "fifo").stat().st_mode)


def test_populate_wants_an_empty_place(tmp_path: Path) -> None:
    rootfs.populate(str(tmp_path))
    with pytest.raises(FileExistsError):
        rootfs.populate(str(tmp_path))


def test_the_pods_root_is_the_tree_and_nothing_else(pod: DemoPod) -> None:
    root = f"/proc/{pod.pid}/root"
    assert set(os.listdir(root)) == {"app", "dev", "etc", "proc", "root", "run", "tmp", "var"}
    assert Path(root, "etc/hostname").read_text() == f"{rootfs.HOSTNAME}\n"
    assert stat.S_ISCHR(os.stat(f"{root}/dev/null").st_mode)
    assert Path(root, "app/big.bin").stat().st_size == rootfs.BIG_BYTES
    # Its process 1 is the container, since its /proc is its own.
    assert b"demo.node" in Path(root, "proc/1/cmdline").read_bytes()


def test_its_mounts_are_not_seen_here(pod: DemoPod) -> None:
    assert os.stat(f"/proc/{pod.pid}/root").st_dev != os.stat("/").st_dev
    assert not os.path.exists("/app/many/file-0000")
