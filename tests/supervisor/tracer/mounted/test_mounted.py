"""The table of the mounted tree from end to end: real programs, a real detached mount, and a relay that answers at once."""

from __future__ import annotations

import os

import pytest
from mirrord_trace.supervisor.tracer.doors import Doors
from pod import PodTree, trace
from rig import Supervised, apart

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="a mount that is attached nowhere: this needs root")


def done(run: Supervised) -> list[str]:
    assert run.end is not None
    assert run.end.exit_code == 0, (run.end, run.output)
    return run.lines()


@apart
def test_opened_files_are_native_and_show_as_the_pods() -> None:
    pod = PodTree()
    pod.put(b"/app/x", b"from the pod")
    program = """
fd = os.open("/app/x", os.O_RDONLY)
say(os.read(fd, 100), os.readlink(f"/proc/self/fd/{fd}"), os.fstat(fd).st_size)
say(os.stat("/app/x").st_ino == os.fstat(fd).st_ino)
with open("/app/new", "w") as file: file.write("written")
os.rename("/app/new", "/app/renamed"); os.mkdir("/app/d"); os.symlink("nowhere", "/app/d/link")
say(sorted(os.listdir("/app")), os.readlink("/app/d/link"), open(f"/proc/self/fd/{fd}").read())
try: os.rename("/app/x", f"/tmp/x-{os.getpid()}")
except OSError as error: say(error.errno == errno.EXDEV)
"""
    assert done(trace(pod, program)) == [
        "b'from the pod' /app/x 12",
        "True",
        "['d', 'renamed', 'x'] nowhere from the pod",
        "True",
    ]
    with open(pod.at(b"/app/renamed")) as file:
        assert file.read() == "written"


@apart
def test_a_pod_directory_is_a_working_directory() -> None:
    pod = PodTree()
    os.makedirs(pod.at(b"/app/deep/er"))
    pod.put(b"/app/deep/x", b"x")
    program = """
os.chdir("/app/deep")
say(os.getcwd(), open("x").read(), os.stat("x").st_size, os.listdir("."))
os.chdir("er"); say(os.getcwd())
if os.fork() == 0:
    say(os.getcwd()); os.chdir(".."); say(os.getcwd(), os.path.exists("../deep/x")); os.execv("/bin/pwd", ["pwd"])
os.wait()
os.chdir("../../.."); say(os.getcwd(), os.path.isdir("proc/self"))
"""
    assert done(trace(pod, program)) == [
        "/app/deep x 1 ['x', 'er']".replace("['x', 'er']", str(os.listdir(pod.at(b"/app/deep").decode()))),
        "/app/deep/er", "/app/deep/er", "/app/deep True", "/app/deep", "/ True",
    ]  # fmt: skip


@apart
def test_scripts_and_programs_of_the_pod_run() -> None:
    pod = PodTree()
    pod.put(b"/app/run.sh", b'#!/bin/sh -e\necho "$0" "$1" "$(cat /app/run.txt)"\n', 0o755)
    pod.put(b"/app/run.txt", b"text")
    with open("/bin/echo", "rb") as file:
        pod.put(b"/app/echo", file.read(), 0o755)
    program = """
import subprocess
say(subprocess.run(["/app/run.sh", "one"], stdout=subprocess.PIPE).stdout)
say(subprocess.run(["/app/echo", "two"], stdout=subprocess.PIPE).stdout)
say(subprocess.run(["./run.sh", "three"], stdout=subprocess.PIPE, cwd="/app").stdout)
try: os.execv("/app/run.txt", ["x"])
except PermissionError: say("refused")
"""
    assert done(trace(pod, program)) == [
        "b'/app/run.sh one text\\n'", "b'two\\n'", "b'./run.sh three text\\n'", "refused",
    ]  # fmt: skip


@apart
def test_a_dynamic_program_gets_the_pods_loader() -> None:
    pod = PodTree(read_only=("^/pod(/|$)", "^/lib64/ld-linux", "^/proc/self/exe"))
    os.mkdir(pod.at(b"/lib64"))
    with open("/lib64/ld-linux-x86-64.so.2", "rb") as file:
        pod.put(b"/lib64/ld-linux-x86-64.so.2", file.read(), 0o755)
    with open("/usr/bin/readlink", "rb") as file:
        pod.put(b"/pod/readlink", file.read(), 0o755)
    pod.put(b"/pod/script", b"#!/pod/readlink -f\n", 0o755)
    program = """
import subprocess
say(subprocess.run(["/pod/readlink", "/proc/self/exe"], stdout=subprocess.PIPE).stdout)
say(subprocess.run(["other", "--help"], executable="/pod/readlink", stdout=subprocess.PIPE).stdout.split()[:2])
say(subprocess.run(["/pod/script", "/proc/self/exe"], stdout=subprocess.PIPE).stdout)
say(subprocess.run(["/bin/sh", "-c", "readlink /proc/$$/exe; exit 0"], stdout=subprocess.PIPE).stdout)
"""
    assert done(trace(pod, program)) == [
        "b'/pod/readlink\\n'",
        "[b'Usage:', b'other']",
        "b'/pod/script\\n/pod/readlink\\n'",
        f"b'{os.path.realpath('/bin/sh')}\\n'",
    ]


@apart
def test_another_user_comes_in_by_a_door() -> None:
    pod = PodTree(read_write=("^/app(/|$)",))
    made: list[Doors] = []
    pod.doors = lambda mount: made.append(Doors(mount, pod.root)) or made[0]  # type: ignore[func-returns-value]
    pod.put(b"/app/x", b"x")
    pod.put(b"/app/secret", b"x", 0o600)
    os.mkdir(pod.at(b"/app/theirs"))
    os.chown(pod.at(b"/app/theirs"), 65534, 65534)
    program = """
fd = os.open("/app", os.O_RDONLY)
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
say(open("/app/x").read(), open("x", opener=lambda path, flags: os.open(path, flags, dir_fd=fd)).read())
for path in ("/app/secret", "/app/none"):
    try: open(path)
    except OSError as error: say(error.errno)
open("/app/theirs/a", "w").close(); os.rename("/app/theirs/a", "/app/theirs/b")
os.chdir("/app/theirs"); say(os.getcwd(), os.listdir("."), os.stat("b").st_uid)
if os.fork() == 0: say(open("/app/x").read()); os._exit(0)
os.wait()
"""
    run = trace(pod, program)
    assert done(run) == ["x x", "13", "2", "/app/theirs ['b'] 65534", "x"]
    made[0].close()


@apart
def test_the_first_program_may_be_the_pods() -> None:
    pod = PodTree()
    pod.put(b"/app/run.sh", b'#!/bin/sh\necho "$0" "$@"\n', 0o755)
    assert done(trace(pod, ["/app/run.sh", "one", "two"])) == ["/app/run.sh one two"]
    with open("/bin/echo", "rb") as file:
        pod.put(b"/app/echo", file.read(), 0o755)
    assert done(trace(pod, ["/app/echo", "one"])) == ["one"]


@apart
def test_stops_of_each_kind_of_call() -> None:
    pod = PodTree()
    pod.put(b"/app/x", b"x")

    def stops(call: str, times: int) -> int:
        before = "fd = os.open('/app', os.O_RDONLY); file = os.open('/app/x', os.O_RDWR); os.chdir('/app'); os.getcwd()\n"
        return trace(pod, before + f"for _ in range({times}): {call}").loop.stops

    costs = {
        "os.close(os.open('/app/x', 0))": 2,
        "os.close(os.open('x', 0))": 1,
        "os.close(os.open('x', 0, dir_fd=fd))": 1,
        "os.stat('/app/x')": 1,
        "os.stat('x')": 1,
        "os.access('/app/x', 0)": 1,
        "os.getcwd()": 1,
        "os.fchdir(fd)": 1,
        "os.chdir('/app')": 2,
        "os.pread(file, 1, 0); os.pwrite(file, b'x', 0); os.ftruncate(file, 1); os.fchmod(file, 0o644)": 0,
        "os.chmod('/app/x', 0o644)": 2,
        "os.path.exists('/usr/none')": 1,
    }
    assert {call: (stops(call, 30) - stops(call, 10)) / 20 for call in costs} == costs


@apart
def test_errors_are_the_kernels() -> None:
    pod = PodTree(mapping=[("^/mapped", "/pod")])
    pod.put(b"/app/x", b"x")
    pod.put(b"/pod/y", b"y")
    program = """
def tried(function, *arguments, **more):
    try: return function(*arguments, **more)
    except OSError as error: return errno.errorcode[error.errno]
say(tried(os.rmdir, "/app/x/"), tried(os.rmdir, "/app/."), tried(os.mkdir, "/app/n/."), tried(os.open, "/app/x/", 0))
say(tried(os.open, "/app/" + "a" * 300, 0), tried(os.open, "/app" + "/./a" * 1100, 0),
    tried(os.link, "/app/x", f"/tmp/x-{os.getpid()}"))
os.mkdir("/app/d"); os.chdir("/app/d"); os.rmdir("/app/d")
say(tried(os.getcwd), tried(os.open, "x", os.O_CREAT), os.listdir("."))
os.chdir("/mapped"); say(os.getcwd(), os.listdir("."), os.stat("y").st_size, tried(os.stat, "../mapped/none"))
deep = os.open("/app", os.O_RDONLY)
for _ in range(30):
    os.mkdir("d" * 200, dir_fd=deep); deep = os.open("d" * 200, os.O_RDONLY, dir_fd=deep)
os.fchdir(deep); say(tried(os.getcwd), tried(os.close, tried(os.open, "new", os.O_CREAT | os.O_WRONLY)), os.listdir("."))
os.chdir("/"); say(os.getcwd())
"""
    assert done(trace(pod, program)) == [
        "ENOTDIR EINVAL ENOENT ENOTDIR",
        "ENAMETOOLONG ENAMETOOLONG EXDEV",
        "ENOENT ENOENT []",
        "/mapped ['y'] 1 ENOENT",
        "ENOENT None ['new']",  # glibc goes on by itself after ENAMETOOLONG
        "/",
    ]
