"""How far the agent's container has come, read from a pod object. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_IMAGE = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "ImageInspectError",
        "RegistryUnavailable",
        "SignatureValidationFailed",
    }
)
_CREATION = frozenset(
    {
        "CreateContainerConfigError",
        "CreateContainerError",
        "RunContainerError",
        "CrashLoopBackOff",
        "PreCreateHookError",
        "PostStartHookError",
    }
)
_MESSAGE_LIMIT = 400


@dataclass(frozen=True)
class AgentState:
    """`text` is for the progress display; `failure` is a line for the user if the agent will never run."""

    text: str
    running: bool = False
    failure: str | None = None


def of_pod(pod: dict[str, Any]) -> AgentState:
    """The state of an agent pod of ours."""
    status = pod.get("status") or {}
    entries = status.get("containerStatuses") or []
    if entries:
        return _of_container(entries[0], pod["spec"]["containers"][0])
    if status.get("phase") == "Failed":
        why = ": ".join(part for part in (status.get("reason"), status.get("message")) if part)
        node = pod["spec"].get("nodeName")
        return AgentState("failed", failure=f"node {node} refused the agent's pod: {_one_line(why) or 'no reason'}")
    return AgentState("waiting for the node")


def of_ephemeral(pod: dict[str, Any], name: str) -> AgentState:
    """The state of the ephemeral container `name` of the target pod."""
    if pod["metadata"].get("deletionTimestamp"):
        text = f"pod {pod['metadata']['name']} is being deleted; choose another (`mirrord-trace ls`)"
        return AgentState("deleted", failure=text)
    for entry in (pod.get("status") or {}).get("ephemeralContainerStatuses") or []:
        if entry.get("name") == name:
            mine = next(spec for spec in pod["spec"]["ephemeralContainers"] if spec["name"] == name)
            return _of_container(entry, mine)
    return AgentState("waiting for the node")


def _of_container(entry: dict[str, Any], spec: dict[str, Any]) -> AgentState:
    state = entry.get("state") or {}
    image = spec.get("image")
    if "running" in state:
        return AgentState("running", running=True)
    if "terminated" in state:
        return AgentState("ended", failure=_ended(state["terminated"], str(image)))
    waiting = state.get("waiting") or {}
    reason, message = str(waiting.get("reason") or ""), _one_line(str(waiting.get("message") or ""))
    if reason in _IMAGE:
        failure = f"the node cannot get the agent's image {image} ({reason}: {message or 'no reason given'}); "
        return AgentState(reason, failure=failure + "set agent.image to one it can get: any with python3 3.9+ will do")
    if reason in _CREATION:
        return AgentState(reason, failure=f"the agent's container does not start ({reason}): {_explained(message, image)}")
    if reason == "ContainerCreating":
        return AgentState(f"the node gets {image} and creates the container")
    return AgentState(reason or "waiting for the node")


def _ended(terminated: dict[str, Any], image: str) -> str:
    message = _one_line(str(terminated.get("message") or ""))
    reason = str(terminated.get("reason") or "")
    if reason in ("StartError", "ContainerCannotRun"):
        return f"the agent's container does not start ({reason}): {_explained(message, image)}"
    status = terminated.get("exitCode")
    said = f": {message}" if message else ""
    return f"the agent ended (exit status {status}, {reason or 'no reason'}){said}"


def _explained(message: str, image: object) -> str:
    if "python3" in message and ("not found" in message or "no such file" in message.lower()):
        return f"the image {image} has no python3; set agent.image to one that has"
    return message or "no reason given"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    # The end says what happened; a Python traceback starts far from it.
    return line if len(line) <= _MESSAGE_LIMIT else "…" + line[-_MESSAGE_LIMIT:]
