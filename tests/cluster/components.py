"""Configuration and command lines of the node's programs.

Only what differs from a default is set, and each line that is there because of a poor machine says so: these clusters
come up inside of virtual machines and containers without CAP_SYS_RESOURCE, with hybrid cgroups, with swap.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .certificates import Authority, KeyPair, service_account_key, write_kubeconfig
from .images import PAUSE
from .layout import (
    API_PORT,
    BRIDGE,
    CGROUP,
    CLUSTER_DOMAIN,
    CNI_NETWORK,
    ETCD_PEER_PORT,
    ETCD_PORT,
    KUBELET_PORT,
    NODE,
    NODE_ADDRESS,
    NODE_ADDRESS_6,
    POD_RANGE,
    POD_RANGE_6,
    Layout,
)
from .programs import network_plugins, program

USERS = ("full", "ephemeral-only", "pods-only", "none")
_ADMINISTRATORS = "system:masters"


@dataclass(frozen=True)
class Component:
    """One program of the node: what it is called, how it starts, and which port or socket must answer before."""

    name: str
    argv: list[str]
    after: tuple[int | str, ...] = ()


def write_configuration(layout: Layout, *, ipv6: bool) -> list[Component]:
    """Writes all certificates and configuration files; returns the programs in the order of their start."""
    layout.config.mkdir(parents=True, exist_ok=True)
    authority = Authority(layout.certificates)
    _write_kubeconfigs(layout, authority)
    _write_network(layout, ipv6=ipv6)
    return [
        _etcd(layout),
        _containerd(layout),
        _api_server(layout, authority),
        _controllers(layout, authority),
        _scheduler(layout),
        _kubelet(layout, authority, ipv6=ipv6),
    ]


def _write_kubeconfigs(layout: Layout, authority: Authority) -> None:
    subjects: dict[str, tuple[str, tuple[str, ...]]] = {user: (user, ("mirrord-trace-tests",)) for user in USERS}
    subjects["full"] = ("full", (_ADMINISTRATORS,))
    subjects["kubelet"] = (f"system:node:{NODE}", ("system:nodes",))
    subjects["controllers"] = ("system:kube-controller-manager", ())
    subjects["scheduler"] = ("system:kube-scheduler", ())
    for name, (user, groups) in subjects.items():
        pair = authority.issue(f"user-{name}", user, groups)
        write_kubeconfig(layout.kubeconfig(name), layout.api_url, authority.certificate, user, pair)


def _etcd(layout: Layout) -> Component:
    client, peer = f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PEER_PORT}"
    return Component(
        "etcd",
        [
            str(program(layout, "etcd")),
            f"--data-dir={layout.state}/etcd",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            # Nobody needs a test cluster's state after a crash, and fsync is what makes it slow.
            "--unsafe-no-fsync",
            "--logger=zap",
        ],
    )


def _containerd(layout: Layout) -> Component:
    config = f"""
version = 2
root = "{layout.state}/containerd"
state = "{layout.state}/containerd-state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart"]
[grpc]
address = "{layout.socket}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
# runc cannot lower oom_score_adj without CAP_SYS_RESOURCE and dies of it.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{network_plugins(layout)}"
conf_dir = "{layout.config}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = "{program(layout, "runc")}"
SystemdCgroup = false
"""
    path = layout.config / "containerd.toml"
    path.write_text(config)
    return Component("containerd", [str(program(layout, "containerd")), "--config", str(path)])


def _write_network(layout: Layout, *, ipv6: bool) -> None:
    """Pods hang on one bridge, which is made by us: the plugin would turn on forwarding on the whole machine."""
    ranges = [[{"subnet": POD_RANGE, "gateway": NODE_ADDRESS}]]
    routes = [{"dst": "0.0.0.0/0", "gw": NODE_ADDRESS}]
    if ipv6:
        ranges.append([{"subnet": POD_RANGE_6, "gateway": NODE_ADDRESS_6}])
        routes.append({"dst": "::/0", "gw": NODE_ADDRESS_6})
    addresses = {"type": "host-local", "dataDir": f"{layout.state}/cni", "ranges": ranges, "routes": routes}
    plugin = {"type": "bridge", "bridge": BRIDGE, "isGateway": False, "ipam": addresses}
    network = {"cniVersion": "1.0.0", "name": CNI_NETWORK, "plugins": [plugin]}
    folder = layout.config / "cni"
    folder.mkdir(exist_ok=True)
    (folder / "10-pods.conflist").write_text(json.dumps(network, indent=2))


def _api_server(layout: Layout, authority: Authority) -> Component:
    names = ["127.0.0.1", "::1", "localhost", "kubernetes.default.svc", "10.96.0.1"]
    serving = authority.issue("api-server", "kube-apiserver", (), names)
    to_kubelet = authority.issue("api-server-client", "kube-apiserver-kubelet-client", (_ADMINISTRATORS,))
    service_account = service_account_key(layout.certificates)
    return Component(
        "kube-apiserver",
        [
            str(layout.kubernetes / "kube-apiserver"),
            f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            # A Service must not point to loopback; without endpoints the API server accepts such an address.
            "--endpoint-reconciler-type=none",
            f"--secure-port={API_PORT}",
            *_pair("--tls-cert-file", "--tls-private-key-file", serving),
            f"--client-ca-file={authority.certificate}",
            *_pair("--kubelet-client-certificate", "--kubelet-client-key", to_kubelet),
            f"--kubelet-certificate-authority={authority.certificate}",
            "--kubelet-preferred-address-types=InternalIP",
            "--authorization-mode=Node,RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={service_account.certificate}",
            f"--service-account-signing-key-file={service_account.key}",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            # Debian's etcd cannot answer what this asks once a second.
            "--feature-gates=SizeBasedListCostEstimate=false",
            "--profiling=false",
        ],
        after=(ETCD_PORT,),
    )


def _pair(certificate_flag: str, key_flag: str, pair: KeyPair) -> list[str]:
    return [f"{certificate_flag}={pair.certificate}", f"{key_flag}={pair.key}"]


def _controllers(layout: Layout, authority: Authority) -> Component:
    return Component(
        "kube-controller-manager",
        [
            str(layout.kubernetes / "kube-controller-manager"),
            f"--kubeconfig={layout.kubeconfig('controllers')}",
            f"--root-ca-file={authority.certificate}",
            f"--service-account-private-key-file={layout.certificates}/service-account.key",
            "--use-service-account-credentials=true",
            # How soon a node that became ready loses its taint.
            "--node-monitor-period=1s",
            "--leader-elect=false",
            "--secure-port=0",
            "--profiling=false",
        ],
        after=(API_PORT,),
    )


def _scheduler(layout: Layout) -> Component:
    return Component(
        "kube-scheduler",
        [
            str(layout.kubernetes / "kube-scheduler"),
            f"--kubeconfig={layout.kubeconfig('scheduler')}",
            "--leader-elect=false",
            "--secure-port=0",
            "--profiling=false",
        ],
        after=(API_PORT,),
    )


def _kubelet(layout: Layout, authority: Authority, *, ipv6: bool) -> Component:
    path = layout.config / "kubelet.json"
    path.write_text(json.dumps(_kubelet_configuration(layout, authority), indent=2))
    addresses = f"{NODE_ADDRESS},{NODE_ADDRESS_6}" if ipv6 else NODE_ADDRESS
    return Component(
        "kubelet",
        [
            str(layout.kubernetes / "kubelet"),
            f"--config={path}",
            f"--kubeconfig={layout.kubeconfig('kubelet')}",
            f"--root-dir={layout.state}/kubelet",
            f"--cert-dir={layout.certificates}",
            f"--hostname-override={NODE}",
            f"--node-ip={addresses}",
        ],
        after=(str(layout.socket), API_PORT),
    )


def _kubelet_configuration(layout: Layout, authority: Authority) -> dict[str, object]:
    serving = authority.issue("kubelet", f"system:node:{NODE}", ("system:nodes",), [NODE, NODE_ADDRESS])
    resolv_conf = layout.config / "resolv.conf"
    resolv_conf.write_text(f"nameserver {NODE_ADDRESS}\n")
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": NODE_ADDRESS,
        "port": KUBELET_PORT,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "x509": {"clientCAFile": str(authority.certificate)},
            "webhook": {"enabled": True},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(serving.certificate),
        "tlsPrivateKeyFile": str(serving.key),
        "containerRuntimeEndpoint": f"unix://{layout.socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{CGROUP}",
        # Pods only: limits on the machine's other processes are none of our business.
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [NODE_ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(resolv_conf),
        "evictionHard": {"memory.available": "1%", "nodefs.available": "1%", "imagefs.available": "1%"},
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "podLogsDir": f"{layout.state}/pod-logs",
        "volumePluginDir": f"{layout.state}/volume-plugins",
        # The defaults are for nodes with many pods; here a test waits for each change.
        "syncFrequency": "10s",
        "nodeStatusUpdateFrequency": "10s",
        "configMapAndSecretChangeDetectionStrategy": "Watch",
        "serializeImagePulls": False,
    }


def component_path(layout: Layout) -> list[Path]:
    """Folders that the programs look for each other in: containerd for its shim, the shim for runc."""
    return [program(layout, "containerd").parent, program(layout, "runc").parent]
