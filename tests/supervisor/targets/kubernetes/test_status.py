from __future__ import annotations

from typing import Any

import pytest
from mirrord_trace.supervisor.targets.kubernetes.status import of_ephemeral, of_pod


def agent_pod(state: dict[str, Any] | None, **status: object) -> dict[str, Any]:
    entries = [] if state is None else [{"name": "agent", "state": state}]
    return {
        "metadata": {"name": "mirrord-trace-agent-1"},
        "spec": {"nodeName": "node-1", "containers": [{"name": "agent", "image": "python:x"}]},
        "status": {"containerStatuses": entries, **status},
    }


def test_on_its_way() -> None:
    assert of_pod(agent_pod(None)).text == "waiting for the node"
    creating = of_pod(agent_pod({"waiting": {"reason": "ContainerCreating"}}))
    assert "python:x" in creating.text
    assert of_pod(agent_pod({"waiting": {"reason": "PodInitializing"}})).text == "PodInitializing"
    assert creating.failure is None
    assert of_pod(agent_pod({"running": {}})).running


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"])
def test_an_image_that_is_not_to_be_had(reason: str) -> None:
    failure = of_pod(agent_pod({"waiting": {"reason": reason, "message": "no such\nhost"}})).failure
    assert failure is not None
    assert f"python:x ({reason}: no such host)" in failure
    assert "set agent.image" in failure
    assert "\n" not in failure


def test_an_image_without_python() -> None:
    message = 'exec: "python3": executable file not found in $PATH: unknown'
    for state in (
        {"terminated": {"reason": "StartError", "exitCode": 128, "message": message}},
        {"waiting": {"reason": "RunContainerError", "message": message}},
    ):
        failure = of_pod(agent_pod(state)).failure
        assert failure is not None
        assert "the image python:x has no python3" in failure


def test_a_container_that_cannot_be_created() -> None:
    message = "container has runAsNonRoot and image will run as root"
    failure = of_pod(agent_pod({"waiting": {"reason": "CreateContainerConfigError", "message": message}})).failure
    assert failure == f"the agent's container does not start (CreateContainerConfigError): {message}"


def test_a_crash_shows_its_last_words() -> None:
    state = {"terminated": {"reason": "Error", "exitCode": 1, "message": "Traceback…\n" + "x" * 1000 + "\nOSError: no"}}
    failure = of_pod(agent_pod(state)).failure
    assert failure is not None
    assert "exit status 1, Error" in failure
    assert failure.endswith("OSError: no")
    assert len(failure) < 500


def test_a_node_that_refuses_the_pod() -> None:
    pod = agent_pod(None, phase="Failed", reason="OutOfpods", message="Node didn't have enough resource: pods")
    failure = of_pod(pod).failure
    assert failure == "node node-1 refused the agent's pod: OutOfpods: Node didn't have enough resource: pods"


def ephemeral(state: dict[str, Any] | None, **metadata: object) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", **metadata},
        "spec": {"ephemeralContainers": [{"name": "other", "image": "x"}, {"name": "mine", "image": "python:x"}]},
        "status": {
            "ephemeralContainerStatuses": [{"name": "other", "state": {"terminated": {"exitCode": 0}}}]
            + ([{"name": "mine", "state": state}] if state else [])
        },
    }


def test_the_ephemeral_container_among_others() -> None:
    assert of_ephemeral(ephemeral(None), "mine").text == "waiting for the node"
    assert of_ephemeral(ephemeral({"running": {}}), "mine").running
    failure = of_ephemeral(ephemeral({"waiting": {"reason": "ErrImagePull"}}), "mine").failure
    assert failure is not None
    assert "python:x (ErrImagePull: no reason given)" in failure


def test_the_target_may_vanish_meanwhile() -> None:
    failure = of_ephemeral(ephemeral(None, deletionTimestamp="now"), "mine").failure
    assert failure is not None
    assert "pod web is being deleted" in failure
