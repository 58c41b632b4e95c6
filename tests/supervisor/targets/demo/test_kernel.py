from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest
from mirrord_trace.supervisor.targets.demo import kernel


def test_a_refusal_names_the_call() -> None:
    with pytest.raises(OSError, match="setns: Bad file descriptor") as failure:
        kernel.setns(-1, kernel.CLONE_NEWNET)
    assert failure.value.errno == errno.EBADF


def test_mount_and_umount_pass_their_arguments() -> None:
    with pytest.raises(OSError, match="umount2: "):
        kernel.umount("/nowhere/at/all")
    with pytest.raises(OSError, match="mount: "):
        kernel.mount("none", "/nowhere/at/all", "tmpfs")
    with pytest.raises(OSError, match="pivot_root: "):
        kernel.pivot_root("/nowhere/at/all", "/nowhere/at/all")


# In a process of its own: it must not have threads, and cannot leave the namespace again.
def test_new_namespaces_have_their_own_hostname() -> None:
    program = (
        "import os\n"
        "from mirrord_trace.supervisor.targets.demo import kernel\n"
        "kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWUTS)\n"
        "kernel.sethostname(b'renamed')\n"
        "print(os.uname().nodename)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "renamed\n", done.stderr
    assert os.uname().nodename != "renamed"


def test_a_child_dies_with_its_parent() -> None:
    told, tell = os.pipe()
    parent = os.fork()
    if parent == 0:
        if os.fork() == 0:
            kernel.die_with_parent(signal.SIGKILL)
            os.write(tell, b"ready")
            signal.pause()
        signal.pause()
    os.close(tell)
    with open(told, "rb", buffering=0) as pipe:
        assert pipe.read(5) == b"ready"
        os.kill(parent, signal.SIGKILL)
        os.waitpid(parent, 0)
        # The grandchild held the other end until it died as well.
        assert pipe.read() == b""
