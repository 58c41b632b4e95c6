"""What the cluster must allow: each feature's rights, by asking the API server, and Pod Security admission."""

from __future__ import annotations

from typing import Any

import urllib3

from ..errors import UsageError
from ..targets.kubernetes import rights
from ..targets.kubernetes.access import ClusterAccess
from ..targets.kubernetes.api import Api, ApiError
from ..targets.kubernetes.failures import explain
from ..targets.kubernetes.settings import AgentSettings, KubeSettings
from .finding import Finding

_FAILED_REQUEST = (ApiError, urllib3.exceptions.HTTPError, OSError)
_ENFORCE = "pod-security.kubernetes.io/enforce"
_ACCESS_WHY = "targets like pod/NAME are reached through the API server"


def findings(kube: KubeSettings, agent: AgentSettings) -> list[Finding]:
    """Everything about the cluster of the current (or given) context. Stops where nothing further can be known."""
    try:
        access = ClusterAccess(kube)
    except UsageError as error:
        return [Finding("cluster", "warn", error.text, _ACCESS_WHY, "only needed for targets in a cluster")]
    api = Api(access)
    try:
        return _ask(api, agent)
    except UsageError as error:
        return [Finding("cluster", "missing", error.text, _ACCESS_WHY, "see the text; -t demo works without a cluster")]
    except _FAILED_REQUEST as error:
        text = explain(error, access, "ask the API server for the rights").text
        return [Finding("cluster", "missing", text, _ACCESS_WHY, "see the text; -t demo works without a cluster")]
    finally:
        api.close()


def _ask(api: Api, agent: AgentSettings) -> list[Finding]:
    namespace = api.access.namespace
    agent_namespace = agent.namespace or namespace
    version = api.get("/version").get("gitVersion", "unknown")
    what = f"Kubernetes {version}, context {api.access.context_name}, namespace {namespace}"
    found = [Finding("cluster", "ok", what, _ACCESS_WHY)]
    found.append(_feature(api, "find targets", rights.FIND_TARGET, namespace, "TARGET is read, `ls` lists them"))
    found.append(_feature(api, "channel", rights.CHANNEL, agent_namespace, "the agent is reached by port-forward"))
    found += _agents(api, agent, namespace, agent_namespace)
    why = "the reason of an agent that does not start is looked up"
    found.append(_feature(api, "diagnostics", rights.DIAGNOSTICS, agent_namespace, why, optional=True))
    return found


def _feature(
    api: Api, name: str, needed: tuple[rights.Right, ...], namespace: str, why: str, *, optional: bool = False
) -> Finding:
    missing = rights.missing(api, needed, namespace)
    if not missing:
        return Finding(name, "ok", f"allowed: {_list(needed)}", why)
    what = f"not allowed in namespace {namespace}: {_list(missing)}"
    remedy = f"ask for a Role in namespace {namespace} that allows {_list(needed)}"
    return Finding(name, "warn" if optional else "missing", what, why, remedy)


def _agents(api: Api, agent: AgentSettings, namespace: str, agent_namespace: str) -> list[Finding]:
    # One of the two ways is enough, unless the user insists on one.
    why_pod = "the agent runs in a privileged pod on the target's node (agent.ephemeral=false)"
    why_ephemeral = "the agent runs in an ephemeral container of the target (agent.ephemeral=true)"
    pod = _feature(api, "agent as a pod", rights.POD_AGENT, agent_namespace, why_pod, optional=True)
    ephemeral = _feature(api, "agent in the pod", rights.EPHEMERAL_AGENT, namespace, why_ephemeral, optional=True)
    if pod.level == "ok":
        pod = _admission(api, pod, agent_namespace)
    if ephemeral.level == "ok":
        ephemeral = _admission(api, ephemeral, namespace)
    if agent.ephemeral is False:
        return [_required(pod)]
    if agent.ephemeral is True:
        return [_required(ephemeral)]
    if pod.level != "ok" and ephemeral.level != "ok":
        return [_required(pod), _required(ephemeral)]
    return [pod, ephemeral]


def _required(finding: Finding) -> Finding:
    if finding.level == "ok":
        return finding
    return Finding(finding.name, "missing", finding.what, finding.why, finding.remedy)


def _admission(api: Api, finding: Finding, namespace: str) -> Finding:
    # Pod Security refuses added capabilities, hostPID and privileged containers below the level `privileged`.
    try:
        body: dict[str, Any] = api.get(f"/api/v1/namespaces/{namespace}")
    except ApiError:
        return finding  # Namespaces may be read by few; trying will tell.
    level = (body["metadata"].get("labels") or {}).get(_ENFORCE, "privileged")
    if level == "privileged":
        return finding
    what = f"Pod Security of namespace {namespace} is {level!r}: it refuses the agent's privileges"
    remedy = f"set agent.namespace to a namespace without {_ENFORCE}, or with the level privileged"
    return Finding(finding.name, "warn", what, finding.why, remedy)


def _list(needed: tuple[rights.Right, ...]) -> str:
    return ", ".join(map(str, needed))
