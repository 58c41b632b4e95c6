"""Gets the programs that the cluster is made of into the cache folder, without installing anything on the machine.

containerd, runc, etcd and the network plugins come out of Debian's packages, unpacked and not installed: so no service
starts, nothing is left behind, and the versions are the same wherever the tests run. Kubernetes itself is compiled
from its Go modules, which are served whole where its release archives may not be.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from .layout import KUBERNETES_SOURCE, ClusterUnavailable, Layout

Say = Callable[[str], None]

DEBIAN_PACKAGES = ("containerd", "runc", "etcd-server", "containernetworking-plugins", "busybox-static")
# Relative to the root of the unpacked packages.
_DEBIAN_PROGRAMS = {
    "containerd": "usr/bin/containerd",
    "containerd-shim-runc-v2": "usr/bin/containerd-shim-runc-v2",
    "ctr": "usr/bin/ctr",
    "runc": "usr/sbin/runc",
    "etcd": "usr/bin/etcd",
    "busybox": "bin/busybox",
}
_HOST_PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))


def program(layout: Layout, name: str) -> Path:
    """One of the node's programs: the cached one, or else one installed on the machine."""
    cached = layout.debian / _DEBIAN_PROGRAMS[name]
    if cached.exists():
        return cached
    installed = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if installed is None:
        raise ClusterUnavailable(f"{name} is missing, and there is no apt-get to take it from Debian's packages")
    return Path(installed)


def network_plugins(layout: Layout) -> Path:
    """The folder with the CNI plugins bridge, host-local and loopback."""
    for folder in (layout.debian / "usr/lib/cni", *_HOST_PLUGIN_FOLDERS):
        if all((folder / plugin).exists() for plugin in ("bridge", "host-local", "loopback")):
            return folder
    raise ClusterUnavailable("the CNI plugins bridge, host-local and loopback are missing")


def fetch_programs(layout: Layout, say: Say) -> None:
    """Fills the cache; does nothing when it is full already."""
    if shutil.which("apt-get") and not layout.debian.exists():
        say("unpacking containerd, runc, etcd and the network plugins from Debian's packages")
        with Unfinished(layout.debian) as folder:
            unpack_packages(DEBIAN_PACKAGES, folder)
    for name in _DEBIAN_PROGRAMS:
        program(layout, name)
    network_plugins(layout)
    _build_kubernetes(layout, say)


class Unfinished:
    """A folder that gets its real name only when its contents are complete, so that a killed run leaves no half."""

    def __init__(self, target: Path) -> None:
        """`target` is the real name; its folder need not exist."""
        self._target = target
        self._folder = target.with_name(f"{target.name}.unfinished")

    def __enter__(self) -> Path:
        """The folder to fill."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(parents=True)
        return self._folder

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Names or removes it."""
        if failure is None:
            self._folder.rename(self._target)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)


def unpack_packages(packages: Sequence[str], root: Path) -> None:
    """Lays out Debian packages under `root`, as their files are, without running their scripts."""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise ClusterUnavailable("apt-get and dpkg-deb are missing: the images are laid out from Debian's packages")
    archives = root.with_name(f"{root.name}.archives")
    shutil.rmtree(archives, ignore_errors=True)
    archives.mkdir(parents=True)
    try:
        # apt downloads as its own user if that one can write here, and warns on every call if it cannot.
        _with_fresh_lists(["apt-get", "-o", "APT::Sandbox::User=root", "download", *packages], archives)
        for archive in sorted(archives.glob("*.deb")):
            run(["dpkg-deb", "--extract", str(archive), str(root)])
    finally:
        shutil.rmtree(archives, ignore_errors=True)


def package_closure(packages: Sequence[str]) -> list[str]:
    """These packages and all that they depend on, by name."""
    leave_out = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
    depends = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in leave_out)]
    output = _with_fresh_lists([*depends, *packages])
    return sorted({line for line in output.splitlines() if re.match(r"[a-z0-9]", line)})


def _with_fresh_lists(argv: Sequence[str], folder: Path | None = None) -> str:
    """Runs an apt command; once more after an update if the machine's package lists are missing or stale."""
    done = run(argv, cwd=folder, check=False)
    if done.returncode:
        run(["apt-get", "update"])
        done = run(argv, cwd=folder)
    return done.stdout


def go_tool() -> str:
    """The Go toolchain's command."""
    found = shutil.which("go", path=f"{os.environ.get('PATH', '')}:/usr/local/go/bin:/usr/lib/go/bin")
    if found is None:
        raise ClusterUnavailable("the Go toolchain is missing: Kubernetes and the images' programs are compiled with it")
    return found


def go_build(source: Path, packages: Sequence[str], output: Path, linker_flags: str = "") -> None:
    """Compiles static programs into a folder. Politely: tests may be running beside it."""
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false -mod=readonly", "GOWORK": "off"}
    flags = ["-trimpath", f"-ldflags=-s -w {linker_flags}"]
    polite = ["nice", "-n", "5"] if shutil.which("nice") else []
    run([*polite, go_tool(), "build", *flags, "-o", f"{output}/", *packages], cwd=source, environment=environment)


def _kubernetes_tools() -> list[str]:
    text = (KUBERNETES_SOURCE / "go.mod").read_text()
    return re.findall(r"^\s*(?:tool )?(k8s\.io/kubernetes/cmd/\S+)$", text, re.MULTILINE)


def _build_kubernetes(layout: Layout, say: Say) -> None:
    tools = [tool for tool in _kubernetes_tools() if not (layout.kubernetes / tool.rpartition("/")[2]).exists()]
    if not tools:
        return
    version = layout.kubernetes_version
    names = ", ".join(tool.rpartition("/")[2] for tool in tools)
    say(f"compiling {names} {version}: takes minutes, once")
    started = time.monotonic()
    major, minor = version.lstrip("v").split(".")[:2]
    facts = {"gitVersion": version, "gitMajor": major, "gitMinor": minor}
    flags = " ".join(f"-X k8s.io/component-base/version.{name}={value}" for name, value in facts.items())
    unfinished = layout.kubernetes.with_name(f"{layout.kubernetes.name}.unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    layout.kubernetes.mkdir(exist_ok=True)
    go_build(KUBERNETES_SOURCE, tools, unfinished, flags)
    for built in unfinished.iterdir():
        built.rename(layout.kubernetes / built.name)
    unfinished.rmdir()
    say(f"compiled in {time.monotonic() - started:.0f} s")


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    environment: dict[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Runs a program to its end; its output is part of the error when it fails."""
    done = subprocess.run(argv, cwd=cwd, env=environment, text=True, capture_output=True, check=False)
    if check and done.returncode:
        detail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-15:])
        raise ClusterUnavailable(f"`{' '.join(argv[:6])}` failed with {done.returncode}:\n{detail}")
    return done
