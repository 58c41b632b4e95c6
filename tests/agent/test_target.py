from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from mirrord_trace.agent import target
from mirrord_trace.agent.options import Options

ID = "0123456789abcdef" * 4


@pytest.fixture
def proc(monkeypatch):
    """A /proc of the test's making: `proc(pid, cgroup=..., ...)` adds a process."""
    files = {}

    def add(pid, cgroup="0::/\n", state="S", inner=None, start=100, name="app", cmdline=b"/app\0"):
        fields = [state.encode()] + [b"0"] * 18 + [b"%d" % start]
        files[f"/proc/{pid}/cgroup"] = cgroup.encode()
        files[f"/proc/{pid}/stat"] = b"%d (odd) name) " % pid + b" ".join(fields)
        files[f"/proc/{pid}/status"] = f"Name:\t{name}\nNSpid:\t{pid}\t{inner or pid}\n".encode()
        files[f"/proc/{pid}/cmdline"] = cmdline

    def read(path):
        try:
            return files[path]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, path) from None

    monkeypatch.setattr(target, "_read", read)
    monkeypatch.setattr(target, "_is_ours", lambda pid: False)
    monkeypatch.setattr(os, "listdir", lambda path: ["self", "net", *sorted({p.split("/")[2] for p in files})])
    return add


LAYOUTS = {
    "from the node": f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n",
    "from another container": f"0::/../cri-containerd-{ID}.scope\n",
    "cgroup v1": f"12:memory:/k8s.io/{ID}\n11:cpu:/k8s.io/{ID}\n0::/\n",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=list(LAYOUTS))
def test_the_containers_first_process_is_found(proc, layout):
    proc(1)
    proc(50, layout, inner=7, start=300)  # kubectl exec
    proc(60, layout, inner=1, start=200)
    proc(61, layout, inner=2, start=210)
    assert target.find_pid(Options(container_id=ID)) == 60


def test_in_a_shared_process_namespace_the_oldest_is_taken(proc):
    proc(1, name="pause", cmdline=b"/pause\0")
    proc(9, LAYOUTS["cgroup v1"], start=300)
    proc(20, LAYOUTS["cgroup v1"], start=200)
    proc(8, LAYOUTS["cgroup v1"], start=100, state="Z")
    assert target.find_pid(Options(container_id=ID)) == 20


def test_process_1_is_taken_only_where_that_was_said(proc):
    proc(1)
    assert target.find_pid(Options(container_id=ID, target_is_init=True)) == 1
    with pytest.raises(target.TargetError) as caught:
        target.find_pid(Options(container_id=ID))
    assert caught.value.errno == errno.ESRCH
    assert ID[:12] in caught.value.text


@pytest.mark.parametrize(("name", "cmdline"), [("pause", b"/pause\0"), ("sh", b"/bin/pause\0"), ("pause", b"")])
def test_a_pause_process_is_never_taken(proc, name, cmdline):
    proc(1, name=name, cmdline=cmdline)
    with pytest.raises(target.TargetError):
        target.find_pid(Options(container_id=ID, target_is_init=True))


def test_process_1_of_the_agents_own_container_is_not_taken(proc, monkeypatch):
    proc(1)
    monkeypatch.setattr(target, "_is_ours", lambda pid: True)
    with pytest.raises(target.TargetError):
        target.find_pid(Options(container_id=ID, target_is_init=True))


def test_without_a_target_the_agent_serves_its_own_surroundings():
    assert target.find_pid(Options()) == os.getpid()


@pytest.fixture
def sleeper():
    program = "import sys; print(flush=True); sys.stdin.read()"
    environ = {b"A": b"1", b"TWO": b"a\nb", b"BAD": b"\xff"}
    process = subprocess.Popen(
        [sys.executable, "-Ic", program, "", "last"],
        env=environ,
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    process.stdout.readline()
    yield process
    process.communicate()


def test_a_process_is_read_as_it_is(sleeper):
    found = target.open_target(Options(pid=sleeper.pid))
    found.root.close()
    assert {b"A=1", b"TWO=a\nb", b"BAD=\xff"} <= set(found.environ)
    assert found.arguments[-2:] == (b"", b"last")
    assert found.working_directory == b"/"
    assert found.pid == sleeper.pid


def test_entering_the_namespaces_that_are_ours_needs_no_right(sleeper):
    target.enter_namespaces(sleeper.pid)


def test_entering_moves_into_all_that_differ(pod):
    names = ("user", "net", "uts")

    def links(pid):
        return [os.readlink(f"/proc/{pid}/ns/{name}") for name in names]

    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            target.enter_namespaces(pod.pid)
            os.write(writer, b"same" if links("self") == links(pod.pid) else b"other")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    assert os.read(reader, 10) == b"same"
    os.close(reader)


def test_a_process_that_is_gone(sleeper):
    sleeper.communicate()
    with pytest.raises(target.TargetError, match="no process"):
        target.open_target(Options(pid=sleeper.pid))
    with pytest.raises(target.TargetError, match="has ended"):
        target.enter_namespaces(sleeper.pid)


def test_a_process_of_somebody_else():
    if os.geteuid() in (0, os.stat("/proc/1").st_uid):
        pytest.skip("this needs an ordinary user and a process 1 of another one")
    with pytest.raises(target.TargetError, match="must be the target's user") as caught:
        target.open_target(Options(pid=1))
    assert caught.value.errno == errno.EPERM
