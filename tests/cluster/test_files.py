"""The files of a real pod, read, written and executed by programs on this machine, with each kind of agent."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import manifests
from .access import Cluster, Pod
from .product import Tool, node_pid

_USER = 1000
_GROUP = 2000

_PYTHON_DOES = """
import fcntl, mmap, os, sqlite3, sys
os.chdir("/scratch/work")
print(os.getcwd())
database = sqlite3.connect("data.db")
database.execute("create table numbers (number)")
database.executemany("insert into numbers values (?)", [(number,) for number in range(1000)])
database.commit()
database.execute("pragma journal_mode=wal")
database.execute("insert into numbers values (1000)")
database.commit()
print(database.execute("select count(*), max(number) from numbers").fetchone())
with open("mapped", "w+b") as file:
    file.truncate(8192)
    with mmap.mmap(file.fileno(), 0) as view:
        view[4096:4101] = b"hello"
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
os.symlink("mapped", "link"); os.link("mapped", "other"); os.chmod("mapped", 0o640); os.utime("mapped", (1, 2))
try: os.open("/config/settings.json", os.O_WRONLY)
except OSError as error: print(type(error).__name__)
"""


@pytest.fixture
def writes(tool: Tool) -> list[str | Path]:
    """Options with which the pod's emptyDir may be written to, and with it all file names that are local by default."""
    config = tool.folder / "writes.json"
    # git is to work on the pod's files.
    tree = {"skip_build_tools": False, "feature": {"fs": {"read_write": ["^/scratch(/|$)"]}}}
    config.write_text(json.dumps(tree))
    return ["-f", config]


def _inside(pod: Pod) -> Path:
    """The root directory of the pod's first container, seen from the node, which is this machine."""
    return Path(f"/proc/{node_pid(pod.container_ids['app'])}/root")


def test_programs_write_to_a_volume(each_tool: Tool, writes: list[str | Path]) -> None:
    root = _inside(each_tool.pod)
    shutil.rmtree(root / "scratch/work", ignore_errors=True)
    script = f"""
set -e
mkdir /scratch/work && cd /scratch/work && pwd
mkdir tree && for n in 1 2 3; do echo $n > tree/$n; done && echo more >> tree/3
tar cf tree.tar tree && mkdir out && tar xf tree.tar -C out && diff -r tree out/tree && echo same
git init -q repository && cd repository && echo text > file.py && git add . &&
    git -c user.name=a -c user.email=b@c commit -qm first && git status --short && git log --format=%s && cd ..
cp -a tree copy && mv copy moved && rm moved/1 && sed -i s/2/two/ moved/2 && cat moved/2
dd if=/dev/zero of=big bs=4k count=2000 2> /dev/null && cmp -n 8192000 big /dev/zero && echo big
{shutil.which("python3")} -c '{_PYTHON_DOES}'
"""
    done = each_tool.run("bash", "-c", script, options=writes)
    assert done.ok().splitlines() == [
        "/scratch/work", "same", "first", "two", "big", "/scratch/work", "(1001, 1000)", "FileNotFoundError",
    ]  # fmt: skip
    work = root / "scratch/work"
    assert (work / "tree/3").read_text() == "3\nmore\n"
    assert (work / "mapped").read_bytes() == bytes(4096) + b"hello" + bytes(4091)
    status = (work / "mapped").stat()
    assert (oct(status.st_mode), status.st_nlink, status.st_mtime, status.st_size) == ("0o100640", 2, 2, 8192)
    assert os.readlink(work / "link") == "mapped"
    assert sorted(os.listdir(work / "moved")) == ["2", "3"]
    assert (work / "big").stat().st_size == 8_192_000


def test_volumes_are_the_pods_without_any_configuration(each_tool: Tool) -> None:
    """Also below /etc, which is local by default."""
    script = "cat /etc/app-config/mode; echo; cat /config/settings.json; echo; echo x > /config/new || echo not here"
    done = each_tool.run("sh", "-c", script)
    root = _inside(each_tool.pod)
    expected = [(root / name).read_text() for name in ("etc/app-config/mode", "config/settings.json")]
    assert done.ok() == "\n".join([*expected, "not here", ""])


def test_what_is_killed_has_written_what_it_wrote(tool: Tool, writes: list[str | Path]) -> None:
    path = f"/scratch/{uuid.uuid4().hex}"
    program = (
        f"import os; f = os.open('{path}', os.O_CREAT | os.O_WRONLY); "
        "[os.write(f, b'x' * 4096) for _ in range(1000)]; os.kill(os.getpid(), 9)"
    )
    done = tool.run("python3", "-c", program, options=writes)
    assert done.status == -9, done
    assert (_inside(tool.pod) / path[1:]).stat().st_size == 4_096_000


def test_the_pods_own_program_runs_here(each_tool: Tool) -> None:
    """A static Go server of an image from scratch: nothing of it is on this machine."""
    options = ["--from-pod", "-f", _no_incoming(each_tool.folder)]
    done = each_tool.run("/target", "-http=:none", options=options)
    assert "unknown port" in done.err, done
    assert done.status == 1, done
    done = each_tool.run("/nothing", options=options)
    assert done.status == 127, done


def _no_incoming(folder: Path) -> Path:
    path = folder / "no-incoming.json"
    path.write_text(json.dumps({"feature": {"network": {"incoming": "off"}}}))
    return path


@pytest.fixture
def users_pod(cluster: Cluster) -> Iterator[Pod]:
    """A target that runs as an ordinary user with a group for its volume."""
    manifest = manifests.target(f"user-{uuid.uuid4().hex[:8]}")
    app = manifests.server_container("app", http_port=8000, echo_port=8007)
    app["volumeMounts"] = manifest["spec"]["containers"][0]["volumeMounts"]
    app["securityContext"] = {"runAsUser": _USER, "runAsGroup": _USER, "capabilities": {"drop": ["ALL"]}}
    manifest["spec"]["containers"] = [app]
    manifest["spec"]["securityContext"] = {"fsGroup": _GROUP}
    pod = cluster.create(manifest)
    yield pod
    cluster.delete(pod)


def test_permissions_and_owners_are_the_pods(each_tool: Tool, users_pod: Pod, writes: list[str | Path]) -> None:
    root = _inside(users_pod)
    secret = root / "scratch/secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    target = f"pod/{users_pod.name}"
    script = (
        "umask 027; rm -f /scratch/own; echo x > /scratch/own; mkdir -p /scratch/folder; cat /scratch/secret; "
        "test -w /scratch/secret || echo not writable; stat -c '%u %g %a' /scratch/own; "
        "rm -f /scratch/secret; test -e /scratch/secret || echo removed"
    )
    done = each_tool.run("bash", "-c", script, options=writes, target=target)
    assert done.ok().splitlines() == ["not writable", f"{_USER} {_GROUP} 640", "removed"], done
    assert "Permission denied" in done.err, done
    status = (root / "scratch/own").stat()
    assert (status.st_uid, status.st_gid, oct(status.st_mode)) == (_USER, _GROUP, "0o100640")
