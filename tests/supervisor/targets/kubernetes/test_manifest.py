from __future__ import annotations

import json

from mirrord_trace.agent.bootstrap import payload
from mirrord_trace.supervisor.targets.kubernetes import manifest
from mirrord_trace.supervisor.targets.kubernetes.settings import AgentSettings

COMMAND = ("python3", "-c", "print()")


def test_every_launch_is_another_one() -> None:
    one, two = manifest.Launch.new(COMMAND), manifest.Launch.new(COMMAND)
    assert one.name != two.name
    assert one.secret != two.secret
    assert len(one.secret) == payload.BOOT_SECRET_BYTES
    assert 61000 <= one.port < 65536


def test_the_pod_is_pinned_to_the_node_and_sees_its_processes() -> None:
    launch = manifest.Launch.new(COMMAND)
    settings = AgentSettings(image="python:x", image_pull_policy="Never", image_pull_secrets=("mine",))
    pod = manifest.agent_pod(launch, settings, "node-1", "default/web")
    spec = pod["spec"]
    assert (spec["nodeName"], spec["hostPID"], spec["restartPolicy"]) == ("node-1", True, "Never")
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["imagePullSecrets"] == [{"name": "mine"}]
    assert pod["metadata"]["labels"][manifest.MANAGED_BY] == manifest.MANAGER
    assert pod["metadata"]["annotations"]["linkerd.io/inject"] == "disabled"
    (container,) = spec["containers"]
    assert container["securityContext"]["privileged"] is True
    assert (container["image"], container["imagePullPolicy"]) == ("python:x", "Never")
    assert container["command"] == list(COMMAND)
    assert container["env"] == [{"name": "MIRRORD_TRACE_BOOT", "value": f"{launch.port}:{launch.secret.hex()}"}]


def test_the_ephemeral_container_joins_the_target_with_few_capabilities() -> None:
    launch = manifest.Launch.new(COMMAND)
    (container,) = manifest.ephemeral_container(launch, AgentSettings(), "app")["spec"]["ephemeralContainers"]
    assert container["targetContainerName"] == "app"
    assert container["name"] == launch.name
    context = container["securityContext"]
    assert context["capabilities"] == {"add": ["NET_ADMIN", "NET_RAW", "SYS_PTRACE"]}
    assert (context["runAsUser"], context["runAsNonRoot"]) == (0, False)
    assert "privileged" not in context
    assert "resources" not in container


def test_the_objects_fit_into_a_request() -> None:
    launch = manifest.Launch.new(tuple(payload.command()))
    assert len(json.dumps(manifest.agent_pod(launch, AgentSettings(), "node-1", "default/web"))) < 8192
