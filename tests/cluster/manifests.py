"""What runs in the cluster before any test: the pods that tests attach to or call, their configuration, the users.

Tests may not change these pods; one that needs to takes a pod of its own from the fixture `target_pod`.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any

from .components import USERS
from .images import BUSYBOX, DNS, PYTHON, TARGET
from .kubectl import Kubectl, poll
from .layout import CLUSTER_DOMAIN, NODE_ADDRESS, Layout

Object = dict[str, Any]

STRICT_NAMESPACE = "strict"
HTTP_PORT = 80
ECHO_PORT = 7
SIDE_PORT = 8080
DATA_PARTS = 4
DATA_PART_SIZE_BYTES = 768 << 10

_BASE_LABEL = "mirrord-trace-test/base"
# Names for tests of resolution itself; none of them exists on the developer's machine.
_STATIC_RECORDS = f"""\
203.0.113.7 only-in-cluster.test v4only.test multi.test
203.0.113.8 multi.test
203.0.113.9 dual.test
2001:db8::7 v6only.test
2001:db8::9 dual.test
{NODE_ADDRESS} node.test
"""


def create_all(kubectl: Kubectl, layout: Layout) -> None:
    """Creates everything and returns when it is ready and resolvable."""
    layout.dns_records.parent.mkdir(exist_ok=True)
    layout.dns_records.write_text(_STATIC_RECORDS)
    _await_service_account(kubectl, "kube-system")
    kubectl.apply([*rights(), _base(_dns_server(layout))])
    create_for_user(kubectl)
    publish_services(kubectl, layout)


def create_for_user(kubectl: Kubectl) -> None:
    """The same in a cluster that has its own DNS and is none of ours: everything but the DNS server and the users."""
    kubectl.apply([_namespace()])
    for namespace in ("default", STRICT_NAMESPACE):
        _await_service_account(kubectl, namespace)
    kubectl.apply([*configuration(), *services(), *pods()])
    poll("the deployment's pod", lambda: bool(kubectl.get("pods", "-l", "app=web")["items"]))
    wait_all_ready(kubectl, timeout_s=90)


def delete_for_user(kubectl: Kubectl) -> None:
    """Removes what create_for_user made."""
    items = {"apiVersion": "v1", "kind": "List", "items": [*pods(), *services(), *configuration(), _namespace()]}
    kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", stdin=json.dumps(items))


def wait_all_ready(kubectl: Kubectl, timeout_s: float) -> None:
    """Raises KubectlError unless all of these pods are, or become, ready."""
    selected = ("pod", "-A", "-l", f"{_BASE_LABEL}=true")
    kubectl("wait", *selected, "--for=condition=Ready", f"--timeout={timeout_s:.0f}s", timeout_s=timeout_s + 10)


def _await_service_account(kubectl: Kubectl, namespace: str) -> None:
    """The controllers make it a moment after the namespace; the API server takes no pod before."""
    account = ("get", "serviceaccount", "default", "-n", namespace)
    poll(f"the service account of {namespace}", lambda: kubectl.run(*account, check=False).returncode == 0)


def publish_services(kubectl: Kubectl, layout: Layout) -> None:
    """Writes the names of headless services, and of pods, into the cluster's DNS."""
    lines = []
    for pod in kubectl.get("pods", "-A")["items"]:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        names = [f"{name}.{namespace}.svc.{CLUSTER_DOMAIN}"]
        # A service carries the name that its pods have as their label "app".
        if (label := pod["metadata"].get("labels", {}).get("app", name)) != name:
            names.append(f"{label}.{namespace}.svc.{CLUSTER_DOMAIN}")
        lines += [f"{address['ip']} {' '.join(names)}\n" for address in pod["status"].get("podIPs", [])]
    # Never half a file: the server reads it for each question.
    unfinished = layout.dns_records.with_name("hosts.unfinished")
    unfinished.write_text(_STATIC_RECORDS + "".join(lines))
    os.replace(unfinished, layout.dns_records)


def pods() -> list[Object]:
    """The base pods: target, other, visitor, a Deployment `web`, and `strict/target`."""
    other = pod("other", [server_container("app")], labels={"app": "other"})
    visitor = pod("visitor", [_container("shell", BUSYBOX, command=["sleep", "2147483647"])])
    return [
        _base(target("target")),
        _base(other),
        _base(visitor),
        _base(_strict_target()),
        _deployment("web"),
    ]


def target(name: str) -> Object:
    """The pod that tests attach to: a static Go server in an image FROM scratch, and busybox beside it."""
    app = server_container("app")
    app["env"] = [
        {"name": "APP_GREETING", "value": "hello from the pod"},
        {"name": "APP_MODE", "valueFrom": {"configMapKeyRef": {"name": "app-config", "key": "mode"}}},
        {"name": "APP_SECRET", "valueFrom": {"secretKeyRef": {"name": "app-secret", "key": "password"}}},
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
    ]
    app["volumeMounts"] = [
        {"name": "app-config", "mountPath": "/etc/app-config"},
        {"name": "config", "mountPath": "/config"},
        {"name": "scratch", "mountPath": "/scratch"},
    ]
    side_command = ["sh", "-c", f"hostname > /www/index.html && exec httpd -f -p {SIDE_PORT} -h /www"]
    side = _container("side", BUSYBOX, command=side_command)
    side["env"] = [{"name": "APP_GREETING", "value": "hello from the side container"}]
    side["readinessProbe"] = _answers_on(SIDE_PORT)
    result = pod(name, [app, side], labels={"app": name})
    sources = ["app-settings", *(f"app-data-{part}" for part in range(DATA_PARTS))]
    result["spec"]["volumes"] = [
        {"name": "app-config", "configMap": {"name": "app-config"}},
        {"name": "config", "projected": {"sources": [{"configMap": {"name": source}} for source in sources]}},
        {"name": "scratch", "emptyDir": {}},
    ]
    result["spec"]["hostAliases"] = [{"ip": "203.0.113.20", "hostnames": ["alias.test", "alias"]}]
    return result


def pod(name: str, containers: list[Object], labels: dict[str, str] | None = None) -> Object:
    """A pod of these containers that ends quickly when it is deleted."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default", "labels": {**(labels or {})}},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 1},
    }


def server_container(name: str, http_port: int = HTTP_PORT, echo_port: int = ECHO_PORT) -> Object:
    """The Go server of images/target."""
    container = _container(name, TARGET)
    container["args"] = [f"-http=:{http_port}", f"-echo=:{echo_port}"]
    container["ports"] = [{"name": "http", "containerPort": http_port}, {"name": "echo", "containerPort": echo_port}]
    container["readinessProbe"] = _answers_on(http_port)
    return container


def python_container(name: str, command: list[str]) -> Object:
    """Debian's Python and nothing else, as the agent gets it."""
    return _container(name, PYTHON, command=command)


def _container(name: str, image: str, command: list[str] | None = None) -> Object:
    container: Object = {"name": name, "image": image, "imagePullPolicy": "Never"}
    return {**container, "command": command} if command else container


def _answers_on(port: int) -> Object:
    return {"tcpSocket": {"port": port}, "periodSeconds": 1}


def _base(made: Object) -> Object:
    made["metadata"].setdefault("labels", {})[_BASE_LABEL] = "true"
    return made


def _dns_server(layout: Layout) -> Object:
    container = _container("dns", DNS)
    container["args"] = [f"-listen={NODE_ADDRESS}:53", "-hosts=/records/hosts"]
    container["volumeMounts"] = [{"name": "records", "mountPath": "/records", "readOnly": True}]
    result = pod("dns", [container])
    result["metadata"]["namespace"] = "kube-system"
    # On the node's own address, so that the kubelet can be told it before there is any pod.
    result["spec"]["hostNetwork"] = True
    result["spec"]["dnsPolicy"] = "Default"
    result["spec"]["volumes"] = [{"name": "records", "hostPath": {"path": str(layout.dns_records.parent)}}]
    return result


def _strict_target() -> Object:
    container = server_container("app", http_port=8000, echo_port=8007)
    container["securityContext"] = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    container["env"] = [{"name": "APP_GREETING", "value": "hello from the strict pod"}]
    result = pod("target", [container], labels={"app": "target"})
    result["metadata"]["namespace"] = STRICT_NAMESPACE
    result["spec"]["securityContext"] = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "runAsGroup": 1000,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    return result


def _deployment(name: str) -> Object:
    template = pod(name, [server_container("app")], labels={"app": name, _BASE_LABEL: "true"})
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": template["metadata"]["labels"]}, "spec": template["spec"]},
        },
    }


def services() -> list[Object]:
    """Headless, because no proxy serves cluster addresses here: their names resolve to the pods."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": "None", "selector": {"app": name}, "ports": [{"name": "http", "port": HTTP_PORT}]},
        }
        for name in ("target", "other", "web")
    ]


def configuration() -> list[Object]:
    """The ConfigMaps and the Secret that the target's files and variables come from."""
    properties = "".join(f"key.{number}=value-{number}\n" for number in range(50))
    texts = {
        "app-config": {"mode": "in-cluster", "application.properties": properties},
        "app-settings": {"settings.json": '{"origin": "cluster"}\n'},
    }
    maps: list[Object] = [_config_map(name, {"data": contents}) for name, contents in texts.items()]
    for part in range(DATA_PARTS):
        content = base64.b64encode(data_part(part)).decode()
        maps.append(_config_map(f"app-data-{part}", {"binaryData": {f"data-{part}.bin": content}}))
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "app-secret", "namespace": "default"},
        "stringData": {"password": "known-to-the-cluster-only"},
    }
    return [*maps, secret]


def data_part(part: int) -> bytes:
    """The contents of ``/config/data-PART.bin``: 3 MiB over all parts, no block like another."""
    blocks = DATA_PART_SIZE_BYTES // 16
    return b"".join(f"{part:03d}:{block:011d}\n".encode() for block in range(blocks))


def _config_map(name: str, contents: Object) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}, **contents}


def _namespace() -> Object:
    enforce = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": STRICT_NAMESPACE, "labels": enforce}}


def rights() -> list[Object]:
    """Roles of the limited users, in all namespaces; `full` is an administrator by its group, `none` has none."""
    channel = {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": ["get", "create"]}
    rules = {
        "ephemeral-only": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["pods/ephemeralcontainers"], "verbs": ["get", "patch"]},
            channel,
        ],
        "pods-only": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "create", "delete"]},
            channel,
        ],
    }
    objects: list[Object] = []
    for user in USERS:
        if user not in rules:
            continue
        version, name = "rbac.authorization.k8s.io/v1", f"mirrord-trace-test-{user}"
        subject = {"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        objects.append({"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules[user]})
        objects.append(
            {
                "apiVersion": version,
                "kind": "ClusterRoleBinding",
                "metadata": {"name": name},
                "subjects": [subject],
                "roleRef": role,
            }
        )
    return objects
