"""Where the test cluster keeps its things, and the names and addresses it uses.

Three places, and nothing outside of them but one bridge and one cgroup:

- the state folder: everything of one running cluster. ``down`` removes it. Its path must be short, because unix sockets
  live in it (sun_path holds 108 bytes).
- the cache folder: what takes long to make and does not depend on a run (programs, images), keyed by version.
- this folder: sources.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
IMAGES_SOURCE = HERE / "images"
KUBERNETES_SOURCE = HERE / "kubernetes"

NODE = "mirrord-trace-node"
# Each name below appears in one place only, so that `down` can find what a killed run left.
BRIDGE = "mtrace0"
CGROUP = "mirrord-trace-cluster"
CNI_NETWORK = "mirrord-trace-pods"

NODE_ADDRESS = "10.99.0.1"
POD_RANGE = "10.99.0.0/24"
NODE_ADDRESS_6 = "fd00:6d74:99::1"
POD_RANGE_6 = "fd00:6d74:99::/64"
CLUSTER_DOMAIN = "cluster.local"

API_PORT = 16443
ETCD_PORT = 12379
ETCD_PEER_PORT = 12380
KUBELET_PORT = 10250

GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())


class ClusterUnavailable(Exception):
    """This machine cannot run the cluster; the text says what is missing."""


@dataclass(frozen=True)
class Layout:
    """The folders of one cluster and the paths inside them."""

    state: Path
    cache: Path

    @property
    def socket(self) -> Path:
        """containerd's socket."""
        return self.state / "containerd.sock"

    @property
    def init_pid(self) -> Path:
        """Holds pid and start time of the process that owns the node's namespaces."""
        return self.state / "node.pid"

    @property
    def saved_sysctls(self) -> Path:
        """Kernel settings as they were before the kubelet changed them."""
        return self.state / "sysctl.json"

    @property
    def logs(self) -> Path:
        """One log file for each program."""
        return self.state / "logs"

    @property
    def certificates(self) -> Path:
        """The cluster's own authority and what it signed."""
        return self.state / "pki"

    @property
    def config(self) -> Path:
        """Configuration files of the programs."""
        return self.state / "config"

    @property
    def dns_records(self) -> Path:
        """A hosts file; the cluster's DNS server answers from it and sees changes at once."""
        return self.state / "dns" / "hosts"

    @property
    def ends_with_tests(self) -> Path:
        """Exists when a test session brought the cluster up, so that one may take it down."""
        return self.state / "ends-with-tests"

    @property
    def api_url(self) -> str:
        """The API server, on loopback."""
        return f"https://127.0.0.1:{API_PORT}"

    def kubeconfig(self, user: str = "full") -> Path:
        """The kubeconfig file of one of the cluster's users."""
        return self.state / f"kubeconfig-{user}"

    @property
    def kubernetes_version(self) -> str:
        """The version pinned in kubernetes/go.mod, such as ``v1.36.3``."""
        text = (KUBERNETES_SOURCE / "go.mod").read_text()
        found = re.search(r"k8s\.io/kubernetes (v\S+)", text)
        if found is None:
            raise ClusterUnavailable("tests/cluster/kubernetes/go.mod names no k8s.io/kubernetes version")
        return found.group(1)

    @property
    def kubernetes(self) -> Path:
        """The compiled Kubernetes programs."""
        return self.cache / f"kubernetes-{self.kubernetes_version}-{GO_ARCH}"

    @property
    def debian(self) -> Path:
        """containerd, runc, etcd and the network plugins, unpacked from Debian's packages."""
        return self.cache / f"debian-{GO_ARCH}"

    @property
    def images(self) -> Path:
        """The image archives, keyed by everything they are made from."""
        return self.cache / f"images-{fingerprint(image_sources())}-{GO_ARCH}"


def image_sources() -> list[Path]:
    """The files whose change makes the cached images stale."""
    return [HERE / "images.py", HERE / "oci.py", *sorted(path for path in IMAGES_SOURCE.rglob("*") if path.is_file())]


def fingerprint(files: Iterable[Path]) -> str:
    """A short name for the contents of these files."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def current_layout() -> Layout:
    """The folders that the environment asks for."""
    xdg_cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = os.environ.get("MIRRORD_TRACE_CACHE") or f"{xdg_cache}/mirrord-trace"
    state = os.environ.get("MIRRORD_TRACE_CLUSTER_DIR") or "/var/tmp/mirrord-trace-cluster"
    return Layout(state=Path(state).absolute(), cache=Path(cache).absolute())
