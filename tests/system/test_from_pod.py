"""--from-pod: the pod's own program runs here, with its command line, directory, environment, files and libraries.

The pod is a process in a root file system of its own, made here of what bash and a few others need.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from file_trees import ended
from runs import Argument, Ran, Runner

_PROGRAMS = ("bash", "ls", "cat", "env", "readlink", "uname", "tar", "sed", "mkdir")
_APP = """#!/bin/bash
echo "ready: $0 $#: $2"
pwd
echo "$GREETING from $HOME"
cat /etc/motd notes
readlink /proc/self/exe
echo "$(only-there) by $BASH_VERSION"
read -r line
echo "read: $line"
echo end
"""
_LIBRARY = 'const char *answer(void) { return "only there"; }\n'
_USER = "#include <stdio.h>\nconst char *answer(void);\nint main(void) { puts(answer()); return 0; }\n"
_ENVIRONMENT = {"PATH": "/opt/tools:/bin", "HOME": "/srv/home", "GREETING": "hello", "LC_ALL": "C"}


@dataclass
class Pod:
    """A process in a root file system of its own, `root`."""

    runner: Runner
    root: Path
    process: subprocess.Popen[str]

    def run(self, *command: Argument, options: tuple[Argument, ...] = (), **more: str) -> Ran:
        """`command`, or the pod's own program, from the pod."""
        target = ["-t", f"pid/{self.process.pid}", "--from-pod", *options]
        return self.runner.traced(*command, options=target, **more)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system."""
    root = tmp_path_factory.mktemp("root")
    for folder in ("bin", "etc", "srv/app", "srv/home", "opt/tools", "opt/lib", "proc", "dev", "tmp", "var/tmp"):
        (root / folder).mkdir(parents=True)
    for name in _PROGRAMS:
        _install(root, Path(str(shutil.which(name))), root / "bin" / name)
    (root / "etc/motd").write_text("message of the pod\n")
    (root / "srv/app/notes").write_text("notes of the pod\n")
    (root / "srv/app/main").write_text(_APP)
    (root / "srv/app/main").chmod(0o755)
    (root / "answer.c").write_text(_LIBRARY)
    (root / "user.c").write_text(_USER)
    link = "gcc -o opt/tools/only-there user.c opt/lib/libonly.so -Wl,-rpath,/opt/lib"
    made = ["sh", "-ec", f"gcc -shared -fPIC -Wl,-soname,libonly.so -o opt/lib/libonly.so answer.c; {link}"]
    subprocess.run(made, cwd=root, check=True)
    return root


# With the libraries and the loader that it needs, at the same places.
def _install(root: Path, program: Path, place: Path) -> None:
    shutil.copy(program, place)
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    for library in re.findall(r"(/\S+) \(0x", listed):
        copy = root / library[1:]
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(os.path.realpath(library), copy)


@pytest.fixture
def pod(runner: Runner, root: Path) -> Iterator[Pod]:
    """The process runs, and waits for a line."""
    with _started(runner, root, "/srv/app/main", "1", "two words") as pod:
        yield pod


@contextlib.contextmanager
def _started(runner: Runner, root: Path, *command: str) -> Iterator[Pod]:
    # An ordinary user is root in a user namespace, which allows chroot(2).
    unshare = [] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user"]
    change = ["chroot", root, "/bin/env", "-i", "-C", "/srv/app", *(f"{k}={v}" for k, v in _ENVIRONMENT.items())]
    process = subprocess.Popen(
        [str(word) for word in (*unshare, *change, *command)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with ended(process):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("ready"), process.communicate("\n")
        yield Pod(runner, root, process)


def test_the_pods_own_program(pod: Pod) -> None:
    ran = pod.run(TERM="vt100", GREETING="mine", HERE="only")
    version = subprocess.run(["bash", "-c", "echo $BASH_VERSION"], capture_output=True, text=True, check=True).stdout
    assert ran.out.split("\n") == [
        "ready: /srv/app/main 2: two words", "/srv/app", "hello from /srv/home", "message of the pod", "notes of the pod",
        "/bin/readlink", f"only there by {version.strip()}", "read: ", "end", "",
    ], ran  # fmt: skip
    assert ran.status == 0


def test_another_program_of_the_pod(pod: Pod) -> None:
    assert pod.run("ls", "/").out.split() == sorted(path.name for path in pod.root.iterdir())
    assert pod.run("only-there").out == "only there\n"
    assert pod.run("./main", "x").out.split("\n")[1] == "/srv/app"
    environment = pod.run("env", TERM="vt100", HERE="only").out
    assert sorted(environment.split("\n")) == sorted([*(f"{k}={v}" for k, v in _ENVIRONMENT.items()), "TERM=vt100", ""])
    for missing in ("python3", "/usr/bin/env", "./nothing"):
        assert pod.run(missing).status == 127, missing
    assert pod.run("/etc/motd").status == 126


def test_programs_see_themselves_where_the_pod_has_them(pod: Pod) -> None:
    script = r"""
readlink /proc/self/exe; echo $BASH; readlink /proc/$$/exe
while read -r a b c d e path; do echo "$path"; done < /proc/$$/maps | sed -n 's,^/,/,p' | sed '$!N; /^\(.*\)\n\1$/!P; D'
cd /opt; ls; cd ..; pwd; cat /srv/app/../../etc/motd
command -v tar; exec -a other bash -c 'echo "$0 is here"'
"""
    ran = pod.run("bash", "-c", script)
    lines = ran.out.split("\n")
    assert lines[:3] == ["/bin/readlink", "/bin/bash", "/bin/bash"], ran
    mapped = [line for line in lines if ".so" in line and not line.startswith("/memfd")]
    assert mapped, ran
    assert all((pod.root / line[1:]).exists() for line in mapped), ran
    assert lines[-7:] == ["lib", "tools", "/", "message of the pod", "/bin/tar", "other is here", ""], ran


def test_what_it_writes_in_mode_write_is_in_the_pod(pod: Pod) -> None:
    script = "echo new > file; mkdir /srv/made; cat notes >> /srv/made/x; sed -i s/new/newer/ file"
    script += "; echo tmp > /tmp/t; tar -cf a.tar file"
    ran = pod.run("bash", "-ec", script, options=("--fs-mode", "write"))
    assert ran.status == 0, ran
    app, made = pod.root / "srv/app", pod.root / "srv/made"
    assert ((app / "file").read_text(), (made / "x").read_text()) == ("newer\n", "notes of the pod\n")
    assert (pod.root / "tmp/t").read_text() == "tmp\n"
    assert (app / "a.tar").stat().st_size == 10240
    for path in (app / "file", app / "a.tar", pod.root / "tmp/t"):
        path.unlink()
    shutil.rmtree(made)


def test_in_mode_read_nothing_of_the_pod_changes(pod: Pod) -> None:
    before = sorted(str(path) for path in pod.root.rglob("*"))
    name = f"written-{os.getpid()}"
    script = f"echo x > /tmp/{name} && cat /tmp/{name}; echo y > file; echo z > /srv/app/notes; sed -i s/n/m/ notes; echo $?"
    ran = pod.run("bash", "-c", script)
    written = Path("/tmp", name)
    assert written.read_text() == "x\n", ran
    written.unlink()
    assert ran.out == "x\n4\n", ran
    assert sorted(str(path) for path in pod.root.rglob("*")) == before
    assert (pod.root / "srv/app/notes").read_text() == "notes of the pod\n"


def test_without_the_mount_it_is_refused(pod: Pod) -> None:
    config = pod.runner.folder / "off.json"
    config.write_text(json.dumps({"feature": {"fs": {"fuse": "off"}}}))
    ran = pod.run(options=("-f", config))
    assert ran.status == 2
    assert "--from-pod runs a program of the pod's mounted tree" in ran.err, ran
