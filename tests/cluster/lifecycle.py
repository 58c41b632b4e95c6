"""Brings the cluster up and takes it down, whatever state a run before left the machine in."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from . import manifests, node
from .components import component_path, write_configuration
from .images import build_images
from .kubectl import Kubectl, KubectlError, poll
from .layout import (
    BRIDGE,
    CGROUP,
    HERE,
    NODE,
    NODE_ADDRESS,
    NODE_ADDRESS_6,
    POD_RANGE,
    POD_RANGE_6,
    ClusterUnavailable,
    Layout,
)
from .programs import Say, fetch_programs, program, run

_CGROUPS = Path("/sys/fs/cgroup")
# The kubelet sets these on the whole machine.
_SYSCTLS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
_START_S = 120.0


def up(layout: Layout, say: Say) -> None:
    """Returns when the cluster answers and its pods are ready; at once if that is so already."""
    check_machine(layout)
    with _lock(layout):
        if is_healthy(layout):
            say("the cluster is up")
            return
        started = time.monotonic()
        _clean(layout, say)
        fetch_programs(layout, say)
        build_images(layout, say)
        say("starting etcd, containerd, the API server, the controllers, the scheduler and the kubelet")
        try:
            _start_node(layout)
            _fill(layout, say)
        except (TimeoutError, KubectlError, subprocess.TimeoutExpired) as error:
            raise ClusterUnavailable(f"{error}\n{_last_words(layout)}") from error
        say(f"up after {time.monotonic() - started:.0f} s")


def down(layout: Layout, say: Say) -> None:
    """Leaves nothing behind but the cache; works as well after a run that was killed."""
    if os.geteuid() != 0:
        raise ClusterUnavailable("only root can take the cluster down")
    with _lock(layout):
        _clean(layout, say)


def check_machine(layout: Layout) -> None:
    """Raises ClusterUnavailable with what this machine lacks, all of it at once."""
    missing = []
    if os.geteuid() != 0:
        missing.append("root (namespaces, cgroups and mounts of a kubelet need it)")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    needed = ("unshare", "mount", "umount", "ip")
    missing += [f"the program {name}" for name in needed if not shutil.which(name, path=path)]
    if "overlay" not in Path("/proc/filesystems").read_text():
        missing.append("overlayfs in the kernel")
    if not any((_CGROUPS / name).exists() for name in ("cgroup.controllers", "memory")):
        missing.append("cgroups mounted at /sys/fs/cgroup")
    for folder in (layout.state, layout.cache, HERE):
        if any(str(folder).startswith(f"{covered}/") for covered in node.COVERED):
            missing.append(f"another place than {folder}: the node hides {', '.join(node.COVERED)}")
    if missing:
        raise ClusterUnavailable(f"the test cluster needs {'; '.join(missing)}")


def is_healthy(layout: Layout) -> bool:
    """Whether the node lives and the API server says that all of the tests' pods are ready."""
    if _node_pid(layout) is None or not (layout.kubernetes / "kubectl").exists():
        return False
    try:
        admin(layout)("get", "--raw=/readyz", timeout_s=5)
        manifests.wait_all_ready(admin(layout), timeout_s=5)
    except (KubectlError, subprocess.TimeoutExpired):
        return False
    return True


def admin(layout: Layout) -> Kubectl:
    """kubectl with all rights."""
    return Kubectl(layout.kubernetes / "kubectl", layout.kubeconfig())


@contextlib.contextmanager
def _lock(layout: Layout) -> Iterator[None]:
    layout.cache.mkdir(parents=True, exist_ok=True)
    with open(layout.cache / "cluster.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start_node(layout: Layout) -> None:
    layout.logs.mkdir(parents=True)
    ipv6 = _has_ipv6()
    _make_bridge(ipv6=ipv6)
    _make_cgroups()
    settings = {name: value for name in _SYSCTLS if (value := _read_sysctl(name)) is not None}
    layout.saved_sysctls.write_text(json.dumps(settings))
    folders = [str(folder) for folder in component_path(layout)]
    plan = {
        "logs": str(layout.logs),
        "path": ":".join([*folders, "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]),
        "components": [asdict(component) for component in write_configuration(layout, ipv6=ipv6)],
    }
    plan_file = layout.config / "plan.json"
    plan_file.write_text(json.dumps(plan, indent=2))
    namespaces = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--propagation", "private"]
    with open(layout.logs / "node.log", "ab") as log:
        process = subprocess.Popen(
            [*namespaces, sys.executable, "-B", str(HERE / "node.py"), str(plan_file)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )
    layout.init_pid.write_text(f"{process.pid} {_start_time(process.pid)}")
    # It outlives us, and we never wait for it.
    process.returncode = 0


def _fill(layout: Layout, say: Say) -> None:
    kubectl = admin(layout)

    def alive_and(condition: bool) -> bool:
        if _node_pid(layout) is None:
            raise TimeoutError("the node ended")
        return condition

    poll("containerd's socket", lambda: alive_and(layout.socket.exists()), _START_S)
    for archive in sorted(layout.images.glob("*.tar")):
        ctr = [str(program(layout, "ctr")), f"--address={layout.socket}", "--namespace=k8s.io"]
        run([*ctr, "images", "import", str(archive)])
    ready = ("get", "--raw=/readyz")
    poll("the API server", lambda: alive_and(kubectl.run(*ready, check=False).returncode == 0), _START_S)
    say("creating the tests' pods")
    registered = ("get", "node", NODE)
    poll("the node's registration", lambda: alive_and(kubectl.run(*registered, check=False).returncode == 0), _START_S)
    manifests.create_all(kubectl, layout)


def _clean(layout: Layout, say: Say) -> None:
    if (other := _other_node(layout)) is not None:
        raise ClusterUnavailable(
            f"another cluster is up, and bridge and ports are there once only; MIRRORD_TRACE_CLUSTER_DIR={other} names it"
        )
    pids = [pid for pid in [_node_pid(layout), *_stray_nodes(layout)] if pid is not None]
    if pids:
        say("ending the cluster's processes")
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    poll("the end of the node's processes", lambda: not _stray_nodes(layout), _START_S)
    _remove_cgroups()
    _remove_network()
    _unmount(layout)
    if layout.saved_sysctls.exists():
        for name, value in json.loads(layout.saved_sysctls.read_text()).items():
            (Path("/proc/sys") / name).write_text(value)
    poll(f"the removal of {layout.state}", lambda: _remove_tree(layout.state))


def _node_pid(layout: Layout) -> int | None:
    try:
        pid, start_time = layout.init_pid.read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if _start_time(int(pid)) == start_time else None


def _start_time(pid: int) -> str | None:
    """Tells a process from a later one of the same number; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _stray_nodes(layout: Layout) -> list[int]:
    """Every process whose command line names our state folder: a node whose pid file is lost, a shim, the kubelet."""
    marker = f"{layout.state}/".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if marker in (entry / "cmdline").read_bytes() and _is_ours(entry):
                found.append(int(entry.name))
    return found


def _other_node(layout: Layout) -> Path | None:
    """The state folder of a node that is not the one of this layout."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            *_, script, plan = ["", *entry.read_bytes().decode(errors="replace").rstrip("\0").split("\0")]
            if script.endswith("/tests/cluster/node.py") and Path(plan).parents[1] != layout.state:
                return Path(plan).parents[1]
    return None


def _is_ours(process: Path) -> bool:
    """A reader of our log files, or a kubectl with our kubeconfig, is none of the node's."""
    name = Path(os.readlink(process / "exe")).name
    if name.startswith("python"):
        return b"/node.py\0" in (process / "cmdline").read_bytes()
    return name.startswith(("unshare", "containerd", "etcd", "kube-", "kubelet", "runc"))


def _has_ipv6() -> bool:
    return _read_sysctl("net/ipv6/conf/all/disable_ipv6") == "0"


def _read_sysctl(name: str) -> str | None:
    try:
        return (Path("/proc/sys") / name).read_text().strip()
    except OSError:
        return None


def _make_bridge(*, ipv6: bool) -> None:
    run(["ip", "link", "add", BRIDGE, "type", "bridge"])
    run(["ip", "address", "add", f"{NODE_ADDRESS}/{POD_RANGE.partition('/')[2]}", "dev", BRIDGE])
    if ipv6:
        run(["ip", "address", "add", f"{NODE_ADDRESS_6}/{POD_RANGE_6.partition('/')[2]}", "dev", BRIDGE, "nodad"])
    run(["ip", "link", "set", BRIDGE, "up"])


def _remove_network() -> None:
    ports = Path(f"/sys/class/net/{BRIDGE}/brif")
    for port in sorted(path.name for path in ports.glob("*")):
        run(["ip", "link", "delete", port], check=False)
    if ports.exists():
        run(["ip", "link", "delete", BRIDGE])


def _remove_cgroups() -> None:
    roots = [path for path in (_CGROUPS / CGROUP, *_CGROUPS.glob(f"*/{CGROUP}")) if path.is_dir()]
    for root in roots:
        poll(f"the end of the processes in {root}", functools.partial(_remove_cgroup, root))


def _make_cgroups() -> None:
    """The kubelet wants its root in each hierarchy that it finds; under cgroup v1 every controller is one."""
    unified = (_CGROUPS / "cgroup.controllers").exists()
    hierarchies = [_CGROUPS] if unified else [folder for folder in _CGROUPS.iterdir() if not folder.is_symlink()]
    for hierarchy in hierarchies:
        (hierarchy / CGROUP).mkdir(exist_ok=True)


def _remove_tree(folder: Path) -> bool:
    """A dying process may still write into it."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


def _remove_cgroup(folder: Path) -> bool:
    for inner, _, _ in os.walk(folder, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(inner)
    return not folder.exists()


def _unmount(layout: Layout) -> None:
    """The node's mounts end with its namespace; these are of a cluster that was set up in some other way."""
    marker = f"{layout.state}/"
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(marker)), reverse=True):
        run(["umount", "--lazy", point], check=False)


def _last_words(layout: Layout) -> str:
    lines = []
    for log in sorted(layout.logs.glob("*.log")):
        text = log.read_text(errors="replace").splitlines()
        lines += [f"--- {log.name}", *text[-5:]]
    return "\n".join(lines)
