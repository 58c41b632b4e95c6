"""Mount tables as container runtimes make them, and a real one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mirrord_trace.agent.root import Root
from mirrord_trace.agent.volumes import parse, volumes

# containerd, a service account, a ConfigMap by subPath, an emptyDir in memory, a hostPath, a claim; twice mounted, masked.
CONTAINER = b"""\
1001 900 0:97 / / rw,relatime master:301 - overlay overlay rw,lowerdir=/l,upperdir=/u,workdir=/w
1002 1001 0:99 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
1003 1001 0:100 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
1004 1003 0:101 / /dev/pts rw,nosuid,noexec,relatime - devpts devpts rw,gid=5,mode=620
1005 1003 0:96 / /dev/mqueue rw,nosuid,nodev,noexec,relatime - mqueue mqueue rw
1006 1001 0:98 / /sys ro,nosuid,nodev,noexec,relatime - sysfs sysfs ro
1007 1006 0:28 / /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime - cgroup2 cgroup rw
1008 1001 254:1 /var/lib/kubelet/pods/1/etc-hosts /etc/hosts rw,relatime - ext4 /dev/vda1 rw
1009 1003 254:1 /var/lib/kubelet/pods/1/containers/web/2 /dev/termination-log rw,relatime - ext4 /dev/vda1 rw
1010 1001 254:1 /var/lib/containerd/x/hostname /etc/hostname rw,relatime - ext4 /dev/vda1 rw
1011 1001 254:1 /var/lib/containerd/x/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/vda1 rw
1012 1003 0:95 / /dev/shm rw,nosuid,nodev,noexec,relatime - tmpfs shm rw,size=65536k
1013 1001 0:90 / /run/secrets/kubernetes.io/serviceaccount ro,relatime - tmpfs tmpfs rw,size=1g
1014 1001 254:1 /var/lib/kubelet/pods/1/volume-subpaths/config/web/0 /etc/app/my\\040config.yaml ro - ext4 /dev/vda1 rw
1015 1001 0:91 / /cache rw,relatime - tmpfs tmpfs rw,size=1g
1016 1001 254:1 /var/log/pods /host/log\\134s ro,relatime master:1 propagate_from:2 - ext4 /dev/vda1 rw
1017 1001 8:16 / /data rw,relatime - xfs /dev/sdb rw
1018 1017 8:32 / /data rw,relatime - xfs /dev/sdc rw
1019 1017 8:48 / /data/inner rw,relatime - xfs /dev/sdd rw
1020 1001 8:48 / /data-2 rw,relatime - xfs /dev/sdd rw
1021 1001 8:48 /lib/x /usr/lib/x86_64-linux-gnu/libcuda.so.535.1 ro,relatime - xfs /dev/sdd rw
1022 1002 0:99 /bus /proc/bus ro,nosuid,nodev,noexec,relatime - proc proc rw
1023 1002 0:102 / /proc/acpi ro,relatime - tmpfs tmpfs ro
1024 1006 0:103 / /sys/firmware ro,relatime - tmpfs tmpfs ro
1025 1001 8:48 / /gone//deleted rw,relatime - xfs /dev/sdd rw
"""


def test_what_is_a_volume() -> None:
    assert parse(CONTAINER) == (
        b"/cache",
        b"/data",
        b"/data-2",
        b"/etc/app/my config.yaml",
        b"/host/log\\s",
        b"/run/secrets/kubernetes.io/serviceaccount",
    )


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"x", b"1 2 3 / /data rw", b"1 2 - xfs x", b"1 2 3 / relative rw - xfs x rw\n"]
)
def test_what_is_no_mount_table(content: bytes) -> None:
    assert parse(content) == ()


def test_a_process_of_this_machine_has_no_volumes() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        root = Root(os.open("/", os.O_PATH))
        assert volumes(process.pid, root) == ()
        root.close()
        process.kill()


def test_an_agent_that_is_its_own_target_has_those_of_its_container() -> None:
    root = Root(os.open("/", os.O_PATH))
    assert set(parse(Path("/proc/self/mountinfo").read_bytes())) <= set(volumes(os.getpid(), root))
    root.close()


def test_a_process_that_has_ended_has_none() -> None:
    root = Root(os.open("/", os.O_PATH))
    assert volumes(2**22 + 1, root) == ()
    root.close()


_JAILED = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments):
        print(name, os.strerror(ctypes.get_errno()), flush=True)
        sys.exit(1)
jail = sys.argv[1]
for name in ("run/secrets", "a b", "var"):
    os.makedirs(f"{jail}/{name}")
os.symlink(sys.argv[2], f"{jail}/var/run")
if os.geteuid():
    call("unshare", 0x10000000)
call("unshare", 0x00020000)
call("mount", b"none", b"/", None, ctypes.c_ulong(0x4000 | 0x40000), None)
for name in ("run/secrets", "a b"):
    call("mount", b"tmpfs", f"{jail}/{name}".encode(), b"tmpfs", ctypes.c_ulong(0), None)
os.chroot(jail)
print("ok", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("link", "alias"), [("/run", (b"/var/run/secrets",)), ("/elsewhere", ())])
def test_paths_count_from_the_targets_own_root(tmp_path: Path, link: str, alias: tuple) -> None:
    command = [sys.executable, "-c", _JAILED, str(tmp_path), link]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        try:
            if said != "ok\n":
                pytest.skip(f"mount namespaces are not allowed here: {said.strip()}")
            root = Root(os.open(f"/proc/{process.pid}/root", os.O_PATH))
            assert volumes(process.pid, root) == (b"/a b", b"/run/secrets", *alias)
            root.close()
        finally:
            process.kill()
