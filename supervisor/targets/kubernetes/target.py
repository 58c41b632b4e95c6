"""`pod/NAME[/container/C]`: an agent next to a container of a pod, and the way to it.

Two ways to run the agent. A privileged pod on the target's node comes first: it leaves nothing behind in the target
pod, while an ephemeral container stays in its status for ever. But many users may not create privileged pods: by RBAC
(known beforehand: SelfSubjectAccessReview) or by Pod Security admission (known when it is tried). Then the ephemeral
container is tried, and the user is told.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import urllib3

from ....agent.bootstrap import payload
from ...channel.portforward import AgentPort, PortForwardChannel
from ...errors import UsageError
from ..base import Progress
from . import containers, manifest, rights, status
from .access import ClusterAccess
from .agentstart import AgentWait
from .api import Api, ApiError
from .failures import admission_reason, explain, is_admission
from .name import PodName
from .settings import AgentSettings, KubeSettings

_GRACE_S = 1
_LAST_WORDS_TIMEOUT_S = 5.0
_HELLO = bytes(32)  # As long as a client's nonce: the loader answers, finds no proof behind it, and drops the client.
_OTHER_WAY = "; set agent.namespace to a namespace that allows privileged pods, or leave agent.ephemeral unset"
_FAILED_REQUEST = (ApiError, urllib3.exceptions.HTTPError, OSError)


class KubernetesTarget:
    """A target in a cluster. `start` once, `stop` always. `command` is the agent's, the bootstrap loader by default."""

    def __init__(
        self,
        name: PodName,
        kube: KubeSettings,
        agent: AgentSettings,
        command: Sequence[str] | None = None,
    ) -> None:
        self._name = name
        self._kube = kube
        self._agent = agent
        self._command = tuple(command or payload.command())
        self._api: Api | None = None
        self._agent_pod: str | None = None
        self._container: containers.Container | None = None
        self._boot_secret = b""
        self._target_is_init = False
        self._nodes: tuple[str, ...] = ()

    def describe(self) -> str:
        """The target as the user wrote it, with what was chosen for them."""
        container = self._container
        if container is None or self._name.container is not None:
            return str(self._name)
        return f"{self._name}/container/{container.name}"

    @property
    def boot_secret(self) -> bytes:
        """What the agent's loader proves its client by. Known after `start`."""
        return self._boot_secret

    def agent_target(self) -> dict[str, Any]:
        """What the agent finds the target by: the container's id, as in /proc/PID/cgroup. Known after `start`."""
        identifier = self._container.identifier if self._container else ""
        return {"container_id": identifier, "target_is_init": self._target_is_init, "nodes": self._nodes}

    @property
    def namespace(self) -> str:
        """The target's namespace."""
        return self._connected().access.namespace

    def start(self, progress: Progress) -> PortForwardChannel:
        """Run the agent and wait until it listens. UsageError with the remedy; then `stop` cleans up."""
        api = self._connected()
        pod = self._find_pod(api)
        self._container = containers.choose(pod, self._name.container)
        # Where the kubelet's probes come from.
        status = pod.get("status") or {}
        addresses = (status.get("hostIP"), *(each.get("ip") for each in status.get("hostIPs") or ()))
        self._nodes = tuple(dict.fromkeys(str(address) for address in addresses if address))
        if not self._container.explicit and self._container.others:
            others = ", ".join(self._container.others)
            progress(f"container {self._container.name} of {self._name} (others: {others}; choose with /container/NAME)")
        channel = self._run_agent(api, pod, progress)
        progress("agent: ready")
        return channel

    def stop(self) -> None:
        """Delete the agent's pod. An ephemeral container ends by itself when its session does."""
        name, self._agent_pod = self._agent_pod, None
        if name is None:
            return
        # A new connection: the old ones may have been idle for hours, or belong to a process we were forked from.
        access = self._connected().access
        api = Api(access)
        try:
            api.delete(f"{self._pods(self._agent_namespace(access))}/{name}", _GRACE_S)
        except ApiError as error:
            if error.status != 404:
                raise self._not_deleted(name, error) from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise self._not_deleted(name, error) from error
        finally:
            api.close()

    def _not_deleted(self, name: str, error: BaseException) -> UsageError:
        access = self._connected().access
        why = explain(error, access, f"delete the agent's pod {name}").text
        return UsageError(f"{why}; delete it: kubectl -n {self._agent_namespace(access)} delete pod {name}")

    def _connected(self) -> Api:
        if self._api is None:
            self._api = Api(ClusterAccess(self._kube))
        return self._api

    @staticmethod
    def _pods(namespace: str) -> str:
        return f"/api/v1/namespaces/{namespace}/pods"

    def _agent_namespace(self, access: ClusterAccess) -> str:
        return self._agent.namespace or access.namespace

    # -- the target ---------------------------------------------------------------------------------------------

    def _find_pod(self, api: Api) -> dict[str, Any]:
        path = self._pods(api.access.namespace)
        try:
            return api.get(f"{path}/{self._name.pod}")
        except _FAILED_REQUEST as error:
            if isinstance(error, ApiError) and error.status == 404 and error.status_object:
                raise UsageError(self._no_such_pod(api)) from error
            raise explain(error, api.access, f"read pod {self._name.pod}") from error

    def _no_such_pod(self, api: Api) -> str:
        namespace = api.access.namespace
        line = f"there is no pod {self._name.pod!r} in namespace {namespace} (context {api.access.context_name!r})"
        try:
            names = [str(item["metadata"]["name"]) for item in api.get(self._pods(namespace)).get("items") or []]
        except _FAILED_REQUEST:
            return f"{line}; `mirrord-trace ls -n {namespace}` lists the targets"
        near = near_names(self._name.pod, names)
        if near:
            return f"{line}; did you mean {' or '.join(near)}? `mirrord-trace ls -n {namespace}` lists all"
        if not names:
            return f"{line}, which has no pods at all; choose the namespace with -n"
        return f"{line}; `mirrord-trace ls -n {namespace}` lists its {len(names)} pods"

    # -- the agent ----------------------------------------------------------------------------------------------

    def _run_agent(self, api: Api, pod: dict[str, Any], progress: Progress) -> PortForwardChannel:
        if self._agent.ephemeral is not None:
            run = self._run_ephemeral if self._agent.ephemeral else self._run_pod
            return run(api, pod, progress)
        reason = self._why_no_pod(api)
        if reason:
            progress(f"{reason}; using an ephemeral container in the target's pod")
            return self._run_ephemeral(api, pod, progress)
        try:
            return self._run_pod(api, pod, progress)
        except _Rejected as rejected:
            progress(f"a privileged pod was refused ({rejected.reason}); using an ephemeral container instead")
            return self._run_second(api, pod, progress, rejected)

    def _run_second(self, api: Api, pod: dict[str, Any], progress: Progress, first: _Rejected) -> PortForwardChannel:
        try:
            return self._run_ephemeral(api, pod, progress)
        except _Rejected as second:
            raise UsageError(
                f"the cluster refuses both ways to run the agent: a privileged pod ({first.reason}) and an ephemeral "
                f"container ({second.reason}); set agent.namespace to a namespace that allows privileged pods"
            ) from second

    def _why_no_pod(self, api: Api) -> str:
        namespace = self._agent_namespace(api.access)
        needed = (rights.Right("create", "pods"), rights.Right("delete", "pods"))
        try:
            missing = rights.missing(api, needed, namespace)
        except _FAILED_REQUEST:
            return ""  # Then trying will tell.
        return f"no right to {' and '.join(map(str, missing))} in namespace {namespace}" if missing else ""

    def _run_pod(self, api: Api, pod: dict[str, Any], progress: Progress) -> PortForwardChannel:
        launch = manifest.Launch.new(self._command)
        namespace = self._agent_namespace(api.access)
        target = f"{api.access.namespace}/{self._name.pod}"
        body = manifest.agent_pod(launch, self._agent, pod["spec"]["nodeName"], target)
        progress(f"agent: pod {launch.name} on node {pod['spec']['nodeName']}")
        self._agent_pod = launch.name  # First: if we are interrupted in between, `stop` deletes in vain at worst.
        try:
            created = api.create(self._pods(namespace), body)
        except _FAILED_REQUEST as error:
            self._agent_pod = None if isinstance(error, ApiError) else self._agent_pod
            raise self._refusal(api, error, "run the agent in a privileged pod") from error
        delete_leftovers(api, self._pods(namespace))
        return self._await_agent(api, created, None, launch, progress)

    def _run_ephemeral(self, api: Api, pod: dict[str, Any], progress: Progress) -> PortForwardChannel:
        assert self._container is not None
        launch = manifest.Launch.new(self._command)
        body = manifest.ephemeral_container(launch, self._agent, self._container.name)
        progress(f"agent: ephemeral container {launch.name} in pod {self._name.pod}")
        path = f"{self._pods(api.access.namespace)}/{self._name.pod}/ephemeralcontainers"
        try:
            patched = api.patch(path, body)
        except _FAILED_REQUEST as error:
            raise self._refusal(api, error, "run the agent in an ephemeral container") from error
        self._target_is_init = not pod["spec"].get("shareProcessNamespace")
        return self._await_agent(api, patched, launch.name, launch, progress)

    def _refusal(self, api: Api, error: BaseException, doing: str) -> UsageError:
        line = explain(error, api.access, doing)
        if isinstance(error, ApiError) and error.status in (403, 422):
            if not is_admission(error):
                return _Rejected(line.text, line.text)
            remedy = "" if self._agent.ephemeral is None else _OTHER_WAY
            return _Rejected(line.text + remedy, admission_reason(error))
        return line

    def _await_agent(
        self, api: Api, pod: dict[str, Any], ephemeral: str | None, launch: manifest.Launch, progress: Progress
    ) -> PortForwardChannel:
        self._boot_secret = launch.secret
        agent = AgentPort(pod["metadata"]["namespace"], pod["metadata"]["name"], launch.port)
        last_words = _LastWords(api.access, agent, ephemeral)
        channel = PortForwardChannel(api.access, agent, _HELLO, last_words.refusal, last_words)
        AgentWait(api, pod, ephemeral, progress).until_ready(channel, self._agent.startup_timeout_s)
        return channel


class _Rejected(UsageError):
    # The cluster's rules forbid this way to run the agent; the other way may be allowed. `reason` is without remedy.

    def __init__(self, line: str, reason: str) -> None:
        super().__init__(line)
        self.reason = reason


class _LastWords:
    # What became of the agent, as far as the cluster knows.

    def __init__(self, access: ClusterAccess, agent: AgentPort, ephemeral: str | None) -> None:
        self._access = access
        self._agent = agent
        self._ephemeral = ephemeral

    def refusal(self, error: OSError) -> Exception:
        if getattr(error, "status", 0) == 404:
            return UsageError(f"the agent's pod {self._agent.pod} is gone from the cluster; start again")
        return explain(error, self._access, "reach the agent through the API server")

    def __call__(self) -> str:
        api = Api(self._access, request_timeout_s=_LAST_WORDS_TIMEOUT_S)
        try:
            pod = api.get(f"/api/v1/namespaces/{self._agent.namespace}/pods/{self._agent.pod}")
        except ApiError as error:
            return f"pod {self._agent.pod} is gone" if error.status == 404 else ""
        except (urllib3.exceptions.HTTPError, OSError, UsageError):
            return ""
        finally:
            api.close()
        state = status.of_ephemeral(pod, self._ephemeral) if self._ephemeral else status.of_pod(pod)
        return state.failure or ""


def near_names(wanted: str, names: list[str], limit: int = 3) -> list[str]:
    """The pods that `wanted` may have meant: those of a workload of that name, else the most similar."""
    of_workload = [name for name in names if name.startswith(wanted + "-") or wanted.startswith(name)]
    return sorted(of_workload)[:limit] or difflib.get_close_matches(wanted, names, limit, 0.6)


def delete_leftovers(api: Api, pods_path: str) -> None:
    """Delete ended agent pods of earlier sessions, whose client was killed. What fails here does not matter."""
    try:
        leftovers = api.get(
            pods_path,
            labelSelector=manifest.SELECTOR,
            fieldSelector="status.phase!=Running,status.phase!=Pending,status.phase!=Unknown",
        )
        for item in leftovers.get("items") or []:
            if (item.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                api.delete(f"{pods_path}/{item['metadata']['name']}", 0)
    except _FAILED_REQUEST:
        pass
